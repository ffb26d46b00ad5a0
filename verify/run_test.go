// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// newDemoSite has two guests in each of four networks: real IP stacks and taps
// mixed.
func newDemoSite(t *testing.T) *site {
	t.Helper()
	s := newThreeNetworks(t)
	s.tapGuest("web2", "red", "10.0.20.12/24")
	s.tapGuest("db2", "blue", "10.0.30.12/24")
	s.tapGuest("pc2", "lan", "10.0.40.12/24")
	s.must(s.lab.AddStation(t.Context(), &lab.Station{
		Name: "rt-red", Bridge: ovs0, VLAN: 20, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.20.1/24")},
	}))
	s.net("red").Gateway = netip.MustParseAddr("10.0.20.1")
	s.must(s.lab.AddStation(t.Context(), &lab.Station{
		Name: "fabric", Device: up0, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.50.1/24")},
	}))
	s.networks = append(s.networks, vnet.Network{
		Name: "edge", Mode: vnet.ModeMacvtap, Device: up0,
		Subnet: netip.MustParsePrefix("10.0.50.0/24"), Gateway: netip.MustParseAddr("10.0.50.1"),
	})
	s.macvtapGuest("kiosk1", "10.0.50.11/24")
	s.macvtapGuest("kiosk2", "10.0.50.12/24")
	return s
}

