// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Guests of one network that must not meet, on both kinds of switch. The twin
// of each proof shows that it would have seen a leak.
func TestRunIsolatedPorts(t *testing.T) {
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.network("red", ovs0, 20, "10.0.20.0/24")
	for _, name := range []string{"lan", "red"} {
		s.net(name).Policy.Isolated = true
	}
	s.kernelGuest("pc1", "lan", "10.0.40.11/24")
	s.tapGuest("pc2", "lan", "10.0.40.12/24")
	s.kernelGuest("web1", "red", "10.0.20.11/24")
	s.tapGuest("web2", "red", "10.0.20.12/24")
	isolate := func(on bool) {
		for _, d := range []string{"to-pc1", "tap-pc2"} {
			s.run("bridge", "link", "set", "dev", d, "isolated", onOff(on))
		}
		for _, d := range []string{"to-web1", "tap-web2"} {
			s.vsctl("set", "port", d, fmt.Sprintf("protected=%v", on))
		}
	}

	isolate(true)
	report := s.verify()
	if report.Verdict() != VerdictPass {
		t.Errorf("want a pass:\n%s", brief(report))
	}
	proved := 0
	for _, p := range report.Pairs {
		if p.From.Network == p.To.Network && p.Expect == ExpectIsolation && p.Entered && p.Control != "" {
			proved++
		}
	}
	if proved != 4 {
		t.Errorf("%d pairs within their networks proved apart, want 4", proved)
	}

	isolate(false)
	report = s.verify()
	leaks := 0
	for _, p := range report.Problems {
		if p.Code != CodeWrongIsolation {
			t.Errorf("problem %s, want nothing but %s", p.Code, CodeWrongIsolation)
		}
		leaks += len(p.Leaks)
	}
	if report.Verdict() != VerdictLeak || leaks != 4 {
		t.Errorf("verdict %s with %d leaks, want %s with 4:\n%s", report.Verdict(), leaks, VerdictLeak, brief(report))
	}
}

// Nothing on the host reaches these guests, but they reach their gateway.
func TestRunMacvtapModes(t *testing.T) {
	for _, mode := range []vnet.MacvtapMode{vnet.MacvtapPrivate, vnet.MacvtapVEPA, vnet.MacvtapPassthrough} {
		t.Run(mode.String(), func(t *testing.T) {
			s := newSite(t)
			s.must(s.lab.AddStation(t.Context(), &lab.Station{
				Name: "fabric", Device: up0, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.50.1/24")},
			}))
			s.network("red", ovs0, 20, "10.0.20.0/24")
			s.networks = append(s.networks, vnet.Network{
				Name: "edge", Mode: vnet.ModeMacvtap, Device: up0, Macvtap: mode,
				Subnet: netip.MustParsePrefix("10.0.50.0/24"), Gateway: netip.MustParseAddr("10.0.50.1"),
			})
			s.kernelGuest("web1", "red", "10.0.20.11/24")
			s.macvtapGuest("kiosk1", "10.0.50.11/24")
			if mode != vnet.MacvtapPassthrough {
				s.macvtapGuest("kiosk2", "10.0.50.12/24")
			}
			report := s.verify()
			if report.Verdict() != VerdictPass {
				t.Errorf("want a pass:\n%s", brief(report))
			}
			for _, n := range report.NICs {
				if n.Network == "edge" && (n.Rung(RungARP).Status != StatusSkip || n.Rung(RungGateway).Status != StatusPass) {
					t.Errorf("%s: ARP %+v, gateway %+v", n.Endpoint, n.Rung(RungARP), n.Rung(RungGateway))
				}
			}
			for _, p := range report.Pairs {
				if p.Expect == ExpectReach {
					t.Errorf("%s -> %s is expected to %s", p.From, p.To, p.Expect)
				}
			}
			// Without its gateway there is another control: a frame from the wire.
			s.net("edge").Gateway = netip.Addr{}
			if report := s.verify(); report.Verdict() != VerdictPass {
				t.Errorf("without a gateway, want a pass:\n%s", brief(report))
			}
		})
	}
}

