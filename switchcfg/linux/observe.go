// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"context"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Observe implements [switchcfg.Driver]. With a scope it asks for the devices
// in it, one message each (two with VLANs), however many links the host has, and
// several messages at a time; without one it takes one dump.
func (d *Driver) Observe(ctx context.Context, scope switchcfg.Scope) (switchcfg.State, error) {
	bridge, links, err := d.links(ctx, scope)
	if err != nil {
		return switchcfg.State{}, err
	}
	state := switchcfg.State{Switch: d.name, MTU: bridge.MTU, Ports: make(map[string]switchcfg.Port, len(links))}
	if d.tagging() {
		state.Untagged = bridge.defaultPVID()
		uplink, err := d.uplink(ctx, bridge)
		if err != nil {
			return switchcfg.State{}, fmt.Errorf("switch %s: look at uplink %s: %w", d.name, d.sw.Uplink, rtnl.Translate(err))
		}
		state.Uplink = switchcfg.Uplink{Device: uplink.Name, Tag: uplink.tag}
		if uplink.Exists() && !slices.ContainsFunc(links, func(l link) bool { return l.Index == uplink.Index }) {
			links = append(links, uplink)
		}
	}
	for _, l := range links {
		port, err := d.port(ctx, bridge, l)
		if err != nil {
			return switchcfg.State{}, fmt.Errorf("switch %s: port %s: look at its switch: %w", d.name, l.Name, rtnl.Translate(err))
		}
		state.Ports[l.Name] = port
	}
	if err := d.addVLANs(ctx, state, links, scope); err != nil {
		return switchcfg.State{}, err
	}
	return state, d.addElsewhere(ctx, state, links, scope)
}

// links returns the bridge and the devices in scope that exist.
func (d *Driver) links(ctx context.Context, scope switchcfg.Scope) (bridge link, links []link, err error) {
	bridge, links, err = d.look(ctx, scope.Devices)
	if err != nil {
		return link{}, nil, err
	}
	if scope.Devices == nil {
		if links, err = d.ports(ctx, bridge.Index); err != nil {
			return link{}, nil, fmt.Errorf("switch %s: list ports: %w", d.name, rtnl.Translate(err))
		}
		if d.sw.Bridge.Owned {
			links = append(links, bridge)
		}
	}
	return bridge, slices.DeleteFunc(links, func(l link) bool { return !l.Exists() }), nil
}

// port is the link, as far as it tells by itself. Of a bridge's own port there
// are no settings but the bridge's.
func (d *Driver) port(ctx context.Context, bridge, l link) (switchcfg.Port, error) {
	if l.Index == bridge.Index {
		return switchcfg.Port{Device: l.Name, Index: l.Index, Switch: d.name, Settings: switchcfg.Settings{Bridge: &l.bridge}}, nil
	}
	m := parseMark(l.Alias)
	port := switchcfg.Port{
		Device: l.Name, Index: l.Index, Owner: m.owner, Carrier: l.Carrier, Foreign: m.foreign,
		Settings: switchcfg.Settings{MTU: l.MTU, Flags: l.flags, Guard: &switchcfg.Guard{}, QoS: &vnet.QoS{}},
	}
	switch l.Master {
	case 0:
	case bridge.Index:
		port.Switch = d.name
	default:
		other, err := d.conn.LinkByIndex(ctx, l.Master)
		if err != nil {
			return switchcfg.Port{}, err
		}
		port.Switch = other.Name
	}
	return port, nil
}

// addVLANs completes the ports of a Linux bridge with their VLANs.
func (d *Driver) addVLANs(ctx context.Context, state switchcfg.State, links []link, scope switchcfg.Scope) error {
	if !d.tagging() || len(links) == 0 {
		return nil
	}
	found := map[int][]vlanEntry{}
	if scope.Devices == nil {
		all, err := d.vlans(ctx, 0)
		if err != nil {
			return fmt.Errorf("switch %s: list VLANs: %w", d.name, rtnl.Translate(err))
		}
		found = all
	}
	for _, l := range links {
		if !l.ofBridge && l.Name != d.name {
			continue
		}
		if scope.Devices != nil {
			one, err := d.vlans(ctx, l.Index)
			if err != nil {
				return fmt.Errorf("switch %s: port %s: list VLANs: %w", d.name, l.Name, rtnl.Translate(err))
			}
			found[l.Index] = one[l.Index]
		}
		port := state.Ports[l.Name]
		port.Settings.VLAN = membership(found[l.Index])
		state.Ports[l.Name] = port
	}
	return nil
}

// link looks one device up.
func (d *Driver) link(ctx context.Context, name string) (link, error) {
	base, err := d.conn.LinkByName(ctx, name)
	if err != nil {
		return link{}, err
	}
	return parseLink(base)
}

// ports returns the devices that are ports of a bridge.
func (d *Driver) ports(ctx context.Context, bridge int) ([]link, error) {
	master := nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(bridge)))
	return d.dumpLinks(ctx, master, func(l rtnl.Link) bool { return l.Master == bridge })
}

// macvlans returns those on top of a bridge.
func (d *Driver) macvlans(ctx context.Context, bridge int) ([]link, error) {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, nl.NonZeroTerminated(kindMacvlan))
	return d.dumpLinks(ctx, info, func(l rtnl.Link) bool { return l.Lower == bridge })
}

// dumpLinks returns the devices that the kernel's filter lets through, and that are
// to be kept: kernels before 4.5 do not filter.
func (d *Driver) dumpLinks(ctx context.Context, filter *nl.RtAttr, keep func(rtnl.Link) bool) ([]link, error) {
	answers, err := d.conn.Dump(ctx, func() rtnl.Message {
		m := rtnl.LinkMessage(unix.RTM_GETLINK, unix.NLM_F_DUMP, unix.AF_UNSPEC, 0)
		m.Filter()
		m.AddData(filter)
		return m
	}, unix.RTM_NEWLINK)
	if err != nil {
		return nil, err
	}
	var links []link
	for _, answer := range answers {
		base, err := rtnl.ParseLink(answer)
		if err != nil {
			return nil, err
		}
		if !keep(base) {
			continue
		}
		l, err := parseLink(base)
		if err != nil {
			return nil, err
		}
		links = append(links, l)
	}
	return links, nil
}

// vlans returns the VLANs of one port, or of all ports and bridges with index
// 0, by the link's index.
func (d *Driver) vlans(ctx context.Context, index int) (map[int][]vlanEntry, error) {
	answers, err := d.conn.Dump(ctx, func() rtnl.Message {
		m := rtnl.NewMessage(unix.RTM_GETVLAN, unix.NLM_F_DUMP)
		m.AddRawData(vlanHeader(index))
		return m
	}, unix.RTM_NEWVLAN)
	if err != nil {
		return nil, err
	}
	found := map[int][]vlanEntry{}
	for _, answer := range answers {
		if err := parseVLANs(answer, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}
