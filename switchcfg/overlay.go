// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg

import "context"

// NetworkVantager is a driver of a switch on which networks are told apart by
// their names, and not by a VLAN.
type NetworkVantager interface {
	// OpenNetworkVantage makes a device of the host in the network, as
	// [Vantager] makes one in a VLAN. CloseVantage removes it with all that it
	// has elsewhere.
	OpenNetworkVantage(ctx context.Context, network string) (device string, err error)
	CloseVantage(ctx context.Context, device string) error
}

// Overlay is how a switch is doing whose networks span hosts, as far as this
// host, its chassis, goes.
type Overlay struct {
	// Chassis is what this host is called.
	Chassis string
	// Control says why nobody tells this host's switch what to do with frames,
	// or nil. What it was told before it goes on doing.
	Control error
	// Unknown says why the rest, and the bindings and tunnels, is not known, or
	// nil.
	Unknown error
	// Registered is whether the other hosts know of the chassis, and Ends the
	// addresses that they send to for it.
	Registered bool
	Ends       []string
	// Astray are those of Ends that this host does not have.
	Astray []string
	// Bindings are by the device, of those with a logical port.
	Bindings map[string]Binding
	Tunnels  []Tunnel
}

// Binding is where a logical port of this host is.
type Binding struct {
	// ID is the port's name.
	ID string
	// Known is whether there is a logical port of that name, and Chassis the one
	// that has it, or empty for none.
	Known   bool
	Chassis string
	// Requested is which chassis may have it. While a guest moves it is two.
	Requested []string
	// Installed is whether the flows of the port are in on this host.
	Installed bool
	// Peers are the other chassis that have ports of the same network.
	Peers []string
}

// Tunnel is the way to another chassis.
type Tunnel struct {
	// Chassis is the other end, and Remote its address, or empty when it has
	// none.
	Chassis, Remote string
	// Device is the port of the tunnel, or empty when there is none.
	Device string
	// Fault is what is wrong with it, or empty.
	Fault string
}
