// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Observe implements [switchcfg.Driver]: this host's OVSDB says which devices are
// on the integration bridge and what their ports are called, and the northbound
// database what those are.
func (d *Driver) Observe(ctx context.Context, scope switchcfg.Scope) (switchcfg.State, error) {
	v, err := d.look(ctx, scope.Devices, nil)
	if err != nil {
		return switchcfg.State{}, fmt.Errorf("switch %s: %w", d.name, err)
	}
	state := switchcfg.State{Switch: d.name, Ports: make(map[string]switchcfg.Port, len(v.devices))}
	for device := range v.devices {
		if port, exists := d.port(v, device); exists {
			state.Ports[device] = port
		}
	}
	return state, nil
}

// view is what is known of some devices, and of the networks that they are in.
type view struct {
	devices  map[string]*seen
	ports    map[string]*logical // by id
	networks map[string]*network
	guards   map[string]ovsdb.UUID // the guard groups that exist
}

// seen is what the host has under the name of a device.
type seen struct {
	link   rtnl.Link
	bridge string  // that has the port
	port   *record // nil when OVSDB does not know it
	iface  *record
}

// id is what the port of the device is called.
func (s seen) id() string {
	if s.iface == nil {
		return ""
	}
	return s.iface.ExternalIDs["iface-id"]
}

// exists reports whether there is a device, or something of Open vSwitch that
// needs none, such as a vhost-user socket.
func (s seen) exists() bool {
	return s.link.Exists() || s.iface != nil && strings.HasPrefix(s.iface.Type, "dpdk")
}

// logical is a logical switch port.
type logical struct {
	record

	network string // the logical switch that it is on
	groups  []string
}

// network is a network of ours, which is a logical switch.
type network struct {
	uuid           ovsdb.UUID // empty when there is none
	gives          bool       // addresses
	group          ovsdb.UUID // empty when there is none
	dhcpv4, dhcpv6 ovsdb.Set[ovsdb.UUID]
}

// look reads all there is to know of the devices, or of all devices on the
// bridge, and of the ports and networks that they have to do with besides those
// given.
func (d *Driver) look(ctx context.Context, devices []string, wanted []switchcfg.LogicalPort) (view, error) {
	v := view{devices: map[string]*seen{}, ports: map[string]*logical{}, networks: map[string]*network{}, guards: map[string]ovsdb.UUID{}}
	if err := d.lookHere(ctx, v, devices); err != nil {
		return v, err
	}
	var ids, networks []string
	for _, s := range v.devices {
		if id := s.id(); id != "" && s.bridge == d.name {
			ids = append(ids, id)
		}
	}
	for _, l := range wanted {
		ids, networks = append(ids, l.ID), append(networks, l.Network)
	}
	return v, d.lookNorth(ctx, v, unique(ids), networks)
}

