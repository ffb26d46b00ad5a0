// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg_test

import (
	"testing"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestChangeEmpty checks that a change is empty when it has no lines, and then
// only.
func TestChangeEmpty(t *testing.T) {
	t.Parallel()
	base := func() switchcfg.Port {
		return switchcfg.Port{
			Device: "vnet0", Switch: "br0", Owner: switchcfg.Owner{Guest: "u1", MAC: vnet.MAC{2}, Network: "red"},
			Settings: switchcfg.Settings{
				VLAN: &vnet.VLANSet{Access: 20}, MTU: 1500,
				Flags: switchcfg.Flags{switchcfg.FlagIsolated: vnet.ToggleOn, switchcfg.FlagLearning: vnet.ToggleOff},
				Guard: &switchcfg.Guard{}, QoS: &vnet.QoS{}, Bridge: &vnet.Bridge{},
			},
		}
	}
	for name, c := range map[string]struct {
		edit  func(*switchcfg.Port)
		empty bool
	}{
		"switch":        {func(p *switchcfg.Port) { p.Switch = "" }, false},
		"guest":         {func(p *switchcfg.Port) { p.Owner.Guest = "u2" }, false},
		"owner's MAC":   {func(p *switchcfg.Port) { p.Owner.MAC[5] = 1 }, false},
		"network":       {func(p *switchcfg.Port) { p.Owner.Network = "blue" }, false},
		"no owner":      {func(p *switchcfg.Port) { p.Owner = switchcfg.Owner{} }, false},
		"VLAN":          {func(p *switchcfg.Port) { p.Settings.VLAN.Access = 30 }, false},
		"no VLAN":       {func(p *switchcfg.Port) { p.Settings.VLAN = nil }, false},
		"untagged":      {func(p *switchcfg.Port) { p.Settings.VLAN = &vnet.VLANSet{} }, false},
		"MTU":           {func(p *switchcfg.Port) { p.Settings.MTU++ }, false},
		"isolated":      {func(p *switchcfg.Port) { p.Settings.Flags[switchcfg.FlagIsolated] = vnet.ToggleOff }, false},
		"learning":      {func(p *switchcfg.Port) { p.Settings.Flags[switchcfg.FlagLearning] = vnet.ToggleLeave }, false},
		"flood":         {func(p *switchcfg.Port) { p.Settings.Flags[switchcfg.FlagFlood] = vnet.ToggleOn }, false},
		"BPDU guard":    {func(p *switchcfg.Port) { p.Settings.Flags[switchcfg.FlagBPDUGuard] = vnet.ToggleOn }, false},
		"root block":    {func(p *switchcfg.Port) { p.Settings.Flags[switchcfg.FlagRootBlock] = vnet.ToggleOn }, false},
		"MACs":          {func(p *switchcfg.Port) { p.Settings.Guard = &switchcfg.Guard{MACs: []vnet.MAC{{2}}} }, false},
		"DHCP guard":    {func(p *switchcfg.Port) { p.Settings.Guard = &switchcfg.Guard{DHCP: true} }, false},
		"RA guard":      {func(p *switchcfg.Port) { p.Settings.Guard = &switchcfg.Guard{RA: true} }, false},
		"rate":          {func(p *switchcfg.Port) { p.Settings.QoS = &vnet.QoS{Inbound: vnet.Rate{Bits: 8}} }, false},
		"priority":      {func(p *switchcfg.Port) { p.Settings.QoS = &vnet.QoS{Priority: 5} }, false},
		"bridge":        {func(p *switchcfg.Port) { p.Settings.Bridge = &vnet.Bridge{STP: vnet.ToggleOn} }, false},
		"nothing":       {func(*switchcfg.Port) {}, true},
		"another image": {func(p *switchcfg.Port) { p.Device, p.Foreign = "vnet1", "to the printer" }, true},
	} {
		change := switchcfg.Change{Before: base(), After: base()}
		c.edit(&change.After)
		if lines := change.Lines(); change.Empty() != c.empty || (len(lines) == 0) != c.empty {
			t.Errorf("%s: empty: %v, lines %q; want empty: %v", name, change.Empty(), lines, c.empty)
		}
	}
}
