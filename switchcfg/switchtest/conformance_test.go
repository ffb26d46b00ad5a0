// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchtest_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	all := map[switchcfg.Feature]string{}
	for _, f := range switchcfg.Features() {
		all[f] = "out of " + string(f)
	}
	for name, sw := range map[string]switchtest.Switch{
		"everything":       {},
		"default VLAN":     {Untagged: 1},
		"nothing":          {Missing: all, Switch: vnet.Switch{Driver: vnet.DriverOVS}},
		"no VLAN":          {Missing: map[switchcfg.Feature]string{switchcfg.FeatureVLAN: "out of VLANs", switchcfg.FeatureTunnel: "out of VLANs"}},
		"an Open vSwitch":  {Switch: vnet.Switch{Driver: vnet.DriverOVS}},
		"not for learning": {Missing: map[switchcfg.Feature]string{switchcfg.FlagLearning.Feature(): "out of learning"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sw.Name = "br0"
			if sw.Driver == 0 {
				sw.Driver = vnet.DriverLinux
			}
			other := sw
			other.Name = "br1"
			switchtest.Conformance(t, fixture(switchtest.NewHost(sw, other), sw.Switch))
		})
	}
}

func fixture(host *switchtest.Host, sw vnet.Switch) switchtest.Fixture {
	return switchtest.Fixture{
		Switch:    sw,
		Open:      host.Open,
		AddDevice: func(_ *testing.T, device string) { host.AddDevice(device) },
		Plug: func(_ *testing.T, device string, elsewhere bool) {
			if elsewhere {
				host.Plug(device, "br1")
			} else {
				host.Plug(device, sw.Name)
			}
		},
		Remove: func(_ *testing.T, device string) { host.Remove(device) },
		Look: func(_ *testing.T, device string) string {
			for line := range strings.Lines(host.String()) {
				if strings.HasPrefix(line, device+":") {
					return line
				}
			}
			return ""
		},
		MarkForeign: func(_ *testing.T, device string) {
			host.Change(device, func(p *switchcfg.Port) { p.Foreign = "to the printer" })
		},
	}
}

func TestFailAt(t *testing.T) {
	t.Parallel()
	sw := vnet.Switch{Name: "br0", Driver: vnet.DriverLinux}
	host := switchtest.NewHost(switchtest.Switch{Switch: sw})
	var ports []vnet.Port
	for _, device := range []string{"vnet0", "vnet1", "vnet2"} {
		host.AddDevice(device)
		host.Plug(device, "br0")
		ports = append(ports, vnet.Port{Device: device, Switch: "br0", Network: "red", Guest: vnet.GuestRef{UUID: "u1"}})
	}
	before := host.String()
	broken := errors.New("the switch is on fire")
	host.FailAt(3, broken)
	applied, err := wire(t, host, sw, ports)
	if !errors.Is(err, broken) || len(applied) != 2 {
		t.Fatalf("applied %d changes and got error %v, want 2 and %v", len(applied), err, broken)
	}
	want := `vnet0: switch br0, vlan untagged, mtu 1500, bpdu-guard on, owner guest u1, network red
vnet1: switch br0, vlan untagged, mtu 1500, bpdu-guard on, owner guest u1, network red
vnet2: switch br0, vlan untagged, mtu 1500, owner none
`
	if diff := cmp.Diff(want, host.String()); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if _, err := apply(t.Context(), host, sw, switchcfg.Plan{Switch: "br0", Changes: applied}.Reverse()); err != nil {
		t.Fatalf("undo, with the fault over: %v", err)
	}
	if diff := cmp.Diff(before, host.String()); diff != "" {
		t.Fatalf("(-before +undone):\n%s", diff)
	}
}

func wire(t *testing.T, host *switchtest.Host, sw vnet.Switch, ports []vnet.Port) ([]switchcfg.Change, error) {
	t.Helper()
	want, err := switchcfg.Desired(ports, sw)
	if err != nil {
		t.Fatal(err)
	}
	d, err := host.Open(t.Context(), sw)
	if err != nil {
		t.Fatal(err)
	}
	have, err := d.Observe(t.Context(), switchcfg.Scope{Devices: want.Devices()})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := switchcfg.Diff(want, have, "u1")
	if err != nil {
		t.Fatal(err)
	}
	return d.Apply(t.Context(), plan)
}

func apply(ctx context.Context, host *switchtest.Host, sw vnet.Switch, plan switchcfg.Plan) ([]switchcfg.Change, error) {
	d, err := host.Open(ctx, sw)
	if err != nil {
		return nil, err
	}
	return d.Apply(ctx, plan)
}
