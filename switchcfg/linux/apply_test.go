// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestRefusedAmongMany checks that an error names the one port of many that it
// is of, and that what was applied leads back to how all were.
func TestRefusedAmongMany(t *testing.T) {
	start(t)
	var devices []string
	for i := range 40 {
		device := fmt.Sprintf("vnet%02d", i)
		ip(t, "tuntap", "add", "dev", device, "mode", "tap")
		ip(t, "link", "set", device, "master", "br0")
		devices = append(devices, device)
	}
	d := openBR0(t)
	look := func() switchcfg.State {
		t.Helper()
		state, err := d.Observe(t.Context(), switchcfg.Scope{Devices: devices})
		if err != nil {
			t.Fatal(err)
		}
		return state
	}
	before := look()
	for _, c := range []struct {
		bad  string
		want error // of the bad port's device
		text string
	}{
		{bad: "vnet20", text: "switch br0: port vnet20: set mtu 70000, set alias: invalid argument"},
		{bad: "nosuch0", want: switchcfg.ErrNoPort, text: "switch br0: port nosuch0: look it up: no such port"},
	} {
		plan := switchcfg.Plan{Switch: "br0"}
		for i, device := range devices {
			change := switchcfg.Change{Device: device, Before: before.Ports[device], After: before.Ports[device]}
			change.After.Owner = switchcfg.Owner{Guest: "u1", Network: "red"}
			change.After.Settings.MTU, change.After.Settings.Flags[switchcfg.FlagIsolated] = 9000, vnet.ToggleOn
			if i == 20 {
				change.Device = c.bad
				change.After.Settings.MTU = 70000
			}
			plan.Changes = append(plan.Changes, change)
		}
		applied, err := d.Apply(t.Context(), plan)
		if err == nil || !strings.HasPrefix(err.Error(), c.text) || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("got error %v, want %s", err, c.text)
		}
		after := look()
		for _, device := range devices {
			made := slices.ContainsFunc(applied, func(a switchcfg.Change) bool { return a.Device == device })
			if changed := !(switchcfg.Change{Before: before.Ports[device], After: after.Ports[device]}).Empty(); changed && !made {
				t.Errorf("%s: port %s is changed, but not among the applied", c.bad, device)
			}
		}
		if len(applied) < 20 || len(applied) == len(devices) {
			t.Errorf("%s: %d changes applied, want those before it, and not those long after it", c.bad, len(applied))
		}
		if _, err := d.Apply(t.Context(), switchcfg.Plan{Switch: "br0", Changes: applied}.Reverse()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, look()); diff != "" {
			t.Errorf("%s: after the undo (-want +got):\n%s", c.bad, diff)
		}
	}
}
