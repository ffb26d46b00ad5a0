// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// site returns a valid topology for tests to break.
func site() vnet.Topology {
	return vnet.Topology{
		Switches: []vnet.Switch{{Name: "br0", Driver: vnet.DriverLinux}},
		Networks: []vnet.Network{{
			Name: "red", Mode: vnet.ModeBridge, Switch: "br0",
			Policy:     vnet.Policy{VLAN: vnet.VLANSet{Access: 20}},
			Portgroups: []vnet.Portgroup{{Name: "dmz", Policy: vnet.Policy{Isolated: true}}},
			Subnet:     netip.MustParsePrefix("10.0.20.0/24"), Gateway: netip.MustParseAddr("10.0.20.1"),
		}},
		Guests: []vnet.Guest{{Name: "g1", NICs: []vnet.NIC{{
			Network: "red", MAC: vnet.MAC{0x52, 0x54, 0, 0, 0, 1}, Address: netip.MustParseAddr("10.0.20.11"),
		}}}},
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*vnet.Topology)
		code  string
		field string
	}{
		{"switch without driver", func(s *vnet.Topology) { s.Switches[0].Driver = 0 }, vnet.CodeSpecMissing, "switches.br0"},
		{"long uplink", func(s *vnet.Topology) { s.Switches[0].Uplink = "a-name-of-16-chr" }, vnet.CodeSpecValue, "switches.br0.uplink"},
		{"slash in name", func(s *vnet.Topology) { s.Networks[0].Name = "../red"; s.Guests = nil }, vnet.CodeSpecValue, "networks.../red.name"},
		{"unknown switch", func(s *vnet.Topology) { s.Networks[0].Switch = "br1" }, vnet.CodeSpecUnknownName, "networks.red.switch"},
		{"no switch", func(s *vnet.Topology) { s.Networks[0].Switch = "" }, vnet.CodeSpecMissing, "networks.red"},
		{"no mode", func(s *vnet.Topology) { s.Networks[0].Mode = 0 }, vnet.CodeSpecMissing, "networks.red"},
		{"device on a bridge", func(s *vnet.Topology) { s.Networks[0].Device = "eno1" }, vnet.CodeSpecConflict, "networks.red.device"},
		{"VLAN 4095", func(s *vnet.Topology) { s.Networks[0].Policy.VLAN.Access = 4095 }, vnet.CodeSpecValue, "networks.red.vlan"},
		{"customer alone", func(s *vnet.Topology) {
			s.Networks[0].Policy.VLAN = vnet.VLANSet{Customer: vnet.AllVLANs()}
		}, vnet.CodeSpecConflict, "networks.red.customer_vlans"},
		{"tunnel and trunk", func(s *vnet.Topology) {
			s.Networks[0].Policy.VLAN = vnet.VLANSet{Service: 5, Trunk: vnet.AllVLANs()}
		}, vnet.CodeSpecConflict, "networks.red.service_vlan"},
		{"service VLAN", func(s *vnet.Topology) { s.Networks[0].Policy.VLAN.Service, s.Networks[0].Policy.VLAN.Access = 4095, 0 }, vnet.CodeSpecValue, "networks.red.service_vlan"},
		{"native alone", func(s *vnet.Topology) { s.Networks[0].Policy.VLAN = vnet.VLANSet{Native: 5} }, vnet.CodeSpecConflict, "networks.red.native"},
		{"small MTU", func(s *vnet.Topology) { s.Networks[0].MTU = 60 }, vnet.CodeSpecValue, "networks.red.mtu"},
		{"host bits", func(s *vnet.Topology) { s.Networks[0].Subnet = netip.MustParsePrefix("10.0.20.7/24") }, vnet.CodeSpecValue, "networks.red.subnet"},
		{"gateway elsewhere", func(s *vnet.Topology) { s.Networks[0].Gateway = netip.MustParseAddr("10.0.21.1") }, vnet.CodeSpecValue, "networks.red.gateway"},
		{"gateway is broadcast", func(s *vnet.Topology) { s.Networks[0].Gateway = netip.MustParseAddr("10.0.20.255") }, vnet.CodeSpecValue, "networks.red.gateway"},
		{"unknown network", func(s *vnet.Topology) { s.Guests[0].NICs[0].Network = "blue" }, vnet.CodeSpecUnknownName, "guests.g1.nics.0.network"},
		{"unknown portgroup", func(s *vnet.Topology) { s.Guests[0].NICs[0].Portgroup = "x" }, vnet.CodeSpecUnknownName, "guests.g1.nics.0.portgroup"},
		{"address elsewhere", func(s *vnet.Topology) { s.Guests[0].NICs[0].Address = netip.MustParseAddr("10.9.9.9") }, vnet.CodeSpecValue, "guests.g1.nics.0.address"},
		{"group MAC", func(s *vnet.Topology) { s.Guests[0].NICs[0].MAC[0] = 1 }, vnet.CodeSpecValue, "guests.g1.nics.0.mac"},
		{"odd ring", func(s *vnet.Topology) { s.Guests[0].NICs[0].RXRing = 300 }, vnet.CodeSpecValue, "guests.g1.nics.0.rx_ring"},
		{"queues on rtl8139", func(s *vnet.Topology) {
			s.Guests[0].NICs[0].Model = vnet.ModelRTL8139
			s.Guests[0].NICs[0].Queues = 2
		}, vnet.CodeSpecConflict, "guests.g1.nics.0.model"},
		{"MAC twice", func(s *vnet.Topology) {
			twin := s.Guests[0].NICs[0]
			twin.Address = netip.Addr{}
			s.Guests[0].NICs = append(s.Guests[0].NICs, twin)
		}, vnet.CodeSpecDuplicate, "guests.g1.nics.1.mac"},
		{"address twice", func(s *vnet.Topology) {
			twin := s.Guests[0].NICs[0]
			twin.MAC = vnet.MAC{}
			s.Guests[0].NICs = append(s.Guests[0].NICs, twin)
		}, vnet.CodeSpecDuplicate, "guests.g1.nics.1.address"},
		{"network twice", func(s *vnet.Topology) { s.Networks = append(s.Networks, s.Networks[0]) }, vnet.CodeSpecDuplicate, "networks.red.name"},
		{"two defaults", func(s *vnet.Topology) {
			s.Networks[0].Portgroups = []vnet.Portgroup{{Name: "a", Default: true}, {Name: "b", Default: true}}
		}, vnet.CodeSpecConflict, "networks.red.portgroups"},
		{"VLAN on macvtap", func(s *vnet.Topology) {
			s.Networks[0] = vnet.Network{Name: "red", Mode: vnet.ModeMacvtap, Device: "eno1", Policy: vnet.Policy{VLAN: vnet.VLANSet{Access: 5}}}
		}, vnet.CodeSpecConflict, "networks.red.vlan"},
		{"nat without subnet", func(s *vnet.Topology) {
			s.Networks[0] = vnet.Network{Name: "red", Mode: vnet.ModeNAT}
		}, vnet.CodeSpecMissing, "networks.red"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			topology := site()
			tt.spoil(&topology)
			problems := topology.Validate()
			if len(problems) != 1 || problems[0].Code != tt.code || problems[0].Field != tt.field {
				t.Errorf("got %+v, want one %s at %s", problems, tt.code, tt.field)
			}
		})
	}
	topology := site()
	if problems := topology.Validate(); problems != nil {
		t.Errorf("a good topology has problems: %v", problems)
	}
}

