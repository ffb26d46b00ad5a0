// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"context"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Apply implements [switchcfg.Driver]. The kernel has every message in force
// when it answers. The error is [switchcfg.ErrNoPort] when a device is gone,
// and [switchcfg.ErrNotOwned] when somebody else took it meanwhile.
func (d *Driver) Apply(ctx context.Context, plan switchcfg.Plan) ([]switchcfg.Change, error) {
	bridge, err := d.bridge(ctx)
	if err != nil {
		return nil, err
	}
	var applied []switchcfg.Change
	for _, c := range plan.Changes {
		touched, err := d.change(ctx, c, bridge)
		if touched {
			applied = append(applied, c)
		}
		if err != nil {
			return applied, fmt.Errorf("switch %s: port %s: %w", d.name, c.Device, err)
		}
	}
	return applied, nil
}

// change makes one change. It reports whether anything was asked of the
// kernel: a refused message may have been carried out in part.
func (d *Driver) change(ctx context.Context, c switchcfg.Change, bridge link) (touched bool, err error) {
	l, err := d.link(ctx, c.Device)
	if err != nil {
		return false, fmt.Errorf("look it up: %w", rtnl.Translate(err))
	}
	found, err := d.port(ctx, bridge, l)
	if err != nil {
		return false, fmt.Errorf("look at its switch: %w", rtnl.Translate(err))
	}
	if err := c.Admit(found); err != nil {
		return false, err
	}
	master := bridge
	if c.After.Switch != d.name {
		if master, err = d.other(ctx, c.After.Switch); err != nil {
			return false, err
		}
	}
	for _, step := range encode(c, l, master) {
		if _, err := d.conn.Send(ctx, step.Message, 0); err != nil {
			return true, fmt.Errorf("%s: %w", step.what, rtnl.Translate(err))
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

// step is one message and what it does, for errors.
type step struct {
	what string
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
	if c.Before.Owner != c.After.Owner {
		m.Attr(unix.IFLA_IFALIAS, []byte(encodeMark(c.After.Owner)))
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
	return step{strings.Join(what, ", "), m}, len(what) > 0
}

func encodePort(before, after switchcfg.Settings, l, master link) []step {
	m := rtnl.LinkMessage(unix.RTM_SETLINK, unix.NLM_F_ACK, unix.AF_BRIDGE, l.Index)
	var what []string
	// bridge(8) marks the nested attribute; without the mark the kernel takes
	// it for the spanning tree state, its meaning before 2010.
	info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	set := func(kind int, name string, from, to vnet.Toggle) {
		if to != vnet.ToggleLeave && from != to {
			info.AddRtAttr(kind, nl.Uint8Attr(boolByte(to == vnet.ToggleOn)))
			what = append(what, fmt.Sprintf("set %s %s", name, to))
		}
	}
	set(nl.IFLA_BRPORT_ISOLATED, "isolated", before.Isolated, after.Isolated)
	set(nl.IFLA_BRPORT_LEARNING, "learning", before.Learning, after.Learning)
	set(nl.IFLA_BRPORT_UNICAST_FLOOD, "flood", before.Flood, after.Flood)
	set(nl.IFLA_BRPORT_GUARD, "bpdu guard", before.BPDUGuard, after.BPDUGuard)
	if len(what) > 0 {
		m.AddData(info)
	}
	add, remove := vlanChanges(before.VLAN, after.VLAN, master.defaultPVID)
	if len(add) > 0 {
		m.AddData(vlanAttr(add))
		what = append(what, "set VLAN "+after.VLAN.String())
	}
	var steps []step
	if len(what) > 0 {
		steps = append(steps, step{strings.Join(what, ", "), m})
	}
	if len(remove) > 0 {
		m := rtnl.LinkMessage(unix.RTM_DELLINK, unix.NLM_F_ACK, unix.AF_BRIDGE, l.Index)
		var list []vlanEntry
		for _, r := range remove {
			list = append(list, vlanEntry{VLANRange: r})
		}
		m.AddData(vlanAttr(list))
		steps = append(steps, step{"remove VLAN " + remove.String(), m})
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
	return add, subtract(had, members(add))
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
