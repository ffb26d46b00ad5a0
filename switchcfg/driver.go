// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg

import (
	"context"
	"errors"
	"fmt"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Errors that drivers translate theirs to. Test for them with [errors.Is].
var (
	// ErrNoSwitch means that the host has no switch of that name.
	ErrNoSwitch = errors.New("no such switch")
	// ErrNoPort means that the host has no device of that name.
	ErrNoPort = errors.New("no such port")
	// ErrNotOwned means that a port belongs to somebody else.
	ErrNotOwned = errors.New("not ours to change")
	// ErrUnsupported means that this switch or kernel cannot do it.
	ErrUnsupported = errors.New("not supported here")
	// ErrUnreachable means that what manages the switch does not answer.
	// Trying again later may help.
	ErrUnreachable = errors.New("does not answer")
	// ErrPermission means that the caller may not manage the switch.
	ErrPermission = errors.New("not permitted")
)

// Scope is the part of a switch to observe.
type Scope struct {
	// Devices names the ports of interest, on the switch or not. Nil means
	// every port of the switch.
	Devices []string
}

// Driver manages one switch. It belongs to one goroutine at a time.
type Driver interface {
	// Capabilities says what this switch and kernel can do. It is known once
	// the driver is open and touches nothing.
	Capabilities() Capabilities
	// Observe returns the ports in scope as they are and never changes the
	// switch. A device that does not exist is absent from the state; one that
	// exists but is no port of the switch is there with its own Switch, or
	// none. It takes one look, never a loop per port over the whole switch.
	Observe(ctx context.Context, scope Scope) (State, error)
	// Apply carries out plan and waits until it is in force. It is idempotent.
	// It returns the changes that were made, also on failure; a change that was
	// made in part counts as made. On failure it may leave the switch half
	// changed: the caller undoes with [Plan.Reverse] of what was applied.
	Apply(ctx context.Context, plan Plan) (applied []Change, err error)
	// Close frees the connection. It does not change the switch.
	Close() error
}

// Learned is one row of a switch's forwarding database: frames to MAC in VLAN
// go to Device.
type Learned struct {
	MAC    vnet.MAC    `json:"mac"`
	VLAN   vnet.VLANID `json:"vlan,omitempty"`
	Device string      `json:"device"`
}

// Learner is a driver that can tell what its switch has learned. All are.
type Learner interface {
	// Learned returns the forwarding database in one dump, without the
	// entries of the host's own devices.
	Learned(ctx context.Context) ([]Learned, error)
}

// Vantager is a driver that can lend a place to look from: a device of the host
// whose frames are in one VLAN of the switch, as a guest's would be.
type Vantager interface {
	// OpenVantage makes such a device, marked as ours, and brings it up. Zero
	// is the untagged VLAN. It first removes vantages that a crashed process
	// left behind. CloseVantage removes the device.
	OpenVantage(ctx context.Context, vlan vnet.VLANID) (device string, err error)
	CloseVantage(ctx context.Context, device string) error
}

// Feature is something a port can be asked to do that not every switch can.
type Feature string

// The features.
const (
	FeatureVLAN      Feature = "VLAN"
	FeatureIsolated  Feature = "isolated ports"
	FeatureLearning  Feature = "learning per port"
	FeatureFlood     Feature = "flood control per port"
	FeatureBPDUGuard Feature = "BPDU guard"
)

// Capabilities is what a switch can do. The zero Capabilities can do all.
type Capabilities struct {
	// Switch is its name.
	Switch string
	// Missing has a reason for every feature that is not there, such as "this
	// kernel has no bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)".
	Missing map[Feature]string
}

// Check returns an error that is [ErrUnsupported] when want asks for something
// that the switch cannot do, with the reason and the network that asks.
func (c Capabilities) Check(want State) error {
	for _, device := range want.Devices() {
		port := want.Ports[device]
		for _, need := range port.needs() {
			if reason, missing := c.Missing[need.feature]; missing {
				return fmt.Errorf("%w: %s: %s; network %s needs %s",
					ErrUnsupported, c.Switch, reason, port.Owner.Network, need.what)
			}
		}
	}
	return nil
}

type need struct {
	feature Feature
	what    string
}

// needs lists what the port asks for beyond what any switch can do. Asking for
// a switch's default (no VLAN, not isolated) is no need.
func (p Port) needs() []need {
	var needs []need
	s := p.Settings
	if s.VLAN != nil && !s.VLAN.IsZero() {
		needs = append(needs, need{FeatureVLAN, "VLAN " + s.VLAN.String()})
	}
	if s.Isolated == vnet.ToggleOn {
		needs = append(needs, need{FeatureIsolated, "isolated ports"})
	}
	if s.Learning == vnet.ToggleOff {
		needs = append(needs, need{FeatureLearning, "learning: false"})
	}
	if s.Flood == vnet.ToggleOff {
		needs = append(needs, need{FeatureFlood, "flood: false"})
	}
	if s.BPDUGuard == vnet.ToggleOn {
		needs = append(needs, need{FeatureBPDUGuard, "bpdu_guard: true"})
	}
	return needs
}
