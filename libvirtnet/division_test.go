// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet_test

import (
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestHandover moves a host from one libvirt to the next and back: the
// definition changes, and it is said why.
func TestHandover(t *testing.T) {
	t.Parallel()
	red := vnet.Network{Name: "red", Mode: vnet.ModeBridge, Switch: "br0", Policy: vnet.Policy{VLAN: vnet.VLANSet{Access: 20}}}
	blue, plain := red, red
	blue.Policy.VLAN.Access, plain.Policy.VLAN.Access = 30, 0
	linux, ovs := vnet.Switch{Name: "br0", Driver: vnet.DriverLinux}, vnet.Switch{Name: "br0", Driver: vnet.DriverOVS}
	const v9, v11 libvirtnet.Version = 9_000_000, 11_000_000
	for name, c := range map[string]struct {
		before, after vnet.Network
		sw            vnet.Switch
		from, to      libvirtnet.Version
		want          string // in what is said; empty is nothing
	}{
		"update":                       {red, red, linux, v9, v11, "from the hook to libvirt 11.0.0"},
		"back":                         {red, red, linux, v11, v9, "from libvirt to the hook: libvirt 9.0.0 cannot set VLANs"},
		"neither":                      {red, red, linux, v11, v11, ""},
		"another VLAN":                 {red, blue, linux, v11, v11, ""},
		"a VLAN, where there was none": {plain, red, linux, v11, v11, ""},
		"no VLAN any more":             {red, plain, linux, v11, v11, ""},
		"update and another VLAN":      {red, blue, linux, v9, v11, "from the hook to libvirt"},
		"Open vSwitch":                 {red, red, ovs, v9, v11, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			have, err := libvirtnet.NetworkXML(c.before, c.sw, c.from)
			if err != nil {
				t.Fatal(err)
			}
			want, err := libvirtnet.NetworkXML(c.after, c.sw, c.to)
			if err != nil {
				t.Fatal(err)
			}
			changes, err := libvirtnet.NetworkDiff(have, want)
			if err != nil {
				t.Fatal(err)
			}
			got := libvirtnet.Handover(c.before, c.after, c.sw, changes, c.to)
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q; changes %q", got, c.want, changes)
			}
		})
	}
}

func TestManagedMACTable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`<network><bridge name='br0' macTableManager='libvirt'/></network>`: "br0",
		`<network><bridge name='br0' macTableManager='kernel'/></network>`:  "",
		`<network><bridge name='br0'/></network>`:                           "",
		`<network/>`: "",
		`<network>`:  "",
	} {
		if got := libvirtnet.ManagedMACTable(text); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func TestDuties(t *testing.T) {
	t.Parallel()
	n := vnet.Network{
		Name: "red", Mode: vnet.ModeBridge, Switch: "br0",
		Policy: vnet.Policy{VLAN: vnet.VLANSet{Access: 20}, AntiSpoof: true, RAGuard: vnet.ToggleOff, QoS: vnet.QoS{Priority: 3}, FastLeave: vnet.ToggleOn},
	}
	var got []string
	for _, d := range libvirtnet.Division(n, vnet.Switch{Name: "br0", Driver: vnet.DriverLinux}, 9_000_000) {
		if d.By == libvirtnet.Hook {
			got = append(got, d.Setting)
		}
	}
	if want := "VLAN, fast leave, BPDU guard, anti-spoofing, DHCP guard, QoS"; strings.Join(got, ", ") != want {
		t.Errorf("the hook does %s, want %s", strings.Join(got, ", "), want)
	}
}
