// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import "net/netip"

// Toggle is a setting that can also be left as it is. The zero Toggle leaves.
type Toggle int

// The toggles.
const (
	ToggleLeave Toggle = iota
	ToggleOff
	ToggleOn
)

var toggleNames = names{"leave", "off", "on"}

// ToggleOf is ToggleOn or ToggleOff.
func ToggleOf(on bool) Toggle {
	if on {
		return ToggleOn
	}
	return ToggleOff
}

// String returns "leave", "off" or "on".
func (t Toggle) String() string { return toggleNames.name(int(t)) }

// MarshalText implements [encoding.TextMarshaler].
func (t Toggle) MarshalText() ([]byte, error) { return toggleNames.marshal(int(t)) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (t *Toggle) UnmarshalText(text []byte) error {
	n, err := toggleNames.parse("setting", text)
	*t = Toggle(n)
	return err
}

// GuestRef names a guest: by name for people, by UUID for machines, because a
// guest can be renamed.
type GuestRef struct {
	Name string `json:"name"`
	UUID string `json:"uuid"`
}

// Port is one guest NIC on one switch, as it should be.
type Port struct {
	// Device is the port's name on the switch, such as "vnet0".
	Device    string   `json:"device"`
	Switch    string   `json:"switch"`
	Guest     GuestRef `json:"guest"`
	MAC       MAC      `json:"mac"`
	Network   string   `json:"network"`
	Portgroup string   `json:"portgroup,omitempty"`
	MTU       int      `json:"mtu,omitempty"`
	Policy    Policy   `json:"policy,omitzero"`
	// Own is what the spec says that this NIC's frames have as a source, besides
	// MAC and what the policy allows all guests.
	Own Allow `json:"own,omitzero"`
	// Address is the one that the spec gives to this NIC.
	Address netip.Addr `json:"address,omitzero"`
	// InterfaceID is the UUID that the NIC has in a network that spans hosts. It
	// is empty where nothing is known by it.
	InterfaceID string `json:"interfaceID,omitempty"`
	// Starts means that the guest is about to start, and so runs on no other host;
	// one that comes from another host does not start.
	Starts bool `json:"starts,omitempty"`
	// LibvirtQoS means that the guest's own XML limits the NIC (<bandwidth>),
	// which libvirt carries out: the policy's QoS does not count then.
	LibvirtQoS bool `json:"libvirtQoS,omitempty"`
}
