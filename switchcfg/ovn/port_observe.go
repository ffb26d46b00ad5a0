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
	rules    map[string]ovsdb.UUID // the rule groups that exist
	// limits and isolations are the rules of a port, by its id: QoS and ACLs.
	limits, isolations map[string][]record
	all                map[string][]record // the ports of a network, where a plan is about many
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
	v := view{devices: map[string]*seen{}, ports: map[string]*logical{}, networks: map[string]*network{}, rules: map[string]ovsdb.UUID{}, limits: map[string][]record{}, isolations: map[string][]record{}, all: map[string][]record{}}
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
	rows := named(devices)
	if devices == nil {
		rows = allRows
	}
	var q questions
	q.among("Port", rows, []string{"_uuid", "name"}, func(r record) { ports[r.Name] = &r })
	q.among("Interface", rows, []string{"_uuid", "name", "type", "external_ids"}, func(r record) { ifaces[r.Name] = &r })
	return ports, ifaces, q.answer(ctx, d.local)
}

// lookBridges finds the switches of the devices.
func (d *Driver) lookBridges(ctx context.Context, v view) error {
	held := map[ovsdb.UUID]func(string){}
	for name, s := range v.devices {
		switch {
		case s.port != nil:
			held[s.port.UUID] = func(bridge string) { s.bridge = bridge }
		case s.link.Master != 0:
			master, err := d.links.LinkByIndex(ctx, s.link.Master)
			if err != nil {
				return fmt.Errorf("%s: %w", name, rtnl.Translate(err))
			}
			s.bridge = master.Name
		}
	}
	var q questions
	q.holders("Bridge", held)
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
	wanted := set(ids)
	var q questions
	q.among(tablePort, named(ids), []string{
		"_uuid", "name", "external_ids", "options", "addresses", "port_security", "dhcpv4_options", "dhcpv6_options",
	}, func(r record) {
		if wanted[r.Name] {
			v.ports[r.Name] = &logical{record: r}
			networks = append(networks, r.ExternalIDs[keyNetwork])
		}
	})
	d.askRules(&q, v, ids)
	if err := q.answer(ctx, d.nb); err != nil {
		return fmt.Errorf("read logical ports: %w", err)
	}
	return d.lookAround(ctx, v, unique(networks))
}

// askRules asks for the rules of these ports.
func (d *Driver) askRules(q *questions, v view, ids []string) {
	rows := make([][]ovsdb.Condition, len(ids))
	for i, id := range ids {
		rows[i] = []ovsdb.Condition{{"external_ids", "includes", ovsdb.Dict{keyPort: id}}}
	}
	wanted := set(ids)
	into := func(rules map[string][]record) func(record) {
		return func(r record) {
			if id := r.ExternalIDs[keyPort]; wanted[id] {
				rules[id] = append(rules[id], r)
			}
		}
	}
	q.among(tableACL, rows, []string{"_uuid", "direction", "match", "action", "priority", "external_ids"}, into(v.isolations))
	if d.limits() {
		q.among(tableQoS, rows, []string{"_uuid", "direction", "match", "bandwidth", "external_ids"}, into(v.limits))
	}
}

// lookAround finds where the ports are, and what their networks have.
func (d *Driver) lookAround(ctx context.Context, v view, networks []string) error {
	var q questions
	switches, groups := map[ovsdb.UUID]func(string){}, map[ovsdb.UUID]func(string){}
	for _, l := range v.ports {
		switches[l.UUID] = func(name string) { l.network = name }
		groups[l.UUID] = func(name string) { l.groups = append(l.groups, name) }
	}
	q.holders(tableSwitch, switches)
	q.holders(tablePortGroup, groups)
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
	for _, g := range ruleGroups() {
		q.ask(ovsdb.Select("Port_Group", ovsdb.Where("name", g.name), "_uuid"), func(r record) { v.rules[g.name] = r.UUID })
	}
	if err := q.answer(ctx, d.nb); err != nil {
		return fmt.Errorf("read networks: %w", err)
	}
	return nil
}

// fewQuestions is up to how many rows are asked for one by one. A server goes over
// the whole table for each question, as it finds rows by _uuid only, so for more
// than that it is asked for all rows once.
const fewQuestions = 16

// allRows asks for every row.
var allRows = [][]ovsdb.Condition{{}}

// named are the rows with these names.
func named(names []string) [][]ovsdb.Condition {
	rows := make([][]ovsdb.Condition, len(names))
	for i, name := range names {
		rows[i] = ovsdb.Where("name", name)
	}
	return rows
}

// questions are read operations with what is to be done with each row.
type questions struct {
	ops  []ovsdb.Operation
	each []func(record)
}

func (q *questions) ask(op ovsdb.Operation, each func(record)) {
	q.ops, q.each = append(q.ops, op), append(q.each, each)
}

// among asks for rows of a table, and where they are many for all others, too.
func (q *questions) among(table string, rows [][]ovsdb.Condition, columns []string, each func(record)) {
	if len(rows) > fewQuestions {
		rows = allRows
	}
	for _, conditions := range rows {
		q.ask(ovsdb.Select(table, conditions, columns...), each)
	}
}

// holders asks which rows of a table have these in their column ports, and tells
// each the names.
func (q *questions) holders(table string, held map[ovsdb.UUID]func(name string)) {
	if len(held) > fewQuestions {
		q.ask(ovsdb.Select(table, []ovsdb.Condition{}, "name", "ports"), func(r record) {
			for _, port := range r.Ports {
				if tell := held[port]; tell != nil {
					tell(r.Name)
				}
			}
		})
		return
	}
	for port, tell := range held {
		q.ask(ovsdb.Select(table, []ovsdb.Condition{{"ports", "includes", port}}, "name"), func(r record) { tell(r.Name) })
	}
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
	port.Settings.Guard, port.Settings.QoS = &switchcfg.Guard{}, &vnet.QoS{}
	port.Settings.Flags[switchcfg.FlagIsolated] = vnet.ToggleOff
	l := v.ports[id]
	if l == nil {
		return
	}
	port.Owner = l.ExternalIDs.Owner()
	if port.Owner.Guest == "" {
		port.Owner, port.Foreign = switchcfg.Owner{}, "logical port "+id+", which virt-vnet has not made"
		return
	}
	port.Settings.Guard = guard(l.PortSecurity, l.groups)
	port.Settings.QoS = v.qos(id, l.network)
	isolated, whole := v.isolated(id, l)
	port.Settings.Flags[switchcfg.FlagIsolated] = vnet.ToggleOf(isolated)
	has := switchcfg.LogicalPort{ID: id, Network: l.network, Promiscuous: slices.Contains(l.Addresses, "unknown")}
	chassis := chassisOf(l.Options)
	has.Here = slices.Contains(chassis, d.chassis)
	has.Elsewhere = vnet.ToggleOf(slices.ContainsFunc(chassis, func(name string) bool { return name != d.chassis }))
	has.Address = addressOf(l.Addresses)
	n := v.networks[l.network]
	has.Joined = n != nil && whole && slices.Equal(l.DHCPv4, n.dhcpv4) && slices.Equal(l.DHCPv6, n.dhcpv6) &&
		(n.group == "" || slices.Contains(l.groups, vnet.GroupName(l.network))) &&
		slices.Equal(sorted(l.Addresses), sorted(addresses(port.Owner.MAC, has, n.gives)))
	port.Settings.Logical = &has
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }
