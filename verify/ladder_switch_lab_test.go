// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

// TestRunSwitch breaks what many guests share. Each fault must be one finding
// that has all of them.
func TestRunSwitch(t *testing.T) {
	lab.Need(t, lab.OVS)
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.network("red", ovs0, 20, "10.0.20.0/24")
	for i, n := range []struct{ name, sw, gateway string }{{"lan", br0, "10.0.40.1"}, {"red", ovs0, "10.0.20.1"}} {
		gateway := netip.MustParseAddr(n.gateway)
		s.net(n.name).Gateway = gateway
		s.must(s.lab.AddStation(t.Context(), &lab.Station{
			Name: "rt-" + n.name, Bridge: n.sw, VLAN: uint16(s.net(n.name).Policy.VLAN.Access),
			Addresses: []netip.Prefix{netip.PrefixFrom(gateway, 24)},
		}))
		s.switches[1-i].Uplink = "to-rt-" + n.name
	}
	s.tapGuest("pc1", "lan", "10.0.40.11/24")
	s.tapGuest("pc2", "lan", "10.0.40.12/24")
	s.tapGuest("web1", "red", "10.0.20.11/24")
	s.tapGuest("web2", "red", "10.0.20.12/24")
	link := func(args ...string) func() {
		return func() { s.run(append([]string{"ip", "link", "set"}, args...)...) }
	}
	both := []string{"pc1", "pc2"}
	for _, test := range []struct {
		name        string
		fault, undo func()
		problem     string
		affects     []string
	}{
		{
			"bridge down", link(br0, "down"), link(br0, "up"),
			"SWITCH_DOWN switch br0", both,
		},
		{
			"port closed", func() { s.run("bridge", "link", "set", "dev", "tap-pc1", "state", "0") },
			func() { link("tap-pc1", "down")(); link("tap-pc1", "up")() }, // as the fix says
			"STP_BLOCKED guest pc1, NIC tap-pc1", both[:1],
		},
		{
			"port with a small MTU", link("tap-pc1", "mtu", "1400"), link("tap-pc1", "mtu", "1500"),
			"MTU_MISMATCH guest pc1, NIC tap-pc1", both[:1],
		},
		{
			"uplink with a small MTU", link("to-rt-lan", "mtu", "1400"), link("to-rt-lan", "mtu", "1500"),
			"MTU_MISMATCH uplink to-rt-lan", both,
		},
		{
			"uplink down", link("to-rt-lan", "down"), link("to-rt-lan", "up"),
			"UPLINK_DOWN uplink to-rt-lan", both,
		},
		{
			"cable of the uplink", s.inGuest("rt-lan", "ip", "link", "set", "eth0", "down"),
			s.inGuest("rt-lan", "ip", "link", "set", "eth0", "up"),
			"UPLINK_DOWN uplink to-rt-lan", both,
		},
		{
			"uplink taken off", link("to-rt-lan", "nomaster"), link("to-rt-lan", "master", br0),
			"UPLINK_DOWN uplink to-rt-lan", both,
		},
		{
			"uplink closed", func() { s.run("bridge", "link", "set", "dev", "to-rt-lan", "state", "0") },
			func() { link("to-rt-lan", "down")(); link("to-rt-lan", "up")() },
			"STP_BLOCKED uplink to-rt-lan", both,
		},
		{
			"VLAN taken off the uplink", func() { s.vsctl("set", "port", "to-rt-red", "tag=99") },
			func() { s.vsctl("set", "port", "to-rt-red", "tag=20") },
			"UPLINK_VLAN uplink to-rt-red",
			[]string{"web1", "web2"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.fault()
			report := s.verify()
			test.undo()
			var got, affects []string
			for _, p := range report.Problems {
				got = append(got, p.Code+" "+p.Subject)
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
			if t.Failed() {
				t.Log(brief(report))
			}
		})
	}
	if report := s.verify(); report.Verdict() != VerdictPass || len(report.Switches) != 2 || !report.Switches[0].UplinkUp {
		t.Errorf("want a pass, and two switches that are up: %+v\n%s", report.Switches, brief(report))
	}
}

// inGuest is a command in the namespace of a station.
func (s *site) inGuest(name string, argv ...string) func() {
	return func() {
		s.t.Helper()
		s.run(append([]string{"ip", "netns", "exec", name}, argv...)...)
	}
}
