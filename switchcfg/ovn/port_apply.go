// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// conflictTries bounds how often Apply looks again because somebody changed one
// of its ports between its look and its transaction.
const conflictTries = 3

// Apply implements [switchcfg.Driver]: one transaction of the northbound
// database, and one of this host's where a device must be plugged or its MTU
// changed, then the wait for ovn-controller. A plan that the northbound database
// refuses is not made at all; one that is not in force in time, or whose outcome
// is unknown because a database went away, counts as made.
func (d *Driver) Apply(ctx context.Context, plan switchcfg.Plan) ([]switchcfg.Change, error) {
	if plan.Empty() {
		return nil, nil
	}
	for range conflictTries {
		tx, err := d.prepare(ctx, plan)
		if err != nil {
			return nil, fmt.Errorf("switch %s: %w", d.name, err)
		}
		config, err := d.commit(ctx, tx)
		switch {
		case ovsdb.IsConflict(err):
			continue
		case errors.Is(err, switchcfg.ErrUnreachable):
			return plan.Changes, fmt.Errorf("switch %s: change %s: %w", d.name, tx, err)
		case err != nil:
			return nil, fmt.Errorf("switch %s: change %s: %w", d.name, tx, err)
		}
		if err := d.commitHere(ctx, tx); err != nil {
			return plan.Changes, fmt.Errorf("switch %s: change %s: %w", d.name, tx, err)
		}
		if err := d.inForce(ctx, tx, config); err != nil {
			return plan.Changes, fmt.Errorf("switch %s: %w", d.name, err)
		}
		return plan.Changes, nil
	}
	return nil, fmt.Errorf("switch %s: %w: its ports keep changing", d.name, switchcfg.ErrUnreachable)
}

// transaction is operations under construction.
type transaction struct {
	v       view
	chassis string
	all     []string // every device of the plan
	north   []ovsdb.Operation
	guards  int // how many of north only guard the rest
	here    []ovsdb.Operation
	// bound names the devices whose ports are to be bound to this chassis
	// afterwards, and later is set when one of them was before: then that it is
	// bound does not tell that the change is in force.
	bound []string
	later bool
}

// String names what the transaction changes.
func (tx *transaction) String() string { return "port " + strings.Join(tx.all, ", ") }

// prepare turns the plan into operations on the ports as they are.
func (d *Driver) prepare(ctx context.Context, plan switchcfg.Plan) (*transaction, error) {
	tx := &transaction{}
	var ports []switchcfg.LogicalPort
	for _, c := range plan.Changes {
		tx.all = append(tx.all, c.Device)
		for _, l := range []*switchcfg.LogicalPort{c.Before.Settings.Logical, c.After.Settings.Logical} {
			if l != nil {
				ports = append(ports, *l)
			}
		}
	}
	v, err := d.look(ctx, tx.all, ports)
	if err != nil {
		return nil, err
	}
	tx.v, tx.chassis = v, d.chassis
	for _, c := range plan.Changes {
		if err := d.admit(v, c); err != nil {
			return nil, fmt.Errorf("port %s: %w", c.Device, err)
		}
	}
	former, err := d.former(ctx, plan)
	if err = errors.Join(err, d.unlike(ctx, plan)); err != nil {
		return nil, err
	}
	for _, c := range plan.Changes {
		tx.guard(c)
	}
	tx.guards = len(tx.north)
	for _, r := range former {
		tx.mutate("Logical_Switch", ovsdb.Where("name", r.ExternalIDs[keyNetwork]), ovsdb.Condition{"ports", "delete", r.UUID})
	}
	tx.makeGroups(plan)
	for _, c := range plan.Changes {
		tx.change(c)
		tx.plug(c, d.name)
	}
	return tx, nil
}

