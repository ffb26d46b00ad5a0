// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg

import (
	"context"
	"net/netip"

	"github.com/virt-vnet/virt-vnet/vnet"
)

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
	// FlowsUnknown says why it is not known whether ports have lost their flows, or
	// nil.
	FlowsUnknown error
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
	// Lost is whether they were, and somebody has removed them since.
	Lost bool
	// Cookie is that of the port's own flows, or zero when it is not known.
	Cookie uint64
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

// GuardCounter is a driver whose switch itself counts what guards drop.
type GuardCounter interface {
	// GuardDrops returns what the guards of these ports have dropped of what came in
	// by them, since they are there. The bindings are those of an [Overlay].
	GuardDrops(ctx context.Context, bindings map[string]Binding) ([]GuardDrops, error)
}

// GuardDrops is how many frames one rule of a port's guard has dropped.
type GuardDrops struct {
	Device string
	// Place is where the rule is, and Rule its text.
	Place, Rule string
	Frames      int
}

// Tracer is a driver that can tell what its switch does with a packet, without one.
type Tracer interface {
	Trace(ctx context.Context, p Packet) (Traced, error)
}

// Packet is one that comes in by a port of this host and opens a conversation: an
// ICMP echo request, or with a Port the SYN of a TCP connection to that.
type Packet struct {
	Device         string
	Source, Target vnet.MAC
	From, To       netip.Addr
	Port           uint16
}

// Traced is what becomes of a packet.
type Traced struct {
	// Delivered is whether it leaves by a port.
	Delivered bool
	// Stage is what dropped it otherwise, in the switch's words, and ACL the rule
	// of the network behind that, or nil.
	Stage string
	ACL   *ACL
}

// ACL is a rule between the guests of a network, as the switch has it.
type ACL struct {
	// ID is what the switch calls it, and Name what people do, if anything.
	ID, Name string
	// Direction, Match and Action are in the switch's words.
	Direction, Match, Action string
	Priority                 int
	// Network is that of the spec which has the rule, or empty for somebody else's.
	Network string
}

// Locator is a driver whose networks span hosts, and which can tell where on them
// guests are.
type Locator interface {
	// Locate returns where the logical ports of these NICs are, by their guest,
	// MAC and network, in the same order. One without a port is not Known.
	Locate(ctx context.Context, nics []Owner) ([]Binding, error)
}
