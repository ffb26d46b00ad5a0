// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg

import (
	"context"
	"errors"
	"fmt"
	"strconv"

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

// PortError is an error of one port. A driver returns it, alone or joined with
// others, where it knows that a plan fails for that port's sake.
type PortError struct {
	Device string
	Err    error
}

// Error returns "port vnet0: " and the error.
func (e *PortError) Error() string { return "port " + e.Device + ": " + e.Err.Error() }

// Unwrap returns the error without the port.
func (e *PortError) Unwrap() error { return e.Err }

// PortErrors names the ports of all [PortError] that err is made of.
func PortErrors(err error) (devices []string) {
	if of, ok := err.(*PortError); ok { //nolint:errorlint // the tree is walked here
		return []string{of.Device}
	}
	switch e := err.(type) { //nolint:errorlint // the tree is walked here
	case interface{ Unwrap() error }:
		return PortErrors(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			devices = append(devices, PortErrors(part)...)
		}
	}
	return devices
}

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

// Sweeper is a driver of a switch on which ports leave something behind when
// they end, because it is kept elsewhere than with the port.
type Sweeper interface {
	// Sweep removes what is left of the gone ports with these indices, however
	// many others there are. With nil it looks for all that is left of ports that
	// are gone, or no longer carry our mark. It changes no port.
	Sweep(ctx context.Context, gone []int) error
}

// Keeper is a driver of a switch that goes on having a port whose device is gone.
type Keeper interface {
	// Gone returns the ports of the switch that carry our mark and whose devices
	// are gone, which [Driver.Observe] does not tell of. [Driver.Apply] takes them
	// off the switch with a change to no switch, or, where the driver is one,
	// [Releaser.Release]. It changes nothing.
	Gone(ctx context.Context) (State, error)
}

// Releaser is a driver of a switch whose ports stay when their devices are gone,
// because they are in a network that spans hosts.
type Releaser interface {
	// Release removes the ports with these ids that carry the mark of the guest
	// and are on this host only, and gives up this host's part in those that are
	// on another, too. Ports that are gone are fine.
	Release(ctx context.Context, guest string, ids []string) error
}

// Examiner is a driver of a switch that needs more than itself to work.
type Examiner interface {
	// Examine reports what would keep ports from being as wanted, whose devices
	// need not exist yet. It changes nothing.
	Examine(ctx context.Context, want State) error
}

// Networker makes the networks of a switch on which they are more than a name:
// with their routers, DHCP and ACLs. It belongs to one goroutine at a time.
type Networker interface {
	// PlanNetworks returns what [Networker.ApplyNetworks] would change, a line
	// each. It changes nothing.
	PlanNetworks(ctx context.Context, t *vnet.Topology, names []string) ([]string, error)
	// ApplyNetworks makes the named networks as t has them, all or nothing, and
	// removes those of them that t does not have on this switch. What belongs to
	// networks that are not named stays as it is. It is idempotent.
	//
	// The error is [ErrNotOwned] where somebody else has made something of that
	// name, or has ports in what is to be removed, and [ErrUnreachable] when it
	// is not known whether the change was made: the next call finds out.
	//
	// undo puts everything back. It may be called after Close, which is then due
	// again.
	ApplyNetworks(ctx context.Context, t *vnet.Topology, names []string) (lines []string, undo func(context.Context) error, err error)
	// Close frees the connection.
	Close() error
}

// Adviser is a driver that knows what on a host spoils the traffic of a switch
// whatever its ports are like.
type Adviser interface {
	// Advise returns a line for each, with what would help. It changes nothing.
	Advise(ctx context.Context) ([]string, error)
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

// Feature is something a port, or the switch itself, can be asked to do that not
// every switch can.
type Feature string

// The features, besides those of the flags: see [Flag.Feature].
const (
	FeatureVLAN      Feature = "VLAN"
	FeatureTunnel    Feature = "VLAN tunnel"
	FeatureAntiSpoof Feature = "anti-spoofing"
	FeatureDHCPGuard Feature = "DHCP guard"
	FeatureRAGuard   Feature = "RA guard"
	FeatureInbound   Feature = "inbound rate"
	FeatureOutbound  Feature = "outbound rate"
	FeaturePriority  Feature = "priority"
	FeatureBridge    Feature = "settings of the bridge itself"
	FeatureMirror    Feature = "mirrors"
	FeatureExport    Feature = "flow export"
	FeatureBond      Feature = "bonds"
	FeatureTreePorts Feature = "ports of the spanning tree"
)

// Features returns every feature.
func Features() []Feature {
	list := []Feature{
		FeatureVLAN, FeatureTunnel, FeatureAntiSpoof, FeatureDHCPGuard, FeatureRAGuard,
		FeatureInbound, FeatureOutbound, FeaturePriority, FeatureBridge, FeatureMirror, FeatureExport, FeatureBond, FeatureTreePorts,
	}
	for f := range AllFlags() {
		list = append(list, f.Feature())
	}
	return list
}

// Capabilities is what a switch can do. The zero Capabilities can do all.
type Capabilities struct {
	// Switch is its name.
	Switch string
	// Missing has a reason for every feature that is not there, such as "this
	// kernel has no bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)".
	Missing map[Feature]string
	// Try finds out about a feature that takes an attempt, somewhere where it
	// does no harm, and returns the reason when it is not there. It is asked
	// when the feature is needed and not among the Missing. Nil means that there
	// is no more to know.
	Try func(context.Context, Feature) (reason string)
}

// Check returns an error that is [ErrUnsupported] when want asks for something
// that the switch cannot do, with the reason and the network that asks. It blocks
// where that has to be tried.
func (c Capabilities) Check(ctx context.Context, want State) error {
	tried := map[Feature]string{}
	for _, device := range want.Devices() {
		port := want.Ports[device]
		for _, need := range port.needs() {
			if reason := c.reason(ctx, need.feature, tried); reason != "" {
				return fmt.Errorf("%w: %s: %s; %s needs %s", ErrUnsupported, c.Switch, reason, port.asker(), need.what)
			}
		}
	}
	return nil
}

// reason is why the feature is not there, or nothing. What was tried is not
// tried again.
func (c Capabilities) reason(ctx context.Context, f Feature, tried map[Feature]string) string {
	if reason, missing := c.Missing[f]; missing || c.Try == nil {
		return reason
	}
	if _, done := tried[f]; !done {
		tried[f] = c.Try(ctx, f)
	}
	return tried[f]
}

type need struct {
	feature Feature
	what    string
}

// asker is who wants the port to be so.
func (p Port) asker() string {
	if p.Owner.Network == "" {
		return "the spec"
	}
	return "network " + p.Owner.Network
}

// needs lists what the port asks for beyond what any switch can do. Asking for
// a switch's default (no VLAN, not isolated) is no need.
func (p Port) needs() []need {
	var needs []need
	add := func(needed bool, feature Feature, what string) {
		if needed {
			needs = append(needs, need{feature, what})
		}
	}
	s := p.Settings
	add(s.VLAN != nil && !s.VLAN.IsZero(), FeatureVLAN, "VLAN "+vlanText(s.VLAN))
	add(s.VLAN != nil && s.VLAN.Service != 0, FeatureTunnel, "service_vlan: "+strconv.Itoa(int(given(s.VLAN).Service)))
	for f := range AllFlags() {
		add(s.Flags[f] != vnet.ToggleLeave && s.Flags[f] != f.Normal(), f.Feature(), f.setting(s.Flags[f]))
	}
	if g := s.Guard; g != nil {
		add(len(g.MACs) > 0, FeatureAntiSpoof, "anti_spoof: true")
		add(g.DHCP, FeatureDHCPGuard, "dhcp_guard: true")
		add(g.RA, FeatureRAGuard, "ra_guard: true")
	}
	if q := s.QoS; q != nil {
		add(q.Inbound.Bits != 0, FeatureInbound, "qos inbound: "+q.Inbound.Bits.String())
		add(q.Outbound.Bits != 0, FeatureOutbound, "qos outbound: "+q.Outbound.Bits.String())
		add(q.Priority != 0, FeaturePriority, fmt.Sprintf("qos priority: %d", q.Priority))
	}
	add(s.Bridge != nil, FeatureBridge, "its bridge settings")
	add(s.Bridge != nil && s.Bridge.VLANFiltering == vnet.ToggleOn, FeatureVLAN, "vlan_filtering: true")
	for _, m := range given(s.Monitoring).Mirrors {
		add(true, FeatureMirror, "mirror "+m.Name)
	}
	add(!given(s.Monitoring).Exports.IsZero(), FeatureExport, "sflow, netflow or ipfix")
	add(len(given(s.TreePorts).Ports) > 0, FeatureTreePorts, "stp_ports")
	add(!given(s.Bond).IsZero(), FeatureBond, "bond "+given(s.Bond).Name)
	return needs
}