// admit reports why the change cannot be made any more.
func (d *Driver) admit(v view, c switchcfg.Change) error {
	found, exists := d.port(v, c.Device)
	after := c.After.Settings.Logical
	switch {
	case !exists && c.After.Switch != "" && after != nil:
		return switchcfg.ErrNoPort
	case !exists:
		return nil // gone with its device; its logical port, if it is that guest's, goes too
	case after != nil && after.ID == "":
		return fmt.Errorf("network %s: the NIC has no interfaceid: want <virtualport type='openvswitch'>: virt-vnet apply",
			after.Network)
	}
	if found.Owner.IsZero() && found.Foreign == "" && after != nil {
		// Its logical port may be there already, under another name than the device's.
		if l := v.ports[after.ID]; l != nil {
			found.Owner = owner(l.ExternalIDs)
			if found.Owner.Guest == "" {
				found.Foreign = "logical port " + after.ID + ", which virt-vnet has not made"
			}
		}
	}
	if err := c.Admit(found); err != nil {
		return err
	}
	if after != nil && v.networks[after.Network].uuid == "" {
		return noNetwork(after.Network)
	}
	return nil
}

func noNetwork(name string) error {
	return fmt.Errorf("network %s: %w: OVN has no logical switch of that name that virt-vnet has made: virt-vnet apply",
		name, switchcfg.ErrNoSwitch)
}

// twins are the conditions of ports of other guests that have the MAC, or the
// address, of the port in the same network.
func twins(c switchcfg.Change) [][]ovsdb.Condition {
	l := c.After.Settings.Logical
	if l == nil {
		return nil
	}
	another := func(key, value string) []ovsdb.Condition {
		return []ovsdb.Condition{
			{"name", "!=", l.ID},
			{"external_ids", "includes", ovsdb.Dict{keyNetwork: l.Network, key: value}},
			{"external_ids", "excludes", ovsdb.Dict{keyGuest: c.After.Owner.Guest}},
		}
	}
	all := [][]ovsdb.Condition{another(keyMAC, c.After.Owner.MAC.String())}
	if l.Address.IsValid() {
		all = append(all, another(keyAddress, l.Address.String()))
	}
	return all
}

// unlike reports a port of another guest that has the MAC or the address of one
// of the plan.
func (d *Driver) unlike(ctx context.Context, plan switchcfg.Plan) error {
	var q questions
	var found error
	for _, c := range plan.Changes {
		for _, rows := range twins(c) {
			q.ask(ovsdb.Select("Logical_Switch_Port", rows, "name", "external_ids"), func(r record) {
				what := "MAC address " + c.After.Owner.MAC.String()
				if l := c.After.Settings.Logical; r.ExternalIDs[keyMAC] != c.After.Owner.MAC.String() {
					what = "address " + l.Address.String()
				}
				found = fmt.Errorf("port %s: network %s: %w: the %s is that of guest %s, logical port %s: give one of them another, "+
					"or if that guest is gone: ovn-nbctl lsp-del %s",
					c.Device, c.After.Settings.Logical.Network, switchcfg.ErrNotOwned, what, r.ExternalIDs[keyGuest], r.Name, r.Name)
			})
		}
	}
	if len(q.ops) == 0 {
		return nil
	}
	return errors.Join(q.answer(ctx, d.nb), found)
}

// former finds ports that the NICs of the plan had under other ids, which a crash
// of this host has left. Of a NIC that another host has under another id we can
// say nothing but that.
func (d *Driver) former(ctx context.Context, plan switchcfg.Plan) (left []record, err error) {
	var q questions
	var elsewhere error
	for _, c := range plan.Changes {
		l := c.After.Settings.Logical
		if l == nil || !l.Here {
			continue
		}
		rows := []ovsdb.Condition{{"name", "!=", l.ID}, {"external_ids", "includes", ovsdb.Dict{
			keyNetwork: l.Network, keyMAC: c.After.Owner.MAC.String(), keyGuest: c.After.Owner.Guest,
		}}}
		q.ask(ovsdb.Select("Logical_Switch_Port", rows, "_uuid", "name", "options", "external_ids"), func(r record) {
			if slices.Equal(chassisOf(r.Options), []string{d.chassis}) {
				left = append(left, r)
				return
			}
			elsewhere = fmt.Errorf("port %s: network %s: %w: chassis %s has this NIC as logical port %s, and here it is %s: "+
				"give it a fixed <parameters interfaceid='%[5]s'/>; if it does not run there: ovn-nbctl lsp-del %[5]s",
				c.Device, l.Network, switchcfg.ErrNotOwned, r.Options[keyChassis], r.Name, l.ID)
		})
	}
	return left, errors.Join(q.answer(ctx, d.nb), elsewhere)
}

