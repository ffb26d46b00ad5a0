// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestRunDrops lets rules of the host drop what guests send and get. Each must
// be named by the rule, once, with those that it hits.
func TestRunDrops(t *testing.T) {
	lab.Need(t, lab.OVS)
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.must(s.lab.AddStation(t.Context(), &lab.Station{
		Name: "rt", Bridge: br0, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.40.1/24")},
	}))
	s.net("lan").Gateway = netip.MustParseAddr("10.0.40.1")
	s.kernelGuest("pc1", "lan", "10.0.40.11/24")
	s.tapGuest("pc2", "lan", "10.0.40.12/24")
	s.tapGuest("pc3", "lan", "10.0.40.13/24")
	all := []string{"pc1", "pc2", "pc3"}
	pc1, pc2 := lab.MACFor("pc1", 0), lab.MACFor("pc2", 0)
	bridgeChain := func(hook, rules string) string {
		return fmt.Sprintf("table bridge f {\n chain c {\n type filter hook %s priority 0\n %s\n }\n}", hook, rules)
	}
	netfilter := func(value string) {
		s.must(os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte(value), 0o600))
	}
	netfilter("0")
	for _, test := range []struct {
		name    string
		rules   string
		before  func()
		after   func()
		problem string
		text    string
		affects []string
	}{
		{
			name: "requests to one", rules: bridgeChain("forward", "ether daddr "+pc2.String()+" ether type arp drop"),
			problem: "FILTERED table bridge f, chain c, rule 2", text: "ether daddr " + pc2.String(), affects: []string{"pc2"},
		},
		{
			name: "answers of one", rules: bridgeChain("prerouting", "iifname tap-pc2 ether type arp counter drop"),
			problem: "FILTERED table bridge f, chain c, rule 2", text: "counter drop", affects: []string{"pc2"},
		},
		{
			name: "ping to all", rules: bridgeChain("forward", "ip protocol icmp drop"),
			problem: "FILTERED table bridge f, chain c, rule 2", text: "icmp drop", affects: all,
		},
		{
			name: "between two", rules: bridgeChain("forward", fmt.Sprintf("ether saddr %s ether daddr %s drop", pc1, pc2)),
			problem: "FILTERED table bridge f, chain c, rule 2", text: "pc1 (lan) -> pc2 (lan)", affects: []string{"pc1", "pc2"},
		},
		{
			name: "gateway to one", rules: bridgeChain("forward", "iifname to-rt oifname tap-pc2 drop"),
			problem: "FILTERED table bridge f, chain c, rule 2", text: "iifname", affects: []string{"pc2"},
		},
		{
			name: "host's firewall", rules: "table ip filter {\n chain FORWARD {\n type filter hook forward priority 0\n policy drop\n }\n}",
			before: func() { netfilter("1") }, after: func() { netfilter("0") },
			problem: "BRIDGE_NETFILTER br_netfilter", text: "table ip filter, chain FORWARD, policy", affects: all,
		},
		{
			name: "host's firewall, in legacy iptables", rules: "",
			before:  func() { netfilter("1"); s.run("iptables-legacy", "-P", "FORWARD", "DROP") },
			after:   func() { netfilter("0"); s.run("iptables-legacy", "-P", "FORWARD", "ACCEPT") },
			problem: "BRIDGE_NETFILTER br_netfilter", text: "iptables-legacy, chain FORWARD: policy DROP", affects: all,
		},
		{
			name: "guard", rules: "",
			before: func() {
				s.guard("to-pc1", vnet.Port{
					MAC: vnet.MAC(pc1), Policy: vnet.Policy{AntiSpoof: true},
					Own: vnet.Allow{Addresses: []netip.Addr{netip.MustParseAddr("10.0.40.11")}},
				})
				s.move("pc1", "10.0.40.11/24", "10.0.40.77/24")
			},
			after:   func() { s.guard("to-pc1", vnet.Port{}); s.move("pc1", "10.0.40.77/24", "10.0.40.11/24") },
			problem: "GUARD_DROPS guest pc1, NIC to-pc1", text: pc1.String() + " 10.0.40.77", affects: []string{"pc1"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, g := range s.fakes {
				s.must(g.hello())
			}
			s.nft(test.rules)
			if test.before != nil {
				test.before()
			}
			report := s.verify()
			s.nft("add table bridge f\ndelete table bridge f\nadd table ip filter\ndelete table ip filter")
			if test.after != nil {
				test.after()
			}
			var got, affects []string
			text := ""
			for _, p := range report.Problems {
				got = append(got, p.Code+" "+p.Subject)
				text += strings.Join(append([]string{p.Got}, p.Evidence...), "\n")
				for _, e := range p.Affects {
					affects = append(affects, e.Guest)
				}
			}
			if diff := cmp.Diff([]string{test.problem}, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.affects, affects); diff != "" {
				t.Errorf("affects (-want +got):\n%s", diff)
			}
			if !strings.Contains(text, test.text) {
				t.Errorf("nothing says %q", test.text)
			}
			if t.Failed() {
				t.Log(brief(report))
			}
		})
	}
	if report := s.verify(); report.Verdict() != VerdictPass {
		t.Errorf("want a pass:\n%s", brief(report))
	}
}

func (s *site) nft(script string) {
	s.t.Helper()
	file := s.t.TempDir() + "/rules"
	s.must(os.WriteFile(file, []byte(script), 0o600))
	s.run("nft", "-f", file)
}

// guard gives a port of br0 the guard that want asks for.
func (s *site) guard(device string, want vnet.Port) {
	s.t.Helper()
	ctx := s.t.Context()
	sw := vnet.Switch{Name: br0, Driver: vnet.DriverLinux}
	d, err := linux.Open(ctx, sw)
	s.must(err)
	defer d.Close() //nolint:errcheck // the lab ends soon
	want.Device, want.Switch = device, br0
	want.Guest = vnet.GuestRef{Name: "pc1", UUID: "uuid-pc1"}
	wanted, err := switchcfg.Desired([]vnet.Port{want}, sw)
	s.must(err)
	have, err := d.Observe(ctx, switchcfg.Scope{Devices: []string{device}})
	s.must(err)
	plan, err := switchcfg.Diff(wanted, have, "")
	s.must(err)
	_, err = d.Apply(ctx, plan)
	s.must(err)
}