func TestValidateReportsAllAtOnce(t *testing.T) {
	topology := site()
	topology.Switches[0].Driver = 0
	topology.Networks[0].MTU = 1
	topology.Guests[0].NICs[0].Network = "blue"
	if problems := topology.Validate(); len(problems) != 3 {
		t.Errorf("got %v, want three problems", problems)
	}
}

func TestTakeNIC(t *testing.T) {
	mac := vnet.MAC{0x52, 0x54, 0, 0, 0, 1}
	nics := []vnet.NIC{{Network: "red", Queues: 1}, {Network: "red", MAC: mac, Queues: 2}, {Network: "red", Queues: 3}}
	for _, tt := range []struct {
		mac     vnet.MAC
		network string
		want    int
	}{{mac, "blue", 2}, {vnet.MAC{2}, "red", 1}, {vnet.MAC{4}, "red", 3}, {vnet.MAC{6}, "red", 0}} {
		found, rest, ok := vnet.TakeNIC(nics, tt.mac, tt.network)
		if found.Queues != tt.want || ok != (tt.want != 0) || ok && len(rest) != len(nics)-1 {
			t.Errorf("%s in %s: got %+v, %t, %d are left; want the one of %d queues", tt.mac, tt.network, found, ok, len(rest), tt.want)
		}
		nics = rest
	}
}

func TestPolicyFor(t *testing.T) {
	n := site().Networks[0]
	own, ok := n.PolicyFor("")
	if !ok || own.VLAN.Access != 20 {
		t.Errorf("without portgroup: %+v, %t", own, ok)
	}
	if dmz, ok := n.PolicyFor("dmz"); !ok || !dmz.Isolated || !dmz.VLAN.IsZero() {
		t.Errorf("a portgroup replaces the policy as a whole: %+v, %t", dmz, ok)
	}
	if _, ok := n.PolicyFor("none"); ok {
		t.Error("an unknown portgroup has a policy")
	}
	n.Portgroups[0].Default = true
	if p, ok := n.PolicyFor(""); !ok || !p.Isolated {
		t.Errorf("the default portgroup is not used: %+v, %t", p, ok)
	}
}

func TestEnumsReadWhatTheyWrite(t *testing.T) {
	for _, word := range vnet.Modes() {
		var m vnet.Mode
		if err := m.UnmarshalText([]byte(word)); err != nil || m.String() != word {
			t.Errorf("%q reads as %v, %v", word, m, err)
		}
	}
	var m vnet.Mode
	want := `"bridged" is no mode: want one of bridge, macvtap, nat, isolated`
	if err := m.UnmarshalText([]byte("bridged")); err == nil || cmp.Diff(want, err.Error()) != "" {
		t.Errorf("got %v, want %s", err, want)
	}
}