// guard makes the transaction fail when what it goes by is no longer so.
func (tx *transaction) guard(c switchcfg.Change) {
	for _, l := range []*switchcfg.LogicalPort{c.Before.Settings.Logical, c.After.Settings.Logical} {
		if l == nil {
			continue
		}
		if found := tx.v.ports[l.ID]; found != nil {
			tx.wait("Logical_Switch_Port", ovsdb.Where("_uuid", found.UUID),
				ovsdb.Row{"external_ids": found.ExternalIDs, "options": found.Options})
		}
	}
	for _, rows := range twins(c) {
		tx.wait("Logical_Switch_Port", rows, nil)
	}
	if l := c.After.Settings.Logical; l != nil {
		tx.wait("Logical_Switch", ovsdb.Where("_uuid", tx.v.networks[l.Network].uuid), ovsdb.Row{"name": l.Network})
	}
}

// wait is the operation that fails, at once, unless the one row that is asked
// for is as given, or with nil there is no such row.
func (tx *transaction) wait(table string, rows []ovsdb.Condition, as ovsdb.Row) {
	now := 0
	op := ovsdb.Operation{Op: "wait", Table: table, Timeout: &now, Until: "==", Where: rows, Columns: []string{"_uuid"}, Rows: []ovsdb.Row{}}
	if as != nil {
		op.Columns, op.Rows = slices.Collect(maps.Keys(as)), []ovsdb.Row{as}
	}
	tx.north = append(tx.north, op)
}

// makeGroups makes the guard groups that the plan needs and that are not there.
// Two who do that at the same time have a conflict.
func (tx *transaction) makeGroups(plan switchcfg.Plan) {
	for _, g := range guardGroups() {
		needs := func(c switchcfg.Change) bool {
			return c.After.Settings.Logical != nil && wantedGroups(c.After.Settings.Guard)[g.name]
		}
		if tx.v.guards[g.name] != "" || !slices.ContainsFunc(plan.Changes, needs) {
			continue
		}
		ids := ovsdb.Dict{"virt-vnet": "guard"}
		acl := ovsdb.NamedUUID(g.name + "_acl")
		tx.north = append(tx.north,
			ovsdb.Operation{Op: "insert", Table: "ACL", Name: string(acl), Row: ovsdb.Row{
				"priority": highest, "direction": "from-lport", "action": "drop", "external_ids": ids,
				"match": fmt.Sprintf("inport == @%s && (%s)", g.name, g.match),
			}},
			ovsdb.Operation{Op: "insert", Table: "Port_Group", Name: g.name, Row: ovsdb.Row{
				"name": g.name, "external_ids": ids, "acls": acl,
			}})
	}
}

// highest is the priority that no other rule is before.
const highest = 32767

// change adds the operations of one change to the northbound database.
func (tx *transaction) change(c switchcfg.Change) {
	before, after := c.Before.Settings.Logical, c.After.Settings.Logical
	if before != nil && (after == nil || !after.Here || after.ID != before.ID) {
		if found := tx.v.ports[before.ID]; found != nil && owner(found.ExternalIDs).Guest == c.Before.Owner.Guest {
			tx.leave(found)
		}
	}
	if after == nil || !after.Here {
		return
	}
	tx.bound = append(tx.bound, c.Device)
	found, n := tx.v.ports[after.ID], tx.v.networks[after.Network]
	var id any
	if found == nil {
		name := ovsdb.NamedUUID(fmt.Sprintf("port%d", len(tx.north))) // no two have the same
		row := tx.row(c, &logical{}, n)
		row["name"] = after.ID
		tx.north = append(tx.north, ovsdb.Operation{Op: "insert", Table: "Logical_Switch_Port", Name: string(name), Row: row})
		found, id = &logical{}, name
	} else {
		tx.later = tx.later || slices.Contains(chassisOf(found.Options), tx.chassis)
		id = found.UUID
		tx.north = append(tx.north, ovsdb.Operation{
			Op: "update", Table: "Logical_Switch_Port", Where: ovsdb.Where("_uuid", found.UUID), Row: tx.row(c, found, n),
		})
	}
	if found.network != after.Network {
		if found.network != "" {
			tx.mutate("Logical_Switch", ovsdb.Where("name", found.network), ovsdb.Condition{"ports", "delete", id})
		}
		tx.mutate("Logical_Switch", ovsdb.Where("_uuid", n.uuid), ovsdb.Condition{"ports", "insert", id})
	}
	tx.regroup(c, found, id)
}

