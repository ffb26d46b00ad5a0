// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestWants checks that what is found of a port is compared with what the hook
// makes of it, whoever has it and wherever it is by now.
func TestWants(t *testing.T) {
	s := newSite(t)
	s.plug(map[string]string{"vnet0": "br0", "vnet1": "ovs0"})
	dom := guestWith(nic(1, "lan", "vnet0"), nic(2, "red", "vnet1"), nic(3, "edge", "macvtap0"), nic(4, "nowhere", "vnet9"))
	if err := s.Wire(t.Context(), dom); err != nil {
		t.Fatal(err)
	}
	differs := func(i int, sw string) []switchcfg.SettingChange {
		t.Helper()
		d, err := s.Open(t.Context(), vnet.Switch{Name: sw})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close() //nolint:errcheck // in memory
		have, err := d.Observe(t.Context(), switchcfg.Scope{Devices: []string{dom.NICs[i].Device}})
		if err != nil {
			t.Fatal(err)
		}
		want := s.Wants().Of(dom)[i]
		if want.Note != "" || want.Err != nil {
			t.Fatalf("nothing is wanted: %q, %v", want.Note, want.Err)
		}
		got, err := want.Differs(have, have.Ports[dom.NICs[i].Device])
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for i, sw := range []string{"br0", "ovs0"} {
		if got := differs(i, sw); len(got) > 0 {
			t.Errorf("%s was just wired and differs in %v", dom.NICs[i].Device, got)
		}
	}
	s.host.Change("vnet0", func(p *switchcfg.Port) {
		p.Owner, p.Foreign = switchcfg.Owner{}, "the admin's"
		p.Settings.Flags[switchcfg.FlagBPDUGuard] = vnet.ToggleOff
		p.Settings.MTU = 1500
	})
	want := []switchcfg.SettingChange{{Name: switchcfg.NameMTU, From: "1500", To: "9000"}, {Name: "bpdu guard", From: "off", To: "on"}}
	if diff := cmp.Diff(want, differs(0, "br0")); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	wants := s.Wants().Of(dom)
	if wants[2].Note == "" || wants[3].Note == "" {
		t.Errorf("a macvtap and a network of others are to be wired: %+v", wants[2:])
	}
}
