// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// watched is a switch with all that a spec can ask of it.
func watched() vnet.Switch {
	return vnet.Switch{
		Name: "br0", Driver: vnet.DriverOVS, Uplink: "bond0",
		Bond: vnet.Bond{Members: []string{"eth1", "eth0"}, Mode: vnet.BondTCP, LACP: vnet.LACPActive, Fast: true, Fallback: true},
		Mirrors: []vnet.Mirror{
			{Name: "far", VLANs: vnet.VLANRanges{{First: 20, Last: 20}}, ToAddress: netip.MustParseAddr("192.0.2.9"), Session: 7},
			{Name: "ids", Ports: []string{"bond0"}, Guests: []string{"web1"}, Networks: []string{"blue"}, Direction: vnet.DirectionIn, ToGuest: "ids1/red"},
			{Name: "web", Guests: []string{"web1/red"}, Direction: vnet.DirectionOut, ToVLAN: 99, Snaplen: 64},
		},
		Exports: vnet.FlowExports{SFlow: vnet.SFlow{Targets: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:6343")}, Polling: time.Second}},
	}
}

func TestMonitoring(t *testing.T) {
	port := func(device, guest, network string) vnet.Port {
		return vnet.Port{Device: device, Switch: "br0", Network: network, Guest: vnet.GuestRef{Name: guest, UUID: "uuid-of-" + guest}}
	}
	ports := []vnet.Port{port("vnet0", "web1", "red"), port("vnet1", "web1", "green"), port("vnet2", "db1", "blue"), port("vnet3", "ids1", "red"), port("vnet4", "ids1", "green")}
	want, err := switchcfg.Desired(ports, watched())
	if err != nil {
		t.Fatal(err)
	}
	have := switchcfg.State{Switch: "br0", Ports: map[string]switchcfg.Port{"br0": {Device: "br0", Switch: "br0", Settings: switchcfg.Settings{
		Monitoring: &switchcfg.Monitoring{}, Bond: &switchcfg.Bond{},
	}}}}
	for device, p := range want.Ports {
		if device != "br0" {
			p.Settings.Mirrored = &switchcfg.Mirrored{}
			have.Ports[device] = p
		}
	}
	plan, err := switchcfg.Diff(want, have, "")
	if err != nil {
		t.Fatal(err)
	}
	const lines = `br0: br0: bond: none -> bond0 of eth0 eth1, balance-tcp, LACP active fast, falls back
br0: br0: mirror far: none -> all ports, VLANs 20 to 192.0.2.9, ERSPAN version 1 session 7
br0: br0: mirror ids: none -> in bond0 to a guest
br0: br0: mirror web: none -> guests to VLAN 99, 64 bytes each
br0: br0: sflow: none -> to 192.0.2.9:6343, polling 1s
br0: vnet0: mirrors: none -> ids in, web out
br0: vnet1: mirrors: none -> ids in
br0: vnet2: mirrors: none -> ids in
br0: vnet3: mirrors: none -> to ids
`
	if diff := cmp.Diff(lines, plan.String()); diff != "" {
		t.Errorf("the plan (-want +got):\n%s", diff)
	}
	for _, c := range plan.Changes {
		have.Ports[c.Device] = c.After
	}
	if again, err := switchcfg.Diff(want, have, ""); err != nil || !again.Empty() {
		t.Errorf("once it is so, the plan is %s (%v)", again, err)
	}
	if left := have.Ports["vnet0"].Released().Settings.Mirrored.String(); left != "none" {
		t.Errorf("a port that is released is in the mirrors %s", left)
	}
}

// TestNoMonitoring asks a switch that has none of it.
func TestNoMonitoring(t *testing.T) {
	want, err := switchcfg.Desired(nil, watched())
	if err != nil {
		t.Fatal(err)
	}
	for feature, what := range map[switchcfg.Feature]string{
		switchcfg.FeatureMirror: "the spec needs mirror far", switchcfg.FeatureExport: "the spec needs sflow, netflow or ipfix",
		switchcfg.FeatureBond: "the spec needs bond bond0",
	} {
		err := switchcfg.Capabilities{Switch: "br0", Missing: map[switchcfg.Feature]string{feature: "it cannot"}}.Check(t.Context(), want)
		if !errors.Is(err, switchcfg.ErrUnsupported) || !strings.Contains(err.Error(), what) {
			t.Errorf("without %s: got %v, want an error that says %q", feature, err, what)
		}
	}
}