// row is the columns of the logical port.
func (tx *transaction) row(c switchcfg.Change, found *logical, n *network) ovsdb.Row {
	after := *c.After.Settings.Logical
	chassis := []string{tx.chassis}
	if after.Elsewhere == vnet.ToggleOn {
		chassis = chassisOf(found.Options)
		if !slices.Contains(chassis, tx.chassis) {
			chassis = append(chassis, tx.chassis)
		}
	}
	return ovsdb.Row{
		"addresses":      addresses(c.After.Owner.MAC, after, n.gives),
		"port_security":  security(c.After.Settings.Guard),
		"dhcpv4_options": n.dhcpv4,
		"dhcpv6_options": n.dhcpv6,
		"options":        request(found.Options, chassis),
		"external_ids":   mark(found.ExternalIDs, c.After.Owner, after.Address),
	}
}

// regroup puts the port into the groups that it belongs in.
func (tx *transaction) regroup(c switchcfg.Change, found *logical, id any) {
	network := c.After.Settings.Logical.Network
	in := wantedGroups(c.After.Settings.Guard)
	for _, g := range guardGroups() {
		switch is := slices.Contains(found.groups, g.name); {
		case in[g.name] && !is:
			tx.mutate("Port_Group", ovsdb.Where("name", g.name), ovsdb.Condition{"ports", "insert", id})
		case !in[g.name] && is:
			tx.mutate("Port_Group", ovsdb.Where("name", g.name), ovsdb.Condition{"ports", "delete", id})
		}
	}
	if old := vnet.GroupName(found.network); found.network != "" && found.network != network && slices.Contains(found.groups, old) {
		tx.mutate("Port_Group", ovsdb.Where("name", old), ovsdb.Condition{"ports", "delete", id})
	}
	if group := tx.v.networks[network].group; group != "" && !slices.Contains(found.groups, vnet.GroupName(network)) {
		tx.mutate("Port_Group", ovsdb.Where("_uuid", group), ovsdb.Condition{"ports", "insert", id})
	}
}

// leave gives up this chassis's part in a port: others keep it, and without
// others it is removed, from groups by the database itself.
func (tx *transaction) leave(found *logical) {
	others := slices.DeleteFunc(chassisOf(found.Options), func(name string) bool { return name == tx.chassis })
	if len(others) > 0 {
		tx.north = append(tx.north, ovsdb.Operation{
			Op: "update", Table: "Logical_Switch_Port", Where: ovsdb.Where("_uuid", found.UUID),
			Row: ovsdb.Row{"options": request(found.Options, others)},
		})
		return
	}
	tx.mutate("Logical_Switch", ovsdb.Where("name", found.network), ovsdb.Condition{"ports", "delete", found.UUID})
}

// plug adds the operations of one change to this host's OVSDB.
func (tx *transaction) plug(c switchcfg.Change, bridge string) {
	s := tx.v.devices[c.Device]
	after := c.After.Settings.Logical
	id := ""
	if after != nil {
		id = after.ID
	}
	mtu := c.After.Settings.MTU
	if mtu == c.Before.Settings.MTU {
		mtu = 0
	}
	switch {
	case s.port == nil && c.After.Switch == bridge && s.link.Exists():
		tx.plugIn(c, id, mtu)
		return
	case s.port == nil:
		return
	case s.bridge != c.After.Switch:
		tx.mutateHere(ovsdb.Where("name", s.bridge), ovsdb.Condition{"ports", "delete", s.port.UUID})
		if c.After.Switch == "" {
			return
		}
		tx.mutateHere(ovsdb.Where("name", c.After.Switch), ovsdb.Condition{"ports", "insert", s.port.UUID})
	}
	row := ovsdb.Row{}
	if id != "" && s.id() != id {
		ids := maps.Clone(s.iface.ExternalIDs)
		ids["iface-id"] = id
		row["external_ids"] = ids
	}
	if mtu != 0 {
		row["mtu_request"] = mtu
	}
	if len(row) > 0 {
		tx.here = append(tx.here, ovsdb.Operation{Op: "update", Table: "Interface", Where: ovsdb.Where("_uuid", s.iface.UUID), Row: row})
	}
}