// The address to ask from must be nobody's, also when the inventory does not
// know of its owner.
func TestRunLeavesForeignAddressesAlone(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.kernelGuest("web1", "red", "10.0.20.11/24")
	s.must(s.lab.AddStation(t.Context(), &lab.Station{
		Name: "foreign", Bridge: ovs0, VLAN: 20,
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.20.254/24"), netip.MustParsePrefix("10.0.20.253/24")},
	}))
	report := s.verify()
	if report.Verdict() != VerdictPass {
		t.Errorf("want a pass:\n%s", brief(report))
	}
	out, err := s.nsGuests["web1"].Run(t.Context(), "ip", "neigh")
	s.must(err)
	if strings.Contains(out, "10.0.20.254 ") || strings.Contains(out, "10.0.20.253 ") || !strings.Contains(out, "10.0.20.252 ") {
		t.Errorf("the guest was asked from another address than 10.0.20.252:\n%s", out)
	}
}

// Only the guest that is asked hears the probe, also when the switch has not
// learned a MAC yet.
func TestRunIsQuiet(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	for i := range 6 {
		s.tapGuest(fmt.Sprintf("web%d", i), "red", fmt.Sprintf("10.0.20.%d/24", 11+i))
	}
	before := s.heard()
	if report := s.verify(); report.Verdict() != VerdictPass {
		t.Errorf("want a pass:\n%s", brief(report))
	}
	after := s.heard()
	for name := range after {
		// Three requests to find a free address, to everybody, and one for the
		// address of each; ARP, ICMP and a long ICMP of the vantage, and ARP to
		// introduce the guest to its switch; five siblings: ARP and ICMP of each,
		// and their answers.
		if got := after[name] - before[name]; got > 3+6+4+5*4 {
			t.Errorf("%s heard %d frames", name, got)
		}
	}
}

func (s *site) heard() map[string]int64 {
	heard := map[string]int64{}
	for name, g := range s.fakes {
		heard[name] = g.heard.Load()
	}
	return heard
}

// A MAC that the switch has learned elsewhere, with the guest silent.
func TestRunMACOnWrongPort(t *testing.T) {
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.tapGuest("pc1", "lan", "10.0.40.11/24")
	s.tapGuest("pc2", "lan", "10.0.40.12/24")
	s.must(s.lab.AddStation(t.Context(), &lab.Station{
		Name: "thief", Bridge: br0, MAC: lab.MACFor("pc1", 0),
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.40.99/24")},
	}))
	thief := &lab.Station{Name: "asks", Bridge: br0, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.40.98/24")}}
	s.must(s.lab.AddStation(t.Context(), thief))
	s.must(thief.WaitPing(t.Context(), netip.MustParseAddr("10.0.40.99"), 5*time.Second))
	s.fakes["pc1"].deaf.Store(true)
	report := s.verify()
	if len(report.Problems) != 1 || report.Problems[0].Code != CodeMACOnWrongPort ||
		!strings.Contains(report.Problems[0].Got, "to-thief") {
		t.Errorf("want %s on to-thief alone:\n%s", CodeMACOnWrongPort, brief(report))
	}
}

// Looking at a silent guest must not make it look alive to the next run.
func TestRunSilentGuestTwice(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.network("lan", br0, 0, "10.0.40.0/24")
	for _, name := range []string{"web1", "web2"} {
		s.tapGuest(name, "red", "10.0.20.1"+name[3:]+"/24")
	}
	for _, name := range []string{"pc1", "pc2"} {
		s.tapGuest(name, "lan", "10.0.40.1"+name[2:]+"/24")
	}
	s.fakes["web1"].deaf.Store(true)
	s.fakes["pc1"].deaf.Store(true)
	for range 2 {
		report := s.verify()
		for _, p := range report.Problems {
			if p.Code != CodeMACNotLearned {
				t.Errorf("problem %s, want %s", p.Code, CodeMACNotLearned)
			}
		}
		if len(report.Problems) != 2 {
			t.Errorf("%d problems, want 2:\n%s", len(report.Problems), brief(report))
		}
	}
}

// The host itself is the gateway, as in libvirt's nat networks.
func TestRunHostIsGateway(t *testing.T) {
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.net("lan").Gateway = netip.MustParseAddr("10.0.40.1")
	s.run("ip", "address", "add", "10.0.40.1/24", "dev", br0)
	s.kernelGuest("pc1", "lan", "10.0.40.11/24")
	s.tapGuest("pc2", "lan", "10.0.40.12/24")
	if report := s.verify(); report.Verdict() != VerdictPass {
		t.Errorf("want a pass:\n%s", brief(report))
	}
	s.run("ip", "address", "del", "10.0.40.1/24", "dev", br0)
	if report := s.verify(); report.Verdict() != VerdictFail || len(report.Problems) != 1 || len(report.Problems[0].Affects) != 2 {
		t.Errorf("want one %s for two guests:\n%s", CodeGatewayUnreachable, brief(report))
	}
}

func TestRunNarrowed(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.network("blue", ovs0, 30, "10.0.30.0/24")
	s.tapGuest("web1", "red", "10.0.20.11/24")
	s.tapGuest("web2", "red", "10.0.20.12/24")
	s.tapGuest("db1", "blue", "10.0.30.11/24")
	s.fakes["db1"].noICMP.Store(true)
	report := s.verify(func(o *Options) { o.Guests = []string{"web1"} })
	if report.Verdict() != VerdictPass || len(report.NICs) != 1 || len(report.Problems) != 0 {
		t.Errorf("want web1 alone, and a pass:\n%s", brief(report))
	}
	if len(report.Pairs) != 4 {
		t.Errorf("%d pairs, want 4: web1 with the two others, both ways", len(report.Pairs))
	}
	report = s.verify(func(o *Options) { o.Networks = []string{"nosuch"} })
	if report.Verdict() != VerdictInconclusive {
		t.Errorf("nothing was checked, and the verdict is %s", report.Verdict())
	}
}

func TestRunCancelled(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.tapGuest("web1", "red", "10.0.20.11/24")
	s.tapGuest("pc1", "lan", "10.0.40.11/24")
	s.fakes["web1"].deaf.Store(true)
	before := s.devices()
	ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer cancel()
	started := time.Now()
	_, err := Run(ctx, s.inventory(), Options{Switches: s})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
	}
	if took := time.Since(started); took > 2*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	if after := s.devices(); !slices.Equal(before, after) {
		t.Errorf("devices left behind: had %v, have %v", before, after)
	}
}

