// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"context"
	"slices"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
)

// Handler does the work of the operations. A nil function does nothing.
type Handler struct {
	// Prepare is called before libvirt has made the guest's devices.
	Prepare func(context.Context, libvirtnet.Domain) error
	// Migrate is called first, on the host that a guest comes to from another. It
	// must print nothing: libvirt would take that for the guest's XML.
	Migrate func(context.Context, libvirtnet.Domain) error
	// Start is called when they are there and QEMU does not run yet.
	Start func(context.Context, libvirtnet.Domain) error
	// Started is called when the guest's CPUs run.
	Started func(context.Context, libvirtnet.Domain) error
	// Stopped is called when the guest is gone, and again when its devices
	// are too.
	Stopped func(context.Context, libvirtnet.Domain) error
	// Reconnect is called for each running guest when libvirt restarts.
	Reconnect func(context.Context, libvirtnet.Domain) error
	// Network is called with a network of ours that starts, and before a guest
	// gets a NIC in one.
	Network func(context.Context, libvirtnet.HookNetwork) error
	// PortCreated is called before a guest gets a NIC in a network, also at
	// hot-plug. The domain has that one NIC.
	PortCreated func(context.Context, libvirtnet.Domain) error
}

// OnFailure is what becomes of a failed operation. The zero OnFailure is
// invalid.
type OnFailure int

// The failure policies of operations.
const (
	// Refuse makes libvirt refuse what it was about to do, unless the policy
	// of the network concerned is to warn.
	Refuse OnFailure = iota + 1
	// Pass logs the failure and tells libvirt that all is well: a non-zero
	// exit code would kill a running guest, or nobody would look at it.
	Pass
)

// String returns "refuse" or "log, exit 0".
func (f OnFailure) String() string {
	switch f {
	case Refuse:
		return "refuse"
	case Pass:
		return "log, exit 0"
	}
	return "invalid"
}

// Operation is one row of the operation table.
type Operation struct {
	Driver string // libvirt's driver
	Name   string // libvirt's operation
	// Does says for people what virt-vnet does.
	Does      string
	OnFailure OnFailure

	pick  func(Handler) func(context.Context, libvirtnet.Domain) error
	parse func(payload []byte) (libvirtnet.Domain, error)
	wires bool // it brings ports to their wanted state
	learn bool // its payload says what there is to know of a network
}

// Operations returns the operation table. Whatever is not in it, virt-vnet does
// nothing at and exits with 0.
func Operations() []Operation {
	const unplug = "release the guest's ports, drop its record, take off the uplink what no port needs any more; fine when already gone"
	const portCheck = "check that the network's switch is up and can do what the network needs"
	return []Operation{
		{
			Driver: "qemu", Name: "prepare", OnFailure: Refuse, parse: libvirtnet.ParseDomain,
			Does: "check that the networks' switches are up and able to do what is needed (a damaged record of a network is looked at with the port, which may bring it anew); log what on the host spoils their traffic",
			pick: func(h Handler) func(context.Context, libvirtnet.Domain) error { return h.Prepare },
		},
		{
			Driver: "qemu", Name: "start", OnFailure: Refuse, parse: libvirtnet.ParseDomain, wires: true,
			Does: "set up bridges of ours and the VLANs of their uplinks, wire every NIC in networks of ours; undo all if one fails",
			pick: func(h Handler) func(context.Context, libvirtnet.Domain) error { return h.Start },
		},
		{
			Driver: "qemu", Name: "started", OnFailure: Pass, parse: libvirtnet.ParseDomain,
			Does: "note in the guest's record that it runs; have systemd start its check, when that was switched on",
			pick: func(h Handler) func(context.Context, libvirtnet.Domain) error { return h.Started },
		},
		{
			Driver: "qemu", Name: "stopped", OnFailure: Pass, parse: libvirtnet.ParseDomain, Does: unplug,
			pick: func(h Handler) func(context.Context, libvirtnet.Domain) error { return h.Stopped },
		},
		{
			Driver: "qemu", Name: "release", OnFailure: Pass, parse: libvirtnet.ParseDomain, Does: unplug,
			pick: func(h Handler) func(context.Context, libvirtnet.Domain) error { return h.Stopped },
		},
		{
			Driver: "qemu", Name: "reconnect", OnFailure: Pass, parse: libvirtnet.ParseDomain, wires: true,
			Does: "compare and rewire what drifted",
			pick: func(h Handler) func(context.Context, libvirtnet.Domain) error { return h.Reconnect },
		},
		{
			Driver: "qemu", Name: "migrate", OnFailure: Pass, parse: libvirtnet.ParseDomain,
			Does: "note that the guest comes from another host, with which it shares its ports on OVN until it runs here; the XML passes unchanged",
			pick: func(h Handler) func(context.Context, libvirtnet.Domain) error { return h.Migrate },
		},
		{Driver: "qemu", Name: "restore", OnFailure: Pass, Does: "nothing: the XML passes unchanged"},
		{
			Driver: "network", Name: "started", OnFailure: Pass, learn: true,
			Does: "keep the record of a network of ours that another machine has defined here",
		},
		{
			Driver: "network", Name: "port-created", OnFailure: Refuse, parse: parsePort, Does: portCheck, learn: true,
			pick: func(h Handler) func(context.Context, libvirtnet.Domain) error { return h.PortCreated },
		},
		{
			Driver: "network", Name: "plugged", OnFailure: Refuse, parse: parsePort, learn: true, Does: portCheck + " (libvirt before 5.5)",
			pick: func(h Handler) func(context.Context, libvirtnet.Domain) error { return h.PortCreated },
		},
	}
}

// operation returns the row for ev, or one that does nothing.
func operation(ev Event) Operation {
	ops := Operations()
	i := slices.IndexFunc(ops, func(op Operation) bool { return op.Driver == ev.Driver && op.Name == ev.Operation })
	if i < 0 {
		return Operation{Driver: ev.Driver, Name: ev.Operation, OnFailure: Pass, Does: "nothing"}
	}
	return ops[i]
}

// needsPayload reports whether the operation is about what libvirt says on stdin.
func (op Operation) needsPayload() bool { return op.pick != nil || op.learn }

// run calls the handler for ev.
func (op Operation) run(ctx context.Context, h Handler, ev Event) error {
	if op.learn && h.Network != nil {
		network, err := libvirtnet.ParseHookNetwork(ev.Payload)
		if err == nil {
			err = h.Network(ctx, network)
		}
		if err != nil {
			return err
		}
	}
	if op.pick == nil {
		return nil
	}
	handle := op.pick(h)
	if handle == nil {
		return nil
	}
	dom, err := op.parse(ev.Payload)
	if err != nil {
		return err
	}
	return handle(ctx, dom)
}