func unique(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// lookHere asks this host's OVSDB, and the kernel.
func (d *Driver) lookHere(ctx context.Context, v view, devices []string) error {
	ports, ifaces, err := d.rowsHere(ctx, devices)
	if err != nil {
		return fmt.Errorf("read ports of this host: %w", err)
	}
	names := devices
	if devices == nil {
		names = slices.Collect(maps.Keys(ports))
	}
	links, err := d.links.LinksByName(ctx, names...)
	if err != nil {
		return fmt.Errorf("look devices up: %w", rtnl.Translate(err))
	}
	for i, name := range names {
		v.devices[name] = &seen{link: links[i], port: ports[name], iface: ifaces[name]}
	}
	if err := d.lookBridges(ctx, v); err != nil || devices != nil {
		return err
	}
	maps.DeleteFunc(v.devices, func(name string, s *seen) bool { // such as a tunnel
		return s.bridge != d.name || name == d.name || s.iface == nil || !s.exists()
	})
	return nil
}

// rowsHere reads the ports and interfaces of the devices, or all, by name.
func (d *Driver) rowsHere(ctx context.Context, devices []string) (ports, ifaces map[string]*record, err error) {
	ports, ifaces = map[string]*record{}, map[string]*record{}
	var q questions
	read := func(rows []ovsdb.Condition) {
		q.ask(ovsdb.Select("Port", rows, "_uuid", "name"), func(r record) { ports[r.Name] = &r })
		q.ask(ovsdb.Select("Interface", rows, "_uuid", "name", "type", "external_ids"), func(r record) { ifaces[r.Name] = &r })
	}
	if devices == nil {
		read([]ovsdb.Condition{})
	}
	for _, device := range devices {
		read(ovsdb.Where("name", device))
	}
	return ports, ifaces, q.answer(ctx, d.local)
}

// lookBridges finds the switches of the devices.
func (d *Driver) lookBridges(ctx context.Context, v view) error {
	var q questions
	for name, s := range v.devices {
		switch {
		case s.port != nil:
			mine := []ovsdb.Condition{{"ports", "includes", s.port.UUID}}
			q.ask(ovsdb.Select("Bridge", mine, "name"), func(r record) { s.bridge = r.Name })
		case s.link.Master != 0:
			master, err := d.links.LinkByIndex(ctx, s.link.Master)
			if err != nil {
				return fmt.Errorf("%s: %w", name, rtnl.Translate(err))
			}
			s.bridge = master.Name
		}
	}
	if err := q.answer(ctx, d.local); err != nil {
		return fmt.Errorf("read bridges of this host: %w", err)
	}
	return nil
}

// lookNorth asks the northbound database, first for the ports and then, as that
// takes their rows, for where they are.
func (d *Driver) lookNorth(ctx context.Context, v view, ids, networks []string) error {
	if len(ids) == 0 {
		return nil
	}
	var q questions
	for _, id := range ids {
		q.ask(ovsdb.Select("Logical_Switch_Port", ovsdb.Where("name", id), "_uuid", "name", "external_ids", "options",
			"addresses", "port_security", "dhcpv4_options", "dhcpv6_options"), func(r record) {
			v.ports[id] = &logical{record: r}
			networks = append(networks, r.ExternalIDs[keyNetwork])
		})
	}
	if err := q.answer(ctx, d.nb); err != nil {
		return fmt.Errorf("read logical ports: %w", err)
	}
	return d.lookAround(ctx, v, unique(networks))
}

// lookAround finds where the ports are, and what their networks have.
func (d *Driver) lookAround(ctx context.Context, v view, networks []string) error {
	var q questions
	for _, l := range v.ports {
		mine := []ovsdb.Condition{{"ports", "includes", l.UUID}}
		q.ask(ovsdb.Select("Logical_Switch", mine, "name"), func(r record) { l.network = r.Name })
		q.ask(ovsdb.Select("Port_Group", mine, "name"), func(r record) { l.groups = append(l.groups, r.Name) })
	}
	for _, name := range networks {
		n := &network{dhcpv4: ovsdb.Set[ovsdb.UUID]{}, dhcpv6: ovsdb.Set[ovsdb.UUID]{}}
		v.networks[name] = n
		ours := ovsdb.Condition{"external_ids", "includes", ovsdb.Dict{keyNetwork: name}}
		q.ask(ovsdb.Select("Logical_Switch", []ovsdb.Condition{{"name", "==", name}, ours}, "_uuid", "other_config"), func(r record) {
			n.uuid, n.gives = r.UUID, r.OtherConfig["subnet"] != "" || r.OtherConfig["ipv6_prefix"] != ""
		})
		q.ask(ovsdb.Select("Port_Group", ovsdb.Where("name", vnet.GroupName(name)), "_uuid"), func(r record) { n.group = r.UUID })
		q.ask(ovsdb.Select("DHCP_Options", []ovsdb.Condition{ours}, "_uuid", "cidr"), func(r record) {
			if strings.Contains(r.CIDR, ":") {
				n.dhcpv6 = ovsdb.Set[ovsdb.UUID]{r.UUID}
			} else {
				n.dhcpv4 = ovsdb.Set[ovsdb.UUID]{r.UUID}
			}
		})
	}
	for _, g := range guardGroups() {
		q.ask(ovsdb.Select("Port_Group", ovsdb.Where("name", g.name), "_uuid"), func(r record) { v.guards[g.name] = r.UUID })
	}
	if err := q.answer(ctx, d.nb); err != nil {
		return fmt.Errorf("read networks: %w", err)
	}
	return nil
}

// questions are read operations with what is to be done with each row.
type questions struct {
	ops  []ovsdb.Operation
	each []func(record)
}

func (q *questions) ask(op ovsdb.Operation, each func(record)) {
	q.ops, q.each = append(q.ops, op), append(q.each, each)
}

func (q *questions) answer(ctx context.Context, db *ovsdb.Client) error {
	if len(q.ops) == 0 {
		return nil
	}
	results, err := db.Transact(ctx, q.ops...)
	if err != nil {
		return err
	}
	for i, each := range q.each {
		rows, err := ovsdb.Rows[record](results, i)
		if err != nil {
			return fmt.Errorf("read %s: %w", q.ops[i].Table, err)
		}
		for _, r := range rows {
			each(r)
		}
	}
	return nil
}

// port is the device as a port, if it exists.
func (d *Driver) port(v view, device string) (switchcfg.Port, bool) {
	s := v.devices[device]
	if s == nil || !s.exists() {
		return switchcfg.Port{}, false
	}
	port := switchcfg.Port{Device: device, Index: s.link.Index, Switch: s.bridge, Settings: switchcfg.Settings{MTU: s.link.MTU}}
	if s.bridge == d.name {
		d.fill(&port, v, s.id())
	}
	return port, true
}

// fill says what the logical port of that id makes of the port.
func (d *Driver) fill(port *switchcfg.Port, v view, id string) {
	port.Settings.Guard = &switchcfg.Guard{}
	l := v.ports[id]
	if l == nil {
		return
	}
	port.Owner = owner(l.ExternalIDs)
	if port.Owner.Guest == "" {
		port.Owner, port.Foreign = switchcfg.Owner{}, "logical port "+id+", which virt-vnet has not made"
		return
	}
	port.Settings.Guard = guard(l.PortSecurity, l.groups)
	has := switchcfg.LogicalPort{ID: id, Network: l.network, Promiscuous: slices.Contains(l.Addresses, "unknown")}
	chassis := chassisOf(l.Options)
	has.Here = slices.Contains(chassis, d.chassis)
	has.Elsewhere = vnet.ToggleOf(slices.ContainsFunc(chassis, func(name string) bool { return name != d.chassis }))
	has.Address = addressOf(l.Addresses)
	n := v.networks[l.network]
	has.Joined = n != nil && slices.Equal(l.DHCPv4, n.dhcpv4) && slices.Equal(l.DHCPv6, n.dhcpv6) &&
		(n.group == "" || slices.Contains(l.groups, vnet.GroupName(l.network))) &&
		slices.Equal(sorted(l.Addresses), sorted(addresses(port.Owner.MAC, has, n.gives)))
	port.Settings.Logical = &has
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }
