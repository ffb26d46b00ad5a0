// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg

import (
	"fmt"
	"maps"
	"slices"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Owner is the mark we leave on a port, with the guest NIC it was wired for.
// The zero Owner means that a port carries no mark of ours: it is foreign.
type Owner struct {
	Guest   string   `json:"guest,omitempty"` // UUID
	MAC     vnet.MAC `json:"mac,omitzero"`
	Network string   `json:"network,omitempty"`
}

// IsZero reports whether there is no mark.
func (o Owner) IsZero() bool { return o == Owner{} }

// String returns "guest UUID, network red", or "none".
func (o Owner) String() string {
	if o.IsZero() {
		return "none"
	}
	return fmt.Sprintf("guest %s, network %s", o.Guest, o.Network)
}

// Settings is what a port does. In a wanted state a zero field means "leave
// alone"; in an observed one it means that the switch has no such setting.
type Settings struct {
	// VLAN is nil to leave the membership alone. A pointer to the zero
	// [vnet.VLANSet] is an untagged port.
	VLAN *vnet.VLANSet `json:"vlan,omitempty"`
	// MTU is of the port's device, in bytes.
	MTU       int         `json:"mtu,omitempty"`
	Isolated  vnet.Toggle `json:"isolated,omitempty"`
	Learning  vnet.Toggle `json:"learning,omitempty"`
	Flood     vnet.Toggle `json:"flood,omitempty"`
	BPDUGuard vnet.Toggle `json:"bpduGuard,omitempty"`
}

// Port is one port of a switch, wanted or observed.
type Port struct {
	// Device is the port's name.
	Device string `json:"device"`
	// Switch is the switch the device is a port of. Observed, it is empty when
	// the device exists and is on none.
	Switch string `json:"switch,omitempty"`
	Owner  Owner  `json:"owner,omitzero"`
	// Foreign is, observed, somebody else's mark in the place of ours, such as
	// an interface alias that an administrator has set. A port that has one is
	// never wired.
	Foreign  string   `json:"foreign,omitempty"`
	Settings Settings `json:"settings,omitzero"`
}

// State is the ports of one switch by device name, wanted or observed. Nothing
// changes a State once it is made.
type State struct {
	Switch string `json:"switch"`
	// Untagged is, observed, the VLAN that the switch puts untagged ports in
	// (vlan_default_pvid of a Linux bridge), or zero when it has none.
	Untagged vnet.VLANID     `json:"untagged,omitempty"`
	Ports    map[string]Port `json:"ports,omitempty"`
}

// Devices returns the names of the ports, sorted.
func (s State) Devices() []string { return slices.Sorted(maps.Keys(s.Ports)) }

// Desired returns the state that ports ask of sw. Every port must be of that
// switch and have a device.
//
// Guest ports get a BPDU guard on switches that can have one, unless their
// policy says otherwise: a guest's spanning tree frames would let it become
// the root of the host's bridge.
func Desired(ports []vnet.Port, sw vnet.Switch) (State, error) {
	state := State{Switch: sw.Name, Ports: make(map[string]Port, len(ports))}
	for _, p := range ports {
		if p.Device == "" || p.Switch != sw.Name {
			return State{}, fmt.Errorf("port %q of switch %q cannot be wired on switch %q", p.Device, p.Switch, sw.Name)
		}
		if _, twice := state.Ports[p.Device]; twice {
			return State{}, fmt.Errorf("switch %s: two guest NICs claim port %s", sw.Name, p.Device)
		}
		state.Ports[p.Device] = Port{
			Device:   p.Device,
			Switch:   sw.Name,
			Owner:    Owner{Guest: p.Guest.UUID, MAC: p.MAC, Network: p.Network},
			Settings: settings(p, sw.Driver),
		}
	}
	return state, nil
}

func settings(p vnet.Port, driver vnet.Driver) Settings {
	vlan := p.Policy.VLAN
	s := Settings{
		VLAN:      &vlan,
		MTU:       p.MTU,
		Isolated:  vnet.ToggleOf(p.Policy.Isolated),
		Learning:  p.Policy.Learning,
		Flood:     p.Policy.Flood,
		BPDUGuard: p.Policy.BPDUGuard,
	}
	if driver == vnet.DriverLinux && s.BPDUGuard == vnet.ToggleLeave {
		s.BPDUGuard = vnet.ToggleOn
	}
	return s
}
