// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/guard"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// changesAtOnce is how many ports are looked at, and then changed, together.
const changesAtOnce = 16

// Apply implements [switchcfg.Driver]. The kernel has every message in force
// when it answers. The error is [switchcfg.ErrNoPort] when a device is gone,
// and [switchcfg.ErrNotOwned] when somebody else took it meanwhile.
//
// Several ports are changed with one system call. When the kernel refuses a
// change, those that were sent along with it are carried out all the same, and
// are among the applied.
func (d *Driver) Apply(ctx context.Context, plan switchcfg.Plan) ([]switchcfg.Change, error) {
	if len(plan.Changes) == 0 {
		_, err := d.bridge(ctx)
		return nil, err
	}
	var applied []switchcfg.Change
	for some := range slices.Chunk(plan.Changes, changesAtOnce) {
		w, errLook := d.steps(ctx, some)
		touched, err := d.send(ctx, w.steps)
		if err == nil && len(w.guards) > 0 {
			touched, err = true, d.setGuards(ctx, w.guards)
		}
		if touched {
			applied = append(applied, some[:w.admitted]...)
		}
		// What was sent comes first in the plan, and so does its error.
		if err == nil {
			err = errLook
		}
		if err != nil {
			return applied, err
		}
	}
	return applied, nil
}

// work is what carries out changes: messages about links, then one batch for the
// guards. admitted is how many of the changes that is.
type work struct {
	steps    []step
	guards   []guard.Port
	admitted int
}

// steps looks at the ports of changes and encodes what may be done to them, up
// to the first change that may not.
func (d *Driver) steps(ctx context.Context, changes []switchcfg.Change) (w work, err error) {
	devices := make([]string, len(changes))
	for i, c := range changes {
		devices[i] = c.Device
	}
	bridge, links, err := d.look(ctx, devices)
	if err != nil {
		return w, err
	}
	for i, c := range changes {
		more, err := d.admit(ctx, c, links[i], bridge)
		if err != nil {
			return w, fmt.Errorf("switch %s: port %s: %w", d.name, c.Device, err)
		}
		w.steps = append(w.steps, more...)
		if to := guardOf(links[i], c.After); !to.equal(guardOf(links[i], c.Before)) {
			w.guards = append(w.guards, to.Port)
		}
		w.admitted++
	}
	return w, nil
}

// admit finds out whether the change may be made to l, and encodes it.
func (d *Driver) admit(ctx context.Context, c switchcfg.Change, l, bridge link) ([]step, error) {
	if !l.Exists() {
		return nil, fmt.Errorf("look it up: %w", switchcfg.ErrNoPort)
	}
	if c.Device == d.name {
		return d.ownSteps(ctx, c, bridge)
	}
	found, err := d.port(ctx, bridge, l)
	if err != nil {
		return nil, fmt.Errorf("look at its switch: %w", rtnl.Translate(err))
	}
	if err := c.Admit(found); err != nil {
		return nil, err
	}
	master := bridge
	if c.After.Switch != d.name {
		if master, err = d.other(ctx, c.After.Switch); err != nil {
			return nil, err
		}
	}
	shaping, err := d.shapeSteps(ctx, l, qosOf(c.Before.Settings), qosOf(c.After.Settings))
	return append(encode(c, l, master), shaping...), err
}

// send sends steps and returns the first error. touched says that the kernel got
// any: a refused message may have been carried out in part.
func (d *Driver) send(ctx context.Context, steps []step) (touched bool, err error) {
	if err := ctx.Err(); err != nil || len(steps) == 0 {
		return false, err
	}
	messages := make([]rtnl.Message, len(steps))
	for i, s := range steps {
		messages[i] = s.Message
	}
	answers, err := d.conn.SendAll(ctx, messages, 0)
	if err != nil {
		return true, fmt.Errorf("switch %s: change ports: %w", d.name, rtnl.Translate(err))
	}
	for i, s := range steps {
		if err := d.translate(s, answers[i].Err); err != nil {
			return true, fmt.Errorf("switch %s: port %s: %s: %w", d.name, s.device, s.what, err)
		}
	}
	return true, nil
}

// other finds the bridge that an undone change gives its port back to. The zero
// link is no bridge at all.
func (d *Driver) other(ctx context.Context, name string) (link, error) {
	if name == "" {
		return link{}, nil
	}
	l, err := d.link(ctx, name)
	if rtnl.IsGone(err) {
		return link{}, fmt.Errorf("give it back to switch %s: %w", name, switchcfg.ErrNoSwitch)
	}
	if err != nil {
		return link{}, fmt.Errorf("look up switch %s: %w", name, rtnl.Translate(err))
	}
	return l, nil
}

// step is one message, and what it does to which device, for errors.
type step struct {
	device, what string
	rtnl.Message
}

// encode turns a change to a link into messages: the link itself, then its port
// settings with the VLANs it gains, then the VLANs it loses.
func encode(c switchcfg.Change, l, master link) []step {
	var steps []step
	if s, ok := encodeLink(c, l, master); ok {
		steps = append(steps, s)
	}
	if c.After.Switch == "" {
		return steps
	}
	before := c.Before.Settings
	if c.Before.Switch != c.After.Switch {
		before = switchcfg.Settings{} // a new port starts with the bridge's defaults
	}
	return append(steps, encodePort(before, c.After.Settings, l, master)...)
}