// plugIn makes a device of the host a port, as libvirt does.
func (tx *transaction) plugIn(c switchcfg.Change, id string, mtu int) {
	n := len(tx.here) // no two have the same
	device, port := ovsdb.NamedUUID(fmt.Sprintf("interface%d", n)), ovsdb.NamedUUID(fmt.Sprintf("port%d", n))
	row := ovsdb.Row{"name": c.Device, "external_ids": ovsdb.Dict{
		"iface-id": id, "iface-status": "active", "attached-mac": c.After.Owner.MAC.String(), "vm-id": c.After.Owner.Guest,
	}}
	if mtu != 0 {
		row["mtu_request"] = mtu
	}
	tx.here = append(tx.here,
		ovsdb.Operation{Op: "insert", Table: "Interface", Name: string(device), Row: row},
		ovsdb.Operation{Op: "insert", Table: "Port", Name: string(port), Row: ovsdb.Row{
			"name": c.Device, "interfaces": device, "other_config": ovsdb.Dict{"transient": "true"},
		}})
	tx.mutateHere(ovsdb.Where("name", c.After.Switch), ovsdb.Condition{"ports", "insert", port})
}

func (tx *transaction) mutate(table string, rows []ovsdb.Condition, mutations ...ovsdb.Condition) {
	tx.north = append(tx.north, ovsdb.Operation{Op: "mutate", Table: table, Where: rows, Mutations: mutations})
}

func (tx *transaction) mutateHere(bridge []ovsdb.Condition, mutations ...ovsdb.Condition) {
	tx.here = append(tx.here, ovsdb.Operation{Op: "mutate", Table: "Bridge", Where: bridge, Mutations: mutations})
}

// Release implements [switchcfg.Releaser].
func (d *Driver) Release(ctx context.Context, guest string, ids []string) error {
	for range conflictTries {
		v, err := d.look(ctx, []string{}, wantedIDs(ids))
		if err != nil {
			return fmt.Errorf("switch %s: %w", d.name, err)
		}
		tx := &transaction{v: v, chassis: d.chassis, all: ids}
		for _, id := range ids {
			l := v.ports[id]
			if l == nil || owner(l.ExternalIDs).Guest != guest {
				continue
			}
			if chassis := chassisOf(l.Options); len(chassis) > 0 && !slices.Contains(chassis, d.chassis) {
				continue // it has moved, and is the other host's
			}
			tx.wait("Logical_Switch_Port", ovsdb.Where("_uuid", l.UUID), ovsdb.Row{"external_ids": l.ExternalIDs, "options": l.Options})
			tx.guards++
			tx.leave(l)
		}
		if _, err = d.commit(ctx, tx); !ovsdb.IsConflict(err) {
			if err != nil {
				return fmt.Errorf("switch %s: release %s: %w", d.name, tx, err)
			}
			return nil
		}
	}
	return fmt.Errorf("switch %s: %w: its ports keep changing", d.name, switchcfg.ErrUnreachable)
}

func wantedIDs(ids []string) []switchcfg.LogicalPort {
	all := make([]switchcfg.LogicalPort, len(ids))
	for i, id := range ids {
		all[i].ID = id
	}
	return all
}

// addressOf is the address among those of a port (see addresses).
func addressOf(list []string) netip.Addr {
	for _, entry := range list {
		for _, word := range strings.Fields(entry) {
			if a, err := netip.ParseAddr(word); err == nil {
				return a
			}
		}
	}
	return netip.Addr{}
}
