// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
	"github.com/virt-vnet/virt-vnet/switchcfg/firewall"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux/hostside"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// inspectLimit bounds how long a switch may take to say how it is doing: one
// that hangs is down. On a busy host it may take a while.
const inspectLimit = 10 * time.Second

// observe opens a switch and takes one look at it.
func observe(ctx context.Context, sw vnet.Switch) openSwitch {
	open := openSwitch{sw: sw}
	ctx, cancel := context.WithTimeout(ctx, inspectLimit)
	defer cancel()
	open.driver, open.err = drivers.OpenWith(ctx, sw, linux.WithHostJoiner(hostside.Join))
	if open.err != nil {
		return open
	}
	if open.state, open.err = open.driver.Observe(ctx, switchcfg.Scope{}); open.err != nil {
		return open
	}
	inspector, ok := open.driver.(switchcfg.Inspector)
	if !ok {
		return open
	}
	var found switchcfg.Condition
	if found, open.err = inspector.Inspect(ctx); open.err == nil {
		open.condition = &found
	}
	return open
}

// found is the switch as verify wants it.
func (open openSwitch) found(ctx context.Context) verify.Switch {
	out := verify.Switch{Switch: open.sw, Untagged: open.state.Untagged, Err: open.err}
	if ctx.Err() == nil {
		out.Fault = open.fault()
	}
	if open.condition != nil {
		out.Overlay = newOverlay(open.condition.Overlay)
	}
	if open.condition != nil && open.sw.Uplink != "" {
		uplink := open.condition.Uplink
		out.UplinkPort = &verify.UplinkPort{
			Device: uplink.Device, Link: uplink.Link, VLAN: open.inForce(uplink.VLAN),
			Forwarding: verify.Forwarding(open.condition.Forwarding[uplink.Device]),
		}
	}
	return out
}

// fault is what is wrong when Open vSwitch does not answer or lacks the bridge,
// as opposed to us not being permitted to ask. Of a Linux bridge the kernel's
// devices tell.
func (open openSwitch) fault() *verify.Fault {
	switch {
	case open.sw.Driver != vnet.DriverOVS:
	case errors.Is(open.err, switchcfg.ErrUnreachable):
		return &verify.Fault{
			Got: "Open vSwitch does not answer", Evidence: []string{open.err.Error()},
			Fix: "systemctl start openvswitch-switch   # on some systems: openvswitch",
		}
	case errors.Is(open.err, switchcfg.ErrNoSwitch):
		return &verify.Fault{
			Got: "no such bridge", Evidence: []string{open.err.Error()},
			Fix: "ovs-vsctl add-br " + open.sw.Name + " && virt-vnet repair",
		}
	}
	return nil
}

func newOverlay(found *switchcfg.Overlay) *verify.Overlay {
	if found == nil {
		return nil
	}
	out := &verify.Overlay{
		Chassis: found.Chassis, Control: found.Control, Unknown: found.Unknown, FlowsUnknown: found.FlowsUnknown,
		Registered: found.Registered, Ends: found.Ends, Astray: found.Astray,
	}
	for _, t := range found.Tunnels {
		out.Tunnels = append(out.Tunnels, verify.Tunnel(t))
	}
	return out
}

func newBinding(b switchcfg.Binding) verify.Binding {
	return verify.Binding{
		ID: b.ID, Known: b.Known, Chassis: b.Chassis, Requested: b.Requested,
		Installed: b.Installed, Lost: b.Lost, Peers: b.Peers,
	}
}

// port is what was seen of a device, or nil when the switch was not observed.
func (open openSwitch) port(device string) *verify.Port {
	if open.err != nil {
		return nil
	}
	found := open.state.Ports[device]
	out := &verify.Port{Switch: found.Switch, VLAN: open.inForce(found.Settings.VLAN), Isolated: found.Settings.Flags[switchcfg.FlagIsolated]}
	if open.condition != nil {
		out.Forwarding = verify.Forwarding(open.condition.Forwarding[device])
		refusal := open.condition.Refusals[device]
		out.Refused, out.RefusedRow = refusal.Reason, refusal.Row
		if o := open.condition.Overlay; o != nil {
			out.Binding = newBinding(o.Bindings[device])
		}
	}
	return out
}