func encodeLink(c switchcfg.Change, l, master link) (step, bool) {
	m := rtnl.LinkMessage(unix.RTM_SETLINK, unix.NLM_F_ACK, unix.AF_UNSPEC, l.Index)
	var what []string
	if mtu := c.After.Settings.MTU; mtu != 0 && mtu != c.Before.Settings.MTU {
		m.Attr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu)))
		what = append(what, fmt.Sprintf("set mtu %d", mtu))
	}
	if alias := markOf(c.After.Owner, c.After.Settings); alias != markOf(c.Before.Owner, c.Before.Settings) {
		m.Attr(unix.IFLA_IFALIAS, []byte(alias.String()))
		what = append(what, "set alias")
	}
	if c.Before.Switch != c.After.Switch {
		m.Attr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(master.Index)))
		if master.Index == 0 {
			what = append(what, "take it off the switch")
		} else {
			what = append(what, "put it on switch "+master.Name)
		}
	}
	return step{l.Name, strings.Join(what, ", "), m}, len(what) > 0
}

func encodePort(before, after switchcfg.Settings, l, master link) []step {
	m := rtnl.LinkMessage(unix.RTM_SETLINK, unix.NLM_F_ACK, unix.AF_BRIDGE, l.Index)
	var what []string
	// bridge(8) marks the nested attribute; without the mark the kernel takes
	// it for the spanning tree state, its meaning before 2010.
	info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	for _, f := range flagAttrs {
		if to := after.Flags[f.flag]; to != vnet.ToggleLeave && before.Flags[f.flag] != to {
			info.AddRtAttr(int(f.attr), nl.Uint8Attr(boolByte(to == vnet.ToggleOn)))
			what = append(what, fmt.Sprintf("set %s %s", f.flag, to))
		}
	}
	if len(what) > 0 {
		m.AddData(info)
	}
	add, remove := vlanChanges(before.VLAN, after.VLAN, master.defaultPVID())
	if len(add) > 0 {
		m.AddData(vlanAttr(add))
		what = append(what, "set VLAN "+after.VLAN.String())
	}
	var steps []step
	if len(what) > 0 {
		steps = append(steps, step{l.Name, strings.Join(what, ", "), m})
	}
	if len(remove) > 0 {
		var list []vlanEntry
		for _, r := range remove {
			list = append(list, vlanEntry{VLANRange: r})
		}
		steps = append(steps, vlanStep(l, unix.RTM_DELLINK, "remove VLAN "+remove.String(), list))
		steps = append(steps, emptyQueue(l)...)
	}
	return steps
}

// emptyQueue drops the frames that wait in a tap for its guest. Libvirt makes
// the tap a port of the bridge, in its default VLAN, a while before we are asked:
// what was flooded there meanwhile would be the first that the guest reads. The
// kernel drops what no longer fits when it makes a tap's queue smaller, and
// nothing when the link goes down and up.
func emptyQueue(l link) []step {
	if l.kind != "tun" || l.QueueLength == 0 {
		return nil
	}
	var steps []step
	for _, length := range []int{0, l.QueueLength} {
		m := rtnl.LinkMessage(unix.RTM_SETLINK, unix.NLM_F_ACK, unix.AF_UNSPEC, l.Index)
		m.Attr(unix.IFLA_TXQLEN, nl.Uint32Attr(uint32(length)))
		steps = append(steps, step{l.Name, "empty its queue", m})
	}
	return steps
}

// vlanChanges is what a port gains and loses. The kernel gave it the bridge's
// default PVID when it joined; removing what is not there is no error.
func vlanChanges(before, after *vnet.VLANSet, defaultPVID vnet.VLANID) (add []vlanEntry, remove vnet.VLANRanges) {
	if after == nil || (before != nil && before.Equal(*after)) {
		return nil, nil
	}
	add = entries(*after)
	var had vnet.VLANRanges
	if before != nil {
		had = members(entries(*before))
	} else if defaultPVID != 0 {
		had = vnet.VLANRanges{single(defaultPVID)}
	}
	return add, had.Minus(members(add))
}

// vlanAttr is a list of VLANs, ranges as ranges.
func vlanAttr(list []vlanEntry) *nl.RtAttr {
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	add := func(flags uint16, id vnet.VLANID) {
		info := nl.BridgeVlanInfo{Flags: flags, Vid: uint16(id)}
		spec.AddRtAttr(nl.IFLA_BRIDGE_VLAN_INFO, info.Serialize())
	}
	for _, e := range list {
		var flags uint16
		if e.pvid {
			flags |= nl.BRIDGE_VLAN_INFO_PVID
		}
		if e.untagged {
			flags |= nl.BRIDGE_VLAN_INFO_UNTAGGED
		}
		if e.First == e.Last {
			add(flags, e.First)
			continue
		}
		add(flags|nl.BRIDGE_VLAN_INFO_RANGE_BEGIN, e.First)
		add(flags|nl.BRIDGE_VLAN_INFO_RANGE_END, e.Last)
	}
	return spec
}

func boolByte(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}
