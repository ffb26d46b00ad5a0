// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Three real guests: QEMU's taps and macvtaps, Debian's IP stack.
func TestRunRealGuests(t *testing.T) {
	lab.Need(t, lab.Guests)
	s := newSiteWith(t, lab.Options{OVS: true, Libvirt: true})
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.network("blue", ovs0, 30, "10.0.30.0/24")
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.networks = append(s.networks, vnet.Network{
		Name: "edge", Mode: vnet.ModeMacvtap, Device: up0,
		Subnet: netip.MustParsePrefix("10.0.50.0/24"), Gateway: netip.MustParseAddr("10.0.50.1"),
	})
	s.must(s.lab.AddStation(t.Context(), &lab.Station{
		Name: "fabric", Device: up0, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.50.1/24")},
	}))
	card := func(network string, host int) lab.NIC {
		n := s.net(network)
		octet := map[string]int{"red": 20, "blue": 30, "lan": 40, "edge": 50}[network]
		nic := lab.NIC{
			Bridge: n.Switch, Uplink: n.Device, VLAN: uint16(n.Policy.VLAN.Access),
			Addresses: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.0.%d.%d/24", octet, host))},
		}
		return nic
	}
	guests := []*lab.Guest{
		{Name: "web1", NICs: []lab.NIC{card("red", 11), card("lan", 11)}},
		{Name: "web2", NICs: []lab.NIC{card("red", 12), card("edge", 12)}},
		{Name: "db1", NICs: []lab.NIC{card("blue", 11), card("lan", 21), card("edge", 21)}},
	}
	s.must(s.lab.Boot(t.Context(), guests...))
	for _, g := range guests {
		s.addRealGuest(g)
	}
	device := s.guest("web1").NICs[0].Want.Device

	if report := s.verify(); report.Verdict() != VerdictPass {
		t.Errorf("healthy: want a pass:\n%s", brief(report))
	}

	s.vsctl("set", "port", device, "tag=99")
	report := s.verify()
	s.vsctl("set", "port", device, "tag=20")
	s.wantOnly(report, VerdictFail, CodeWrongVLAN+" guest web1, NIC "+device)

	s.virsh("domif-setlink", "db1", s.guest("db1").NICs[0].Want.Device, "down")
	s.guest("db1").NICs[0].LinkDown = true
	report = s.verify()
	s.virsh("domif-setlink", "db1", s.guest("db1").NICs[0].Want.Device, "up")
	s.guest("db1").NICs[0].LinkDown = false
	s.wantOnly(report, VerdictFail, CodeLinkDown+" guest db1, NIC "+s.guest("db1").NICs[0].Want.Device)

	// A guest whose own interface is down looks healthy from the host.
	_, err := s.lab.Exec(t.Context(), "web2", "ip link set eth0 down")
	s.must(err)
	s.forget()
	report = s.verify()
	_, err = s.lab.Exec(t.Context(), "web2", "ip link set eth0 up")
	s.must(err)
	s.wantOnly(report, VerdictFail, CodeMACNotLearned+" guest web2, NIC "+s.guest("web2").NICs[0].Want.Device)

	if report := s.verify(); report.Verdict() != VerdictPass {
		t.Errorf("healthy again: want a pass:\n%s", brief(report))
	}
}

// addRealGuest takes what libvirt made of a guest into the inventory.
func (s *site) addRealGuest(g *lab.Guest) {
	s.t.Helper()
	list, err := s.lab.Virsh(s.t.Context(), "domiflist", g.Name)
	s.must(err)
	ref := vnet.GuestRef{Name: g.Name, UUID: g.UUID}
	guest := Guest{Ref: ref, Running: true, State: "running"}
	for _, card := range g.NICs {
		n := s.networks[slices.IndexFunc(s.networks, func(n vnet.Network) bool {
			return n.Subnet.Contains(card.Addresses[0].Addr())
		})]
		for line := range strings.Lines(list) {
			f := strings.Fields(line)
			if len(f) == 5 && f[4] == card.MAC.String() {
				guest.NICs = append(guest.NICs, NIC{
					Want: vnet.Port{
						Device: f[0], Switch: n.Switch, Guest: ref, MAC: vnet.MAC(card.MAC), Network: n.Name, Policy: n.Policy,
					},
					Addresses: []Address{{card.Addresses[0].Addr(), AddressSpec}},
				})
			}
		}
	}
	if len(guest.NICs) != len(g.NICs) {
		s.t.Fatalf("guest %s has %d of %d NICs:\n%s", g.Name, len(guest.NICs), len(g.NICs), list)
	}
	s.guests = append(s.guests, guest)
}

func (s *site) virsh(args ...string) {
	s.t.Helper()
	_, err := s.lab.Virsh(s.t.Context(), args...)
	s.must(err)
}

// wantOnly checks the verdict, and that there is this problem and no other.
func (s *site) wantOnly(report Report, verdict Verdict, problem string) {
	s.t.Helper()
	var got []string
	for _, p := range report.Problems {
		got = append(got, p.Code+" "+p.Subject)
	}
	if report.Verdict() != verdict || !slices.Equal(got, []string{problem}) {
		s.t.Errorf("verdict %s with %q, want %s with %q alone:\n%s", report.Verdict(), got, verdict, problem, brief(report))
	}
}