// inForce is a port's membership, or nil on a bridge that does not filter VLANs,
// whatever its ports are members of.
func (open openSwitch) inForce(set *vnet.VLANSet) *vnet.VLANSet {
	if own := open.state.Ports[open.sw.Name].Settings.Bridge; own != nil && own.VLANFiltering == vnet.ToggleOff {
		return nil
	}
	return set
}

// compare fills in which other settings of the port are not as wanted.
func (open openSwitch) compare(port *verify.Port, want hooks.Want, device string) {
	found, there := open.state.Ports[device]
	switch {
	case port == nil || !there:
		return
	case want.Err != nil:
		port.DiffersErr = want.Err
		return
	case want.Note != "":
		port.NotOurs = want.Note
		return
	}
	differs, err := want.Differs(open.state, found)
	if err != nil {
		port.DiffersErr = err
		return
	}
	// These have rungs of their own.
	apart := []string{
		switchcfg.NameSwitch, switchcfg.NameVLAN, switchcfg.NameMTU, switchcfg.NameOwner, switchcfg.NameOwnerMAC,
		switchcfg.FlagIsolated.String(),
	}
	for _, s := range differs {
		if !slices.Contains(apart, s.Name) {
			port.Differs = append(port.Differs, verify.Setting{Name: s.Name, Want: s.To, Got: s.From})
		}
	}
}

// WatchDrops implements [verify.Switches].
func (col *collection) WatchDrops(
	ctx context.Context, ports []int, macs []vnet.MAC,
) (stop func(context.Context) ([]verify.Drop, error), err error) {
	trace, err := firewall.Start(ctx, ports, macs)
	if err != nil {
		return nil, err
	}
	before := col.guardDrops(ctx)
	return func(ctx context.Context) ([]verify.Drop, error) {
		found, err := trace.Stop(ctx)
		drops := make([]verify.Drop, len(found))
		for i, d := range found {
			drops[i] = newDrop(d)
		}
		return append(drops, since(before, col.guardDrops(ctx))...), err
	}, nil
}

// guardDrops is what guards have dropped on switches that count it themselves.
// What cannot be had names no rule.
func (col *collection) guardDrops(ctx context.Context) []switchcfg.GuardDrops {
	var all []switchcfg.GuardDrops
	for _, open := range col.switches {
		counter, ok := open.driver.(switchcfg.GuardCounter)
		if !ok || open.condition == nil || open.condition.Overlay == nil {
			continue
		}
		drops, err := counter.GuardDrops(ctx, open.condition.Overlay.Bindings)
		if err != nil {
			col.site.log.Info("verify: guards are not looked at", "err", err)
		}
		all = append(all, drops...)
	}
	return all
}

// since is what the guards dropped between the two, as drops of ARP and of IP, as
// a guard's counter does not tell which.
func since(before, after []switchcfg.GuardDrops) []verify.Drop {
	var drops []verify.Drop
	for _, now := range after {
		for _, b := range before {
			if b.Device == now.Device && b.Rule == now.Rule {
				now.Frames -= b.Frames
			}
		}
		device, err := net.InterfaceByName(now.Device)
		if now.Frames <= 0 || err != nil {
			continue
		}
		d := verify.Drop{In: device.Index, By: verify.DropByGuard, Place: now.Place, Rule: now.Rule, Frames: now.Frames}
		drops = append(drops, d)
		d.IP = true
		drops = append(drops, d)
	}
	return drops
}

func newDrop(d firewall.Drop) verify.Drop {
	out := verify.Drop{
		Source: d.Source, Target: d.Target, In: d.In, Sender: d.Sender, IP: d.IsIP(), By: verify.DropByBridge,
		Place: d.Place(), Rule: d.Rule, Fix: d.Fix(), Frames: d.Frames,
	}
	switch {
	case d.IsGuard():
		out.By = verify.DropByGuard
	case d.IsHost():
		out.By = verify.DropByHost
	}
	return out
}
