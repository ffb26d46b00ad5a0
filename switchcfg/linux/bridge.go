// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"context"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// ownSteps is what changes the bridge itself. The VLANs of the ports that are
// there, and the host's own, stay as they are when the default changes, which
// the kernel would take from them.
func (d *Driver) ownSteps(ctx context.Context, c switchcfg.Change, bridge link) ([]step, error) {
	before, after := given(c.Before.Settings.Bridge), given(c.After.Settings.Bridge)
	s, ok := encodeBridge(before, after, bridge)
	if !ok {
		return nil, nil
	}
	steps := []step{s}
	if before.DefaultPVID == after.DefaultPVID || !bridge.vlanAware {
		return steps, nil
	}
	ports, err := d.ports(ctx, bridge.Index)
	if err != nil {
		return nil, rtnl.Translate(err)
	}
	all, err := d.vlans(ctx, 0)
	if err != nil {
		return nil, rtnl.Translate(err)
	}
	for _, l := range append(ports, bridge) {
		steps = append(steps, keepSteps(l, all[l.Index], before.DefaultPVID.Value, after.DefaultPVID.Value)...)
	}
	return steps, nil
}

// given is the value of a pointer, or zero.
func given[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}

// encodeBridge is the message that changes a bridge's settings. VLAN filtering
// is the last to be turned on and the first to be turned off.
func encodeBridge(before, after vnet.Bridge, bridge link) (step, bool) {
	data := nl.NewRtAttr(unix.IFLA_INFO_DATA, nil)
	var what []string
	set := func(differs bool, name string, kind int, value []byte) {
		if differs {
			data.AddRtAttr(kind, value)
			what = append(what, "set "+name)
		}
	}
	set(before.STP != after.STP && after.STP != vnet.ToggleLeave, "stp", nl.IFLA_BR_STP_STATE, nl.Uint32Attr(uint32(boolByte(after.STP == vnet.ToggleOn))))
	set(before.Priority != after.Priority, "stp priority", nl.IFLA_BR_PRIORITY, nl.Uint16Attr(uint16(after.Priority.Value)))
	set(before.ForwardDelay != after.ForwardDelay, "forward delay", nl.IFLA_BR_FORWARD_DELAY, nl.Uint32Attr(uint32(after.ForwardDelay/userTick)))
	set(before.DefaultPVID != after.DefaultPVID, "default pvid", nl.IFLA_BR_VLAN_DEFAULT_PVID, nl.Uint16Attr(uint16(after.DefaultPVID.Value)))
	set(before.VLANFiltering != after.VLANFiltering && after.VLANFiltering != vnet.ToggleLeave, "vlan filtering",
		nl.IFLA_BR_VLAN_FILTERING, nl.Uint8Attr(boolByte(after.VLANFiltering == vnet.ToggleOn)))

	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	info.AddChild(data)
	m := rtnl.LinkMessage(unix.RTM_NEWLINK, unix.NLM_F_ACK, unix.AF_UNSPEC, bridge.Index)
	m.AddData(info)
	return step{bridge.Name, strings.Join(what, ", "), m}, len(what) > 0
}

// keepSteps puts a port back into the default VLAN that it is in, and takes it
// out of the new one that it is not in.
func keepSteps(l link, has []vlanEntry, from, to vnet.VLANID) []step {
	var steps []step
	for _, e := range has {
		if from != 0 && e.First == from && e.pvid {
			steps = append(steps, vlanStep(l, unix.RTM_SETLINK, "keep VLAN "+e.String(), []vlanEntry{e}))
		}
	}
	if to != 0 && !members(has).Contains(to) {
		steps = append(steps, vlanStep(l, unix.RTM_DELLINK, "keep out of VLAN "+single(to).String(), []vlanEntry{{VLANRange: single(to)}}))
	}
	return steps
}

// vlanStep changes the VLANs of a port, or of a bridge itself.
func vlanStep(l link, kind int, what string, list []vlanEntry) step {
	m := rtnl.LinkMessage(kind, unix.NLM_F_ACK, unix.AF_BRIDGE, l.Index)
	spec := vlanAttr(list)
	if l.kind == "bridge" && !l.ofBridge {
		spec.AddRtAttr(nl.IFLA_BRIDGE_FLAGS, nl.Uint16Attr(nl.BRIDGE_FLAGS_SELF))
	}
	m.AddData(spec)
	return step{l.Name, what, m}
}