// TestRun breaks one thing after the other on real switches. Each fault must be
// named once, at the guest that has it, and nobody else may be blamed.
func TestRun(t *testing.T) {
	s := newDemoSite(t)
	for _, test := range []struct {
		name     string
		fault    func()
		undo     func()
		verdict  Verdict
		problems []string
		leaks    int
	}{
		{
			name:    "VLAN that nobody uses",
			fault:   func() { s.vsctl("set", "port", "to-web1", "tag=99") },
			undo:    func() { s.vsctl("set", "port", "to-web1", "tag=20") },
			verdict: VerdictFail, problems: []string{"WRONG_VLAN guest web1, NIC to-web1"},
		},
		{
			name:    "VLAN of the other network",
			fault:   func() { s.vsctl("set", "port", "tap-web2", "tag=30") },
			undo:    func() { s.vsctl("set", "port", "tap-web2", "tag=20") },
			verdict: VerdictLeak, problems: []string{"WRONG_VLAN guest web2, NIC tap-web2"}, leaks: 4,
		},
		{
			name:    "trunk by mistake", // it hears blue's frames with a tag; its own stay alone
			fault:   func() { s.vsctl("remove", "port", "tap-web2", "tag", "20") },
			undo:    func() { s.vsctl("set", "port", "tap-web2", "tag=20") },
			verdict: VerdictLeak, problems: []string{"WRONG_VLAN guest web2, NIC tap-web2"}, leaks: 2,
		},
		{
			name: "flow past the VLANs",
			fault: func() {
				s.run("ovs-ofctl", "add-flow", ovs0, "priority=9,in_port=to-web1,actions=normal,output:tap-db2")
			},
			undo:    func() { s.run("ovs-ofctl", "--strict", "del-flows", ovs0, "priority=9,in_port=to-web1") },
			verdict: VerdictLeak, problems: []string{"LEAK network red to network blue"}, leaks: 1,
		},
		{
			name:     "wire between two switches",
			fault:    func() { s.wire() },
			undo:     func() { s.vsctl("del-port", ovs0, "wire0"); s.run("ip", "link", "del", "wire0") },
			verdict:  VerdictLeak,
			problems: []string{"LEAK network blue to network lan", "LEAK network lan to network blue"}, leaks: 8,
		},
		{
			name:    "link set down in libvirt",
			fault:   func() { s.guest("db1").NICs[0].LinkDown = true },
			undo:    func() { s.guest("db1").NICs[0].LinkDown = false },
			verdict: VerdictFail, problems: []string{"LINK_DOWN guest db1, NIC to-db1"},
		},
		{
			name:    "device down",
			fault:   func() { s.run("ip", "link", "set", "tap-pc2", "down") },
			undo:    func() { s.run("ip", "link", "set", "tap-pc2", "up") },
			verdict: VerdictFail, problems: []string{"LINK_DOWN guest pc2, NIC tap-pc2"},
		},
		{
			name:    "device below macvtaps down",
			fault:   func() { s.run("ip", "link", "set", up0, "down") },
			undo:    func() { s.run("ip", "link", "set", up0, "up") },
			verdict: VerdictFail, problems: []string{"LINK_DOWN uplink " + up0},
		},
		{
			name:    "guest not running",
			fault:   func() { s.guest("pc1").Running, s.guest("pc1").State = false, "shut off" },
			undo:    func() { s.guest("pc1").Running, s.guest("pc1").State = true, "running" },
			verdict: VerdictFail, problems: []string{"DOMAIN_DOWN guest pc1"},
		},
		{
			name:    "no such device",
			fault:   func() { s.guest("pc1").NICs[0].Want.Device = "vnet77" },
			undo:    func() { s.guest("pc1").NICs[0].Want.Device = "to-pc1" },
			verdict: VerdictFail, problems: []string{"NIC_MISSING guest pc1, NIC vnet77"},
		},
		{
			name:    "on no bridge",
			fault:   func() { s.run("ip", "link", "set", "tap-pc2", "nomaster") },
			undo:    func() { s.run("ip", "link", "set", "tap-pc2", "master", br0) },
			verdict: VerdictFail, problems: []string{"WRONG_BRIDGE guest pc2, NIC tap-pc2"},
		},
		{
			name: "all on no bridge",
			fault: func() {
				s.run("ip", "link", "set", "tap-pc2", "nomaster")
				s.run("ip", "link", "set", "to-pc1", "nomaster")
			},
			undo: func() {
				s.run("ip", "link", "set", "tap-pc2", "master", br0)
				s.run("ip", "link", "set", "to-pc1", "master", br0)
			},
			verdict: VerdictFail, problems: []string{"WRONG_BRIDGE switch " + br0},
		},
		{
			name:    "silent guest",
			fault:   func() { s.fakes["db2"].deaf.Store(true); s.forget() },
			undo:    func() { s.fakes["db2"].deaf.Store(false) },
			verdict: VerdictFail, problems: []string{"MAC_NOT_LEARNED guest db2, NIC tap-db2"},
		},
		{
			name:    "another address",
			fault:   func() { s.move("web1", "10.0.20.11/24", "10.0.20.77/24") },
			undo:    func() { s.move("web1", "10.0.20.77/24", "10.0.20.11/24") },
			verdict: VerdictFail, problems: []string{"NO_ARP guest web1, NIC to-web1"},
		},
		{
			name:    "no ping",
			fault:   func() { s.fakes["kiosk2"].noICMP.Store(true) },
			undo:    func() { s.fakes["kiosk2"].noICMP.Store(false) },
			verdict: VerdictFail, problems: []string{"ICMP_FILTERED guest kiosk2, NIC mv-kiosk2"},
		},
		{
			name:    "gateway away",
			fault:   func() { s.vsctl("set", "port", "to-rt-red", "tag=99") },
			undo:    func() { s.vsctl("set", "port", "to-rt-red", "tag=20") },
			verdict: VerdictFail, problems: []string{"GATEWAY_UNREACHABLE network red"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.fault()
			report := s.verify()
			test.undo()
			if got := report.Verdict(); got != test.verdict {
				t.Errorf("verdict = %s, want %s", got, test.verdict)
			}
			var got []string
			affected := map[Endpoint]bool{}
			leaks := 0
			for _, p := range report.Problems {
				got = append(got, p.Code+" "+p.Subject)
				leaks += len(p.Leaks)
				for _, e := range p.Affects {
					affected[e] = true
				}
			}
			if diff := cmp.Diff(test.problems, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if leaks != test.leaks {
				t.Errorf("%d leaks, want %d", leaks, test.leaks)
			}
			for _, n := range report.NICs {
				if n.Status == StatusFail && !affected[n.Endpoint] {
					t.Errorf("%s fails, and no problem says why", n.Endpoint)
				}
			}
			if t.Failed() {
				t.Log(brief(report))
			}
		})
	}
	t.Run("healthy again", func(t *testing.T) {
		if report := s.verify(); report.Verdict() != VerdictPass {
			t.Errorf("want a pass:\n%s", brief(report))
		}
	})
}

// A segment without a vantage limits the report that is to have its guests, and
// no other.
func TestOpenSegmentsLimits(t *testing.T) {
	web1, db1 := healthy(), healthy()
	web1.selected = true
	r := &run{segments: []*segment{
		{segmentKey: segmentKey{sw: "ovs0", vlan: 20}, nics: []*nic{web1}},
		{segmentKey: segmentKey{sw: "ovs0", vlan: 30}, nics: []*nic{db1}},
	}}
	r.opts.defaults()
	r.openSegments(t.Context())
	if want := []string{"guests are not probed: no vantage in VLAN 20 of ovs0: no access to the switch"}; !slices.Equal(r.limits, want) {
		t.Errorf("limits %q, want %q", r.limits, want)
	}
	if db1.probe.reason == "" {
		t.Error("nothing says why db1 is not probed")
	}
}

func (s *site) vsctl(args ...string) {
	s.t.Helper()
	_, err := s.lab.Vsctl(s.t.Context(), args...)
	s.must(err)
}

// wire joins VLAN 30 of ovs0 and br0 with a cable.
func (s *site) wire() {
	s.run("ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire1")
	s.run("ip", "link", "set", "wire0", "up")
	s.run("ip", "link", "set", "wire1", "up", "master", br0)
	s.vsctl("add-port", ovs0, "wire0", "tag=30")
}

// forget empties the forwarding database. The cached flows go first: for those
// that had packets a moment ago, ovs-vswitchd would learn the MACs again.
func (s *site) forget() {
	s.run("ovs-appctl", "revalidator/purge")
	s.run("ovs-appctl", "fdb/flush", ovs0)
}

func (s *site) move(guest, from, to string) {
	s.t.Helper()
	for _, args := range [][]string{{"del", from}, {"add", to}} {
		_, err := s.nsGuests[guest].Run(s.t.Context(), "ip", "address", args[0], args[1], "dev", "eth0")
		s.must(err)
	}
}

// brief is what matters of a report, a line each: everything that is no plain
// pass.
func brief(r Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "verdict %s\n", r.Verdict())
	for _, l := range r.Limits {
		fmt.Fprintf(&b, "limit: %s\n", l)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "problem: %s: %s\n", p.Code, p.Problem)
		for _, a := range p.Affects {
			fmt.Fprintf(&b, "  affects %s\n", a)
		}
		for _, e := range p.Evidence {
			fmt.Fprintf(&b, "  evidence %s\n", e)
		}
		for _, l := range p.Leaks {
			fmt.Fprintf(&b, "  leak %s\n", l)
		}
		fmt.Fprintf(&b, "  fix %s\n", p.Fix)
	}
	for _, n := range r.NICs {
		for _, rung := range n.Rungs {
			if rung.Status != StatusPass && rung.Status != StatusNotReached {
				fmt.Fprintf(&b, "%s %s: %s %s\n", n.Endpoint, rung.Name, rung.Status, rung.Reason)
			}
		}
	}
	for _, p := range r.Pairs {
		if p.Status != StatusPass {
			fmt.Fprintf(&b, "%s -> %s: %s: %s %s %s\n", p.From, p.To, p.Expect, p.Status, p.Reason, p.Cause)
		}
	}
	return b.String()
}