// A macvlan goes with the device below it.
func TestCloseSiblingThatIsGone(t *testing.T) {
	if err := closeSibling(siblingPrefix + "0.0"); err != nil {
		t.Error(err)
	}
}

// A process that is killed leaves a macvlan at most, and the next run removes
// it: but never one of a process that lives.
func TestSweepSiblings(t *testing.T) {
	lab.Need(t)
	ours := func(name, text string) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "lower-" + name
		pair := netlink.NewVeth(attrs)
		pair.PeerName = "peer-" + name
		if err := netlink.LinkAdd(pair); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = netlink.LinkDel(pair) })
		lower, err := netlink.LinkByName(attrs.Name)
		if err != nil {
			t.Fatal(err)
		}
		attrs = netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = siblingPrefix+name, lower.Attrs().Index
		device := &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}
		if err := netlink.LinkAdd(device); err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetAlias(device, text); err != nil {
			t.Fatal(err)
		}
	}
	dead := exec.CommandContext(t.Context(), "true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	ns, err := processNamespace()
	if err != nil {
		t.Fatal(err)
	}
	ours("dead", fmt.Sprintf(aliasFormat, "vantage", dead.Process.Pid, ns))
	ours("live", fmt.Sprintf(aliasFormat, "vantage", os.Getpid(), ns))
	ours("far", fmt.Sprintf(aliasFormat, "vantage", dead.Process.Pid, "pid:[1]"))
	ours("none", "a colleague's")
	host, err := dumpLinks()
	if err != nil {
		t.Fatal(err)
	}
	if err := sweepSiblings(host); err != nil {
		t.Error(err)
	}
	if host, err = dumpLinks(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"dead": false, "live": true, "far": true, "none": true} {
		if _, got := host[siblingPrefix+name]; got != want {
			t.Errorf("%s is there: %v, want %v", name, got, want)
		}
	}
}

