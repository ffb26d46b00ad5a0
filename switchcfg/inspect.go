// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg

import (
	"context"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Inspector is a driver that can tell how its switch is doing, which no setting
// says.
type Inspector interface {
	// Inspect changes nothing and takes one look at all ports. The error is
	// [ErrUnreachable] when what moves the frames does not answer, also where
	// [Driver.Observe] still does.
	Inspect(ctx context.Context) (Condition, error)
}

// Condition is how a switch is doing.
type Condition struct {
	// Uplink is the port that leads to the device which the spec names.
	Uplink UplinkCondition
	// Forwarding is by the name of the port, of those of which it is known.
	Forwarding map[string]Forwarding
	// Refusals are by the name of the port, of those that the switch has been
	// given and does not take up. Nil means that there are none.
	Refusals map[string]Refusal
	// Overlay is nil on a switch whose networks are those of its host.
	Overlay *Overlay
}

// UplinkCondition is how the port of a switch that leads to the fabric is doing.
type UplinkCondition struct {
	// Device is the port's name: the device that the spec names, or the bond
	// that it is a member of. Empty means that the switch has no such port.
	Device string
	// Link is whether anything is at the other end, or [vnet.ToggleLeave]
	// where the kernel's device of that name tells.
	Link vnet.Toggle
	// VLAN is the port's membership, or nil on a switch without VLANs.
	VLAN *vnet.VLANSet
}

// Refusal is why a switch does not take up a port that it has been given. No
// frame passes such a port.
type Refusal struct {
	// Reason is in the switch's own words, such as "could not open network device
	// vnet3 (No such device)".
	Reason string
	// Row is where it says so, such as "Interface vnet3: ofport -1, link_state
	// none".
	Row string
}

// Forwarding is what spanning tree lets a port do.
type Forwarding struct {
	// State is that of IEEE 802.1D: forwarding, learning, listening, blocking
	// or disabled; or discarding, with IEEE 802.1w.
	State string
	// Left is how long it takes until the port forwards by itself, or zero
	// when it does, or when that is not known.
	Left time.Duration
}

// StateForwarding is the state of a port that passes frames.
const StateForwarding = "forwarding"
