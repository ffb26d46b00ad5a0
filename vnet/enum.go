// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"fmt"
	"slices"
	"strings"
)

// Mode is how a network carries its guests' frames. The zero Mode is invalid.
type Mode int

// The modes.
const (
	// ModeBridge puts guest ports on a switch of ours: Linux bridge, OVS or OVN.
	ModeBridge Mode = iota + 1
	// ModeMacvtap puts each guest on a macvtap over a host device, with no
	// bridge in between.
	ModeMacvtap
	// ModeNAT is libvirt's own bridge with masquerading to the outside.
	ModeNAT
	// ModeIsolated is libvirt's own bridge with no way out.
	ModeIsolated
)

var modeNames = names{"", "bridge", "macvtap", "nat", "isolated"}

// String returns the word the spec uses.
func (m Mode) String() string { return modeNames.name(int(m)) }

// MarshalText implements [encoding.TextMarshaler].
func (m Mode) MarshalText() ([]byte, error) { return modeNames.marshal(int(m)) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *Mode) UnmarshalText(text []byte) error {
	n, err := modeNames.parse("mode", text)
	*m = Mode(n)
	return err
}

// Modes returns the words [Mode] reads.
func Modes() []string { return slices.Clone(modeNames[1:]) }

// MacvtapMode is how macvtaps on one device reach each other (the macvlan modes
// of ip-link(8)). The zero MacvtapMode means bridge.
type MacvtapMode int

// The macvtap modes.
const (
	// MacvtapBridge lets guests on the same device talk directly.
	MacvtapBridge MacvtapMode = iota
	// MacvtapVEPA sends everything to the physical switch, which must reflect
	// it (802.1Qbg).
	MacvtapVEPA
	// MacvtapPrivate keeps guests on the same device apart.
	MacvtapPrivate
	// MacvtapPassthrough gives the device to a single guest.
	MacvtapPassthrough
)

var macvtapNames = names{"bridge", "vepa", "private", "passthrough"}

// String returns the word the spec and libvirt use.
func (m MacvtapMode) String() string { return macvtapNames.name(int(m)) }

// MarshalText implements [encoding.TextMarshaler].
func (m MacvtapMode) MarshalText() ([]byte, error) { return macvtapNames.marshal(int(m)) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *MacvtapMode) UnmarshalText(text []byte) error {
	n, err := macvtapNames.parse("macvtap mode", text)
	*m = MacvtapMode(n)
	return err
}

// MacvtapModes returns the words [MacvtapMode] reads.
func MacvtapModes() []string { return slices.Clone(macvtapNames) }

// Driver names the kind of a switch. The zero Driver is invalid.
type Driver int

// The drivers.
const (
	// DriverLinux is the Linux kernel bridge.
	DriverLinux Driver = iota + 1
	// DriverOVS is an Open vSwitch bridge.
	DriverOVS
	// DriverOVN is the integration bridge of a chassis of OVN: what guests on it
	// reach is said in OVN's northbound database, for all hosts at once.
	DriverOVN
)

var driverNames = names{"", "linux", "ovs", "ovn"}

// String returns the word the spec uses.
func (d Driver) String() string { return driverNames.name(int(d)) }

// MarshalText implements [encoding.TextMarshaler].
func (d Driver) MarshalText() ([]byte, error) { return driverNames.marshal(int(d)) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Driver) UnmarshalText(text []byte) error {
	n, err := driverNames.parse("driver", text)
	*d = Driver(n)
	return err
}

// Drivers returns the words [Driver] reads.
func Drivers() []string { return slices.Clone(driverNames[1:]) }

// Model is the NIC a guest sees. The zero Model means virtio.
type Model int

// The NIC models.
const (
	// ModelVirtio is the paravirtual NIC: fast, many queues.
	ModelVirtio Model = iota
	// ModelE1000E is an emulated Intel 82574, for guests without virtio.
	ModelE1000E
	// ModelRTL8139 is an emulated Realtek 8139, for very old guests.
	ModelRTL8139
)

var modelNames = names{"virtio", "e1000e", "rtl8139"}

// String returns libvirt's name of the model.
func (m Model) String() string { return modelNames.name(int(m)) }

// MarshalText implements [encoding.TextMarshaler].
func (m Model) MarshalText() ([]byte, error) { return modelNames.marshal(int(m)) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *Model) UnmarshalText(text []byte) error {
	n, err := modelNames.parse("NIC model", text)
	*m = Model(n)
	return err
}

// Models returns the words [Model] reads.
func Models() []string { return slices.Clone(modelNames) }

// FailurePolicy is what the hook does when it cannot wire a guest. The zero
// FailurePolicy refuses.
type FailurePolicy int

// The failure policies.
const (
	// FailureRefuse refuses to start the guest: it never runs half-wired.
	FailureRefuse FailurePolicy = iota
	// FailureWarn logs and lets the guest start.
	FailureWarn
)

var failureNames = names{"refuse", "warn"}

// String returns the word the spec uses.
func (p FailurePolicy) String() string { return failureNames.name(int(p)) }

// MarshalText implements [encoding.TextMarshaler].
func (p FailurePolicy) MarshalText() ([]byte, error) { return failureNames.marshal(int(p)) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *FailurePolicy) UnmarshalText(text []byte) error {
	n, err := failureNames.parse("failure policy", text)
	*p = FailurePolicy(n)
	return err
}

// FailurePolicies returns the words [FailurePolicy] reads.
func FailurePolicies() []string { return slices.Clone(failureNames) }

// Profile is what kind of machine a guest is to its network. The zero Profile is
// an ordinary guest.
type Profile int

// The profiles.
const (
	// ProfileGuest is a machine that speaks for itself only.
	ProfileGuest Profile = iota
	// ProfileAppliance is a router or a firewall: it forwards what others sent,
	// with their addresses, and may serve DHCP and advertise routes.
	ProfileAppliance
)

var profileNames = names{"guest", "appliance"}

// String returns the word the spec uses.
func (p Profile) String() string { return profileNames.name(int(p)) }

// MarshalText implements [encoding.TextMarshaler].
func (p Profile) MarshalText() ([]byte, error) { return profileNames.marshal(int(p)) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *Profile) UnmarshalText(text []byte) error {
	n, err := profileNames.parse("profile", text)
	*p = Profile(n)
	return err
}

// Profiles returns the words [Profile] reads.
func Profiles() []string { return slices.Clone(profileNames) }

// names maps the values of an enum, its indexes, to their words. An empty word
// is no value.
type names []string

func (ns names) name(value int) string {
	if value < 0 || value >= len(ns) || ns[value] == "" {
		return fmt.Sprintf("invalid(%d)", value)
	}
	return ns[value]
}

// marshal writes the invalid zero of an enum as nothing, so that records and
// reports of half-known things can still be written.
func (ns names) marshal(value int) ([]byte, error) {
	if value < 0 || value >= len(ns) {
		return nil, fmt.Errorf("no such value: %d", value)
	}
	return []byte(ns[value]), nil
}

func (ns names) parse(what string, text []byte) (int, error) {
	if i := slices.Index(ns, string(text)); i >= 0 {
		return i, nil
	}
	known := slices.DeleteFunc(slices.Clone(ns), func(s string) bool { return s == "" })
	return 0, fmt.Errorf("%q is no %s: want one of %s", text, what, strings.Join(known, ", "))
}