// The injector is gone with its process, however that ends.
func TestInjectorDiesWithItsFile(t *testing.T) {
	lab.Need(t)
	j, err := openInjector()
	if err != nil {
		t.Fatal(err)
	}
	l, err := netlink.LinkByIndex(j.index)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(l.Attrs().Alias, "virt-vnet injector pid=") {
		t.Errorf("alias %q does not say whose it is", l.Attrs().Alias)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByIndex(j.index); err == nil {
		t.Error("the device is still there")
	}
}

// unprivilegedEnv makes TestRunUnprivileged the process without privileges.
const unprivilegedEnv = "VIRT_VNET_TEST_UNPRIVILEGED"

// Without privileges what can be told is told, the rest is named, and nothing
// passes.
func TestRunUnprivileged(t *testing.T) {
	if os.Getenv(unprivilegedEnv) != "" {
		inv := Inventory{
			Networks: []vnet.Network{{Name: "red", Mode: vnet.ModeBridge, Switch: ovs0}},
			Switches: []Switch{{Switch: vnet.Switch{Name: ovs0}}},
			Guests: []Guest{
				{Ref: vnet.GuestRef{Name: "off"}, State: "shut off", NICs: []NIC{{Want: vnet.Port{Network: "red"}}}},
				{Ref: vnet.GuestRef{Name: "on"}, Running: true, NICs: []NIC{{
					Want: vnet.Port{Network: "red", Switch: ovs0, Device: "lo", MAC: macA},
					Port: &Port{Switch: ovs0}, Addresses: []Address{{ipA, AddressSpec}},
				}}},
			},
		}
		report, err := Run(t.Context(), inv, Options{})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Print(brief(report)) //nolint:forbidigo // the other process reads it
		return
	}
	lab.Need(t)
	const noInjection = "limit: nothing was sent as the guests: pairs, isolation and gateways are not proved: "
	for _, c := range []struct {
		without string
		wants   []string
	}{
		{"all", []string{
			"limit: guests are not probed: no vantage in the untagged VLAN of ovs0", noInjection,
			"on (red) mac: inconclusive", "on (red) arp: inconclusive",
		}},
		{"net_admin", []string{noInjection + "make tap: operation not permitted: needs CAP_NET_ADMIN\n"}},
		{"net_raw", []string{noInjection + "open packet socket: operation not permitted: needs CAP_NET_RAW\n"}},
		{"bpf,-sys_admin", []string{
			noInjection + "load BPF program: operation not permitted: needs CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN)\n",
		}},
	} {
		t.Run("without "+c.without, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "setpriv", "--bounding-set=-"+c.without, "--inh-caps=-"+c.without,
				os.Args[0], "-test.run=^TestRunUnprivileged$")
			cmd.Env = append(os.Environ(), unprivilegedEnv+"=1")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, want := range append(c.wants, "verdict fail", "problem: DOMAIN_DOWN") {
				if !strings.Contains(string(out), want) {
					t.Errorf("nothing says %q:\n%s", want, out)
				}
			}
			if strings.Contains(string(out), "panic") {
				t.Errorf("panic:\n%s", out)
			}
		})
	}
	t.Run("without bpf, as before Linux 5.8", func(t *testing.T) {
		// What CAP_SYS_ADMIN makes up for is not named.
		cmd := exec.CommandContext(t.Context(), "setpriv", "--bounding-set=-bpf", "--inh-caps=-bpf",
			os.Args[0], "-test.run=^TestRunUnprivileged$")
		cmd.Env = append(os.Environ(), unprivilegedEnv+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "CAP_") {
			t.Errorf("%v: want no capability to be missing:\n%s", err, out)
		}
	})
}

// A guest's frames must carry nothing that the host's firewall could take for
// its own: the injector takes its mark off.
func TestInjectedFramesCarryNoMark(t *testing.T) {
	lab.Need(t, lab.Libvirt) // ebtables comes with it
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.tapGuest("pc1", "lan", "10.0.40.11/24")
	s.tapGuest("pc2", "lan", "10.0.40.12/24")
	s.run("ebtables", "-A", "FORWARD", "--mark", "!", "0", "-j", "DROP")
	defer s.run("ebtables", "-F", "FORWARD") // other tests have ports of these names
	if report := s.verify(); report.Verdict() != VerdictPass {
		t.Errorf("want a pass:\n%s", brief(report))
	}
	// The twin: a filter between the guests is seen, at the layer where it is.
	s.run("ebtables", "-A", "FORWARD", "-p", "IPv4", "--ip-proto", "icmp", "-i", "tap-pc1", "-o", "tap-pc2", "-j", "DROP")
	named := func(report Report) bool {
		return report.Verdict() == VerdictFail && slices.ContainsFunc(report.Problems, func(p Problem) bool {
			return p.Code == CodeFiltered && strings.Contains(strings.Join(p.Evidence, "\n"), "tap-pc2")
		})
	}
	if report := s.verify(); !named(report) || len(report.Problems) != 1 {
		t.Errorf("want the rule that drops ICMP:\n%s", brief(report))
	}
	s.run("ebtables", "-A", "FORWARD", "-i", "tap-pc1", "-o", "tap-pc2", "-j", "DROP")
	if report := s.verify(); !named(report) {
		t.Errorf("want the rule that drops all:\n%s", brief(report))
	}
}
