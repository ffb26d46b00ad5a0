// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"strings"
	"testing"
)

// members are guests of one segment, each of them healthy but for spoil.
func members(number int, spoil func(i int, n *nic)) []*nic {
	s := &segment{
		segmentKey: segmentKey{sw: "ovs0", vlan: 20}, prober: healthy().segment.prober, gateway: &target{arp: true},
	}
	for i := range number {
		n := healthy()
		n.guest.Name, n.Want.Device, n.selected, n.segment = fmt.Sprintf("web%d", i), fmt.Sprintf("vnet%d", i), true, s
		n.fdb.before[0].Device = n.Want.Device
		spoil(i, n)
		n.climbAll()
		s.nics = append(s.nics, n)
	}
	return s.nics
}

// joined is the report about guests of one segment.
func joined(nics []*nic) Report {
	r := &run{nics: nics, segments: []*segment{nics[0].segment}}
	r.joinProblems()
	return r.report()
}

// TestUnite checks when guests that fail alike are one finding.
func TestUnite(t *testing.T) {
	silence := func(_ int, n *nic) { n.probe.target.arp = false }
	for _, test := range []struct {
		name     string
		nics     []*nic
		problems int
		affects  int
		subject  string
	}{
		{"all of many", members(manyAlike, silence), 1, manyAlike, "network red"},
		{"all of few", members(manyAlike-1, silence), manyAlike - 1, 1, "guest web0, NIC vnet0"},
		{"all but one", members(manyAlike+1, func(i int, n *nic) {
			if i > 0 {
				silence(i, n)
			}
		}), manyAlike, 1, "guest web1, NIC vnet1"},
		{"not alike", members(manyAlike, func(i int, n *nic) {
			if silence(i, n); i == 0 {
				silent(n)
			}
		}), manyAlike, 1, "guest web0, NIC vnet0"},
		{"a fault of each", members(manyAlike, func(_ int, n *nic) { n.link.up = false }), manyAlike, 1, "guest web0, NIC vnet0"},
		{"ports of a bridge made anew", members(2, func(_ int, n *nic) { n.Port.Switch = "" }), 1, 2, "switch ovs0"},
		{"a port on no switch", members(2, func(i int, n *nic) {
			if i > 0 {
				n.Port.Switch = ""
			}
		}), 1, 1, "guest web1, NIC vnet1"},
		{"macvtaps on one device", members(2, func(_ int, n *nic) {
			guest, device := n.guest, n.Want.Device
			*n = *macvtapNIC()
			n.guest, n.Want.Device, n.selected, n.link.carrier, n.host = guest, device, true, false, links{"eth1": {up: true}}
		}), 1, 2, "uplink eth1"},
		{"an uplink of all", members(manyAlike, func(_ int, n *nic) { n.sw.UplinkPort = &UplinkPort{} }), 1, manyAlike, "uplink eth0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			report := joined(test.nics)
			if len(report.Problems) != test.problems {
				t.Fatalf("%d problems, want %d:\n%s", len(report.Problems), test.problems, brief(report))
			}
			first := report.Problems[0]
			if len(first.Affects) != test.affects || first.Subject != test.subject {
				t.Errorf("%s affects %d, want %s and %d", first.Subject, len(first.Affects), test.subject, test.affects)
			}
			if test.subject == "network red" && (!strings.Contains(first.Got, "all 5 guests in VLAN 20 of ovs0") || len(first.Evidence) > shownAlike) {
				t.Errorf("got %q, evidence %q", first.Got, first.Evidence)
			}
		})
	}
}

// TestBlameGateway checks when guests whose gateway does not answer them are
// one finding, about the gateway.
func TestBlameGateway(t *testing.T) {
	for _, test := range []struct {
		name     string
		spoil    func(i int, n *nic)
		problems int
		subject  string
	}{
		{"all that asked", func(i int, n *nic) { n.gateway.heard, n.gateway.asGuest = false, i < 2 }, 1, "network red"},
		{"one of them", func(i int, n *nic) { n.gateway.heard = i > 0 }, 1, "guest web0, NIC vnet0"},
		{"all but one", func(i int, n *nic) { n.gateway.heard = i == 0 }, 2, "guest web1, NIC vnet1"},
		{"one has another fault", func(i int, n *nic) {
			n.gateway.heard, n.probe.target.icmp = false, i > 0
		}, 3, "guest web0, NIC vnet0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			report := joined(members(3, test.spoil))
			if len(report.Problems) != test.problems || report.Problems[0].Subject != test.subject {
				t.Errorf("want %d problems, the first of %s:\n%s", test.problems, test.subject, brief(report))
			}
		})
	}
}
