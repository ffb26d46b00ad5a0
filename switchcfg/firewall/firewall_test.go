// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package firewall_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/switchcfg/firewall"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestMain(m *testing.M) { lab.Main(m) }

// TestTrace lets rules of all kinds drop what goes from one station to another,
// and checks that each is named, and none that is not met.
func TestTrace(t *testing.T) {
	lab.Need(t)
	l := labtest.Start(t, lab.Options{})
	if err := l.AddLinuxBridge(t.Context(), "br0"); err != nil {
		t.Fatal(err)
	}
	var stations []*lab.Station
	for i, name := range []string{"a", "b"} {
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		s := &lab.Station{Name: name, Bridge: "br0", MAC: lab.MACFor(name, 0), Addresses: []netip.Prefix{netip.PrefixFrom(addr, 24)}}
		if err := l.AddStation(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		stations = append(stations, s)
	}
	a, b := stations[0], stations[1]
	toA, err := net.InterfaceByName(a.Device)
	if err != nil {
		t.Fatal(err)
	}
	const arp, ip = 0x0806, 0x0800
	for _, test := range []struct {
		name, rules string
		netfilter   bool // br_netfilter is on
		want        []firewall.Drop
		rule        string
	}{
		{"nothing", "", false, nil, ""},
		{
			"rule without a counter", "table bridge f { chain filter { type filter hook forward priority 0; ether type ip6 drop\n ether type arp drop\n}\n}",
			false,
			[]firewall.Drop{{EtherType: arp, Family: "bridge", Table: "f", Chain: "filter", Handle: 3}},
			"ether type arp drop",
		},
		{
			"rule in a chain that another leads to",
			"table bridge f { chain own { ip protocol icmp counter drop\n}\n chain filter { type filter hook forward priority 0; jump own\n}\n}",
			false,
			[]firewall.Drop{{EtherType: ip, Family: "bridge", Table: "f", Chain: "own", Handle: 3}},
			"icmp counter packets",
		},
		{
			"policy", "table bridge f { chain filter { type filter hook forward priority 0; policy drop; ether type arp accept\n}\n}",
			false,
			[]firewall.Drop{{EtherType: ip, Family: "bridge", Table: "f", Chain: "filter"}},
			"policy drop",
		},
		{
			"host's firewall", "table ip filter { chain FORWARD { type filter hook forward priority 0; ip protocol icmp counter drop\n}\n}",
			true,
			[]firewall.Drop{{EtherType: ip, Family: "ip", Table: "filter", Chain: "FORWARD", Handle: 2}},
			"drop",
		},
		{
			"host's firewall, which does not see bridges",
			"table ip filter { chain FORWARD { type filter hook forward priority 0; ip protocol icmp counter drop\n}\n}",
			false, nil, "",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			setNetfilter(t, test.netfilter)
			nft(t, "flush ruleset\n"+test.rules)
			_, _ = a.Run(t.Context(), "ip", "neigh", "flush", "all")
			trace, err := firewall.Start(t.Context(), []int{toA.Index}, []vnet.MAC{vnet.MAC(a.MAC)})
			if err != nil {
				t.Fatal(err)
			}
			_, pingErr := a.Run(t.Context(), "busybox", "ping", "-c", "1", "-W", "1", b.Addresses[0].Addr().String())
			drops, err := trace.Stop(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if (pingErr == nil) != (test.want == nil) {
				t.Fatalf("ping: %v", pingErr)
			}
			for i := range drops {
				if drops[i].Frames == 0 || drops[i].Source != vnet.MAC(a.MAC) || drops[i].In != toA.Index ||
					drops[i].Sender != a.Addresses[0].Addr() {
					t.Errorf("dropped %+v", drops[i])
				}
				if !strings.Contains(drops[i].Rule, test.rule) {
					t.Errorf("rule %q, want %q", drops[i].Rule, test.rule)
				}
				d := drops[i]
				drops[i] = firewall.Drop{EtherType: d.EtherType, Family: d.Family, Table: d.Table, Chain: d.Chain, Handle: d.Handle}
			}
			if diff := cmp.Diff(test.want, drops, cmp.Comparer(func(a, b firewall.Drop) bool { return a == b })); diff != "" {
				t.Errorf("dropped (-want +got):\n%s", diff)
			}
			if out := nft(t, "list tables"); strings.Contains(out, "trace") {
				t.Errorf("left behind: %s", out)
			}
		})
	}
}

func setNetfilter(t *testing.T, on bool) {
	t.Helper()
	value := "0"
	if on {
		value = "1"
	}
	if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
}

func nft(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	return string(out)
}

// Two processes trace at the same time, and one that died leaves nothing.
func TestTables(t *testing.T) {
	lab.Need(t)
	labtest.Start(t, lab.Options{})
	nft := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "nft", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("nft %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	gone := exec.CommandContext(t.Context(), "true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	table := func(pid int) string { return fmt.Sprintf("virt_vnet_trace_%d", pid) }
	dead, other := table(gone.Process.Pid), table(os.Getppid())
	for _, name := range []string{dead, other, "virt_vnet_trace_x"} {
		nft("add", "table", "bridge", name)
	}
	trace, err := firewall.Start(t.Context(), []int{1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	during := nft("list", "tables", "bridge")
	if strings.Contains(during, dead+"\n") || !strings.Contains(during, table(os.Getpid())+"\n") {
		t.Errorf("while tracing there are\n%s", during)
	}
	nft("flush", "ruleset") // as others do
	nft("add", "table", "bridge", other)
	if _, err := trace.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if after := nft("list", "tables", "bridge"); after != "table bridge "+other+"\n" {
		t.Errorf("after it there are\n%s", after)
	}
}
