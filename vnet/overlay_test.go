// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet_test

import (
	"testing"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestOverlayMTU holds what is left of plain Ethernet: OVN's documentation says
// 58 bytes less for geneve over IPv4, and vxlan takes 50.
func TestOverlayMTU(t *testing.T) {
	t.Parallel()
	for o, want := range map[vnet.Overlay]int{
		{}:                       1442,
		{UnderlayIPv6: true}:     1422,
		{Encap: vnet.EncapVXLAN}: 1450,
		{Encap: vnet.EncapVXLAN, UnderlayIPv6: true}: 1430,
		{UnderlayMTU: 1558}:                          1500,
		{UnderlayMTU: 9000}:                          8942,
	} {
		if got := o.MTU(); got != want {
			t.Errorf("%+v: got %d, want %d", o, got, want)
		}
	}
}

func TestCompleteMTU(t *testing.T) {
	t.Parallel()
	topology := vnet.Topology{
		Switches: []vnet.Switch{{Name: "br-int", Driver: vnet.DriverOVN}, {Name: "br0", Driver: vnet.DriverLinux}},
		Networks: []vnet.Network{
			{Name: "overlay", Switch: "br-int"},
			{Name: "chosen", Switch: "br-int", MTU: 1300},
			{Name: "physical", Switch: "br-int", Logical: vnet.Logical{Localnet: vnet.Localnet{Physical: "physnet1"}}},
			{Name: "plain", Switch: "br0"},
		},
	}
	topology.Complete()
	for i, want := range []int{1442, 1300, 0, 0} {
		if n := topology.Networks[i]; n.MTU != want {
			t.Errorf("network %s: got MTU %d, want %d", n.Name, n.MTU, want)
		}
	}
}
