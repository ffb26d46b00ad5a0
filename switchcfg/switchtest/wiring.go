// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchtest

import (
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func (s suite) scope() {
	on, other, off := s.device("ct0", true), s.device("ct1", true), s.device("ct2", false)
	state := s.observe(on, off, "nosuch1")
	if got, want := state.Devices(), []string{on, off}; !slices.Equal(got, want) {
		s.Errorf("scoped: observed %v, want %v", got, want)
	}
	if got := state.Ports[on].Switch; got != s.Switch.Name {
		s.Errorf("%s is on switch %q, want %s", on, got, s.Switch.Name)
	}
	if got := state.Ports[off].Switch; got != "" {
		s.Errorf("%s is on switch %q, want none", off, got)
	}
	all := s.observe()
	if got := all.Devices(); !slices.Contains(got, on) || !slices.Contains(got, other) || slices.Contains(got, off) {
		s.Errorf("unscoped: observed %v, want %s and %s and not %s", got, on, other, off)
	}
	if diff := difference(state.Ports[on], all.Ports[on]); diff != "" {
		s.Errorf("scope makes a difference (-scoped +unscoped):\n%s", diff)
	}
}

func (s suite) observeOnly() {
	device := s.device("ct0", true)
	before := s.Look(s.T, device)
	s.observe(device)
	s.observe()
	if diff := difference(before, s.Look(s.T, device)); diff != "" {
		s.Fatalf("the port was touched (-before +now):\n%s", diff)
	}
}

func (s suite) wire() {
	device := s.device("ct0", true)
	port := s.port(device, s.fullPolicy())
	before := s.observe(device)
	plan := s.mustPlan(port)
	if plan.Empty() {
		s.Fatal("nothing to do for a fresh port")
	}
	s.apply(plan)
	s.settled(port)
	wired := s.observe(device)
	want := switchcfg.Owner{Guest: guest, MAC: port.MAC, Network: port.Network}
	if got := wired.Ports[device].Owner; got != want {
		s.Errorf("the port is marked for %+v, want %+v", got, want)
	}
	s.apply(plan)
	if diff := difference(wired, s.observe(device)); diff != "" {
		s.Fatalf("applying twice makes a difference (-once +twice):\n%s", diff)
	}
	s.apply(plan.Reverse())
	if diff := difference(before, s.observe(device)); diff != "" {
		s.Fatalf("the undone port differs (-before +now):\n%s", diff)
	}
}

func (s suite) plug() {
	for _, policy := range []vnet.Policy{{}, s.fullPolicy()} {
		device := s.device("ct0", false)
		port := s.port(device, policy)
		before := s.observe(device)
		plan := s.mustPlan(port)
		s.apply(plan)
		s.settled(port)
		s.apply(plan.Reverse())
		if diff := difference(before, s.observe(device)); diff != "" {
			s.Fatalf("the undone device differs (-before +now):\n%s", diff)
		}
		s.Remove(s.T, device)
	}
}

func (s suite) neighbours() {
	device, neighbour := s.device("ct0", true), s.device("ct1", true)
	before := s.Look(s.T, neighbour)
	plan := s.mustPlan(s.port(device, s.fullPolicy()))
	s.apply(plan)
	s.apply(plan.Reverse())
	if diff := difference(before, s.Look(s.T, neighbour)); diff != "" {
		s.Fatalf("a port next door was touched (-before +now):\n%s", diff)
	}
}

func (s suite) release() {
	ours, others := s.device("ct0", true), s.device("ct1", true)
	theirs := s.port(others, vnet.Policy{})
	theirs.Guest.UUID = otherGuest
	s.apply(s.mustPlan(s.port(ours, vnet.Policy{}), theirs))
	before := s.Look(s.T, others)

	want := switchcfg.State{Switch: s.Switch.Name}
	plan, err := switchcfg.Diff(want, s.observe(), guest)
	if err != nil {
		s.Fatal(err)
	}
	s.apply(plan)
	if got := s.observe(ours).Ports[ours].Owner; !got.IsZero() {
		s.Errorf("the released port is still marked for %+v", got)
	}
	if diff := difference(before, s.Look(s.T, others)); diff != "" {
		s.Fatalf("another guest's port was touched (-before +now):\n%s", diff)
	}
}

func (s suite) vlans() {
	if !s.has(switchcfg.FeatureVLAN) {
		return // "what the switch cannot do" covers it
	}
	device := s.device("ct0", true)
	ranges := vnet.VLANRanges{{First: 20, Last: 29}, {First: 40, Last: 40}}
	for _, set := range []vnet.VLANSet{
		{Access: 20},
		{Access: vnet.MaxVLANID},
		{Trunk: ranges},
		{},
		{Trunk: ranges, Native: 10},
		{Trunk: ranges, Native: 25},
		{Trunk: ranges, Native: 10, NativeTagged: true},
		{Trunk: vnet.AllVLANs()},
		{Access: 25},
		{Trunk: vnet.AllVLANs(), Native: 1},
		{Trunk: vnet.VLANRanges{{First: 10, Last: 10}}, Native: 10, NativeTagged: true},
		{},
	} {
		port := s.port(device, vnet.Policy{VLAN: set})
		before := s.observe(device)
		plan := s.mustPlan(port)
		s.apply(plan)
		s.settled(port)
		s.apply(plan.Reverse())
		if diff := difference(before, s.observe(device)); diff != "" {
			s.Fatalf("%s, undone, differs (-before +now):\n%s", set, diff)
		}
		s.apply(s.mustPlan(port))
		s.settled(port)
	}
}

func (s suite) settings() {
	device := s.device("ct0", true)
	ports := []vnet.Port{s.port(device, vnet.Policy{BPDUGuard: vnet.ToggleOff})}
	for feature, policy := range asks() {
		if s.has(feature) {
			ports = append(ports, s.port(device, policy), s.port(device, vnet.Policy{}))
		}
	}
	small, moved := s.port(device, vnet.Policy{}), s.port(device, vnet.Policy{})
	small.MTU, moved.Network = 1400, "blue"
	for _, port := range append(ports, small, moved, s.port(device, s.fullPolicy()), s.port(device, vnet.Policy{})) {
		s.apply(s.mustPlan(port))
		s.settled(port)
	}
}

func (s suite) many() {
	names := deviceNames(8)
	ports := make([]vnet.Port, len(names))
	for i, name := range names {
		ports[i] = s.port(s.device(name, i%2 == 0), s.fullPolicy())
	}
	before := s.observe(names...)
	plan := s.mustPlan(ports...)
	s.apply(plan)
	s.settled(ports...)
	s.apply(plan.Reverse())
	if diff := difference(before, s.observe(names...)); diff != "" {
		s.Fatalf("the undone ports differ (-before +now):\n%s", diff)
	}
}

func (s suite) vantage() {
	v, ok := s.driver.(switchcfg.Vantager)
	if !ok {
		return // the driver lends none, which those that do assert at compile time
	}
	before := s.observe()
	vlans := []vnet.VLANID{0, 0}
	if s.has(switchcfg.FeatureVLAN) {
		vlans[1] = 20
	} else if _, err := v.OpenVantage(s.Context(), 20); err == nil {
		s.Error("lends a vantage in a VLAN that it does not have")
	} else {
		s.fails(err, switchcfg.ErrUnsupported, s.Switch.Name)
	}
	var open []string
	for _, vlan := range vlans {
		device, err := v.OpenVantage(s.Context(), vlan)
		if err != nil {
			s.Fatal(err)
		}
		open = append(open, device)
	}
	port := s.device("ct0", true)
	s.fails(v.CloseVantage(s.Context(), port), switchcfg.ErrNotOwned, port)
	s.Remove(s.T, port)
	for _, device := range append(open, open...) { // twice: gone is closed
		if err := v.CloseVantage(s.Context(), device); err != nil {
			s.Error(err)
		}
	}
	if diff := difference(before, s.observe()); diff != "" {
		s.Fatalf("the vantages left something (-before +now):\n%s", diff)
	}
}
