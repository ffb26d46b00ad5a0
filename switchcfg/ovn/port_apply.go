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
	var conflict error
	for range conflictTries {
		tx, err := d.prepare(ctx, plan)
		if err != nil {
			return nil, fmt.Errorf("switch %s: %w", d.name, err)
		}
		config, err := d.commit(ctx, tx)
		switch {
		case ovsdb.IsConflict(err):
			conflict = err
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
	return nil, fmt.Errorf("switch %s: %w", d.name, ovsdb.Conflict("ports", conflict))
}

// transaction is operations under construction.
type transaction struct {
	v       view
	chassis string
	several bool     // chassis may have a port
	all     []string // every device of the plan
	north   []ovsdb.Operation
	guards  int // how many of north only guard the rest
	// mutations are where in north a column of some rows is mutated (see mutate).
	mutations map[string]int
	here      []ovsdb.Operation
	// bound names the devices whose ports are to be bound to this chassis
	// afterwards, and later is set when one of them was before: then that it is
	// bound does not tell that the change is in force.
	bound []string
	later bool
}

// String names what the transaction changes.
func (tx *transaction) String() string { return ovsdb.PortNames(tx.all) }

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
	tx.v, tx.chassis, tx.several = v, d.chassis, d.several()
	for _, c := range plan.Changes {
		if err := d.admit(v, c); err != nil {
			return nil, &switchcfg.PortError{Device: c.Device, Err: err}
		}
	}
	former, err := d.former(ctx, v, plan)
	if err = errors.Join(err, d.unlike(ctx, v, plan)); err != nil {
		return nil, err
	}
	for _, c := range plan.Changes {
		tx.guard(c)
	}
	tx.alone(plan)
	tx.guards = len(tx.north)
	for _, r := range former {
		tx.mutate("Logical_Switch", ovsdb.Where("name", r.ExternalIDs[keyNetwork]), "ports", "delete", r.UUID)
		tx.free(r.Name)
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
			found.Owner = l.ExternalIDs.Owner()
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
	if l := c.After.Settings.Logical; l != nil {
		tx.wait("Logical_Switch", ovsdb.Where("_uuid", tx.v.networks[l.Network].uuid), ovsdb.Row{"name": l.Network})
	}
}

// alone makes the transaction fail when somebody else has got the MAC or the
// address of a port; of many, when the guests of their networks are others now.
func (tx *transaction) alone(plan switchcfg.Plan) {
	var all [][]ovsdb.Condition
	networks := map[string]bool{}
	for _, c := range plan.Changes {
		all = append(all, twins(c)...)
		if l := c.After.Settings.Logical; l != nil {
			networks[l.Network] = true
		}
	}
	if len(all) <= manyTwins {
		for _, rows := range all {
			tx.wait(tablePort, rows)
		}
		return
	}
	for network := range networks {
		var seen []ovsdb.Row
		for _, r := range tx.v.all[network] {
			seen = append(seen, ovsdb.Row{"name": r.Name, "external_ids": r.ExternalIDs})
		}
		tx.wait(tablePort, []ovsdb.Condition{{"external_ids", "includes", ovsdb.Dict{keyNetwork: network}}}, seen...)
	}
}

// wait is the operation that fails, at once, unless the rows that are asked for
// are as given, all with the same columns; without any, unless there are none.
func (tx *transaction) wait(table string, rows []ovsdb.Condition, as ...ovsdb.Row) {
	now := 0
	op := ovsdb.Operation{Op: "wait", Table: table, Timeout: &now, Until: "==", Where: rows, Columns: []string{"_uuid"}, Rows: []ovsdb.Row{}}
	if len(as) > 0 {
		op.Columns, op.Rows = slices.Collect(maps.Keys(as[0])), as
	}
	tx.north = append(tx.north, op)
}

// makeGroups makes the rule groups that the plan needs and that are not there.
// Two who do that at the same time have a conflict.
func (tx *transaction) makeGroups(plan switchcfg.Plan) {
	for _, g := range ruleGroups() {
		needs := func(c switchcfg.Change) bool {
			return c.After.Settings.Logical != nil && wantedGroups(c.After.Settings)[g.name]
		}
		if tx.v.rules[g.name] != "" || !slices.ContainsFunc(plan.Changes, needs) {
			continue
		}
		ids := ovsdb.Dict{"virt-vnet": "guard"}
		group := ovsdb.Row{"name": g.name, "external_ids": ids}
		if g.match != "" {
			acl := ovsdb.NamedUUID(g.name + "_acl")
			tx.north = append(tx.north, ovsdb.Operation{Op: "insert", Table: tableACL, Name: string(acl), Row: ovsdb.Row{
				"priority": highest, "direction": g.direction, "action": "drop", "external_ids": ids, "match": g.match,
			}})
			group["acls"] = acl
		}
		tx.north = append(tx.north, ovsdb.Operation{Op: "insert", Table: tablePortGroup, Name: g.name, Row: group})
	}
}

// highest is the priority that no other rule is before.
const highest = 32767

// change adds the operations of one change to the northbound database.
func (tx *transaction) change(c switchcfg.Change) {
	before, after := c.Before.Settings.Logical, c.After.Settings.Logical
	if before != nil && (after == nil || !after.Here || after.ID != before.ID) {
		if found := tx.v.ports[before.ID]; found != nil && found.ExternalIDs.Owner().Guest == c.Before.Owner.Guest {
			tx.leave(before.ID, found)
		} else if found == nil {
			tx.free(before.ID)
		}
	}
	if after == nil || !after.Here {
		return
	}
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
			tx.mutate("Logical_Switch", ovsdb.Where("name", found.network), "ports", "delete", id)
		}
		tx.mutate("Logical_Switch", ovsdb.Where("_uuid", n.uuid), "ports", "insert", id)
	}
	tx.regroup(c, found, id)
	tx.limit(c, found)
	tx.isolate(c)
	tx.bind(c, found)
}

// bind waits for the port to be bound here, where it is to be.
func (tx *transaction) bind(c switchcfg.Change, found *logical) {
	if tx.several || tx.chassisFor(*c.After.Settings.Logical, found)[0] == tx.chassis {
		tx.bound = append(tx.bound, c.Device)
	}
}

// row is the columns of the logical port.
func (tx *transaction) row(c switchcfg.Change, found *logical, n *network) ovsdb.Row {
	after := *c.After.Settings.Logical
	return ovsdb.Row{
		"addresses":      addresses(c.After.Owner.MAC, after, n.gives),
		"port_security":  security(c.After.Settings.Guard),
		"dhcpv4_options": n.dhcpv4,
		"dhcpv6_options": n.dhcpv6,
		"options":        request(found.Options, tx.chassisFor(after, found), tx.several),
		"external_ids":   mark(found.ExternalIDs, c.After.Owner, after.Address),
	}
}

// chassisFor are the chassis of a port that is wired here, in their order.
func (tx *transaction) chassisFor(after switchcfg.LogicalPort, found *logical) []string {
	var chassis []string
	if after.Elsewhere == vnet.ToggleOn {
		chassis = chassisOf(found.Options)
	}
	if !slices.Contains(chassis, tx.chassis) {
		chassis = append(chassis, tx.chassis)
	}
	return chassis
}

// regroup puts the port into the groups that it belongs in.
func (tx *transaction) regroup(c switchcfg.Change, found *logical, id any) {
	network := c.After.Settings.Logical.Network
	in := wantedGroups(c.After.Settings)
	for _, g := range ruleGroups() {
		switch is := slices.Contains(found.groups, g.name); {
		case in[g.name] && !is:
			tx.mutate("Port_Group", ovsdb.Where("name", g.name), "ports", "insert", id)
		case !in[g.name] && is:
			tx.mutate("Port_Group", ovsdb.Where("name", g.name), "ports", "delete", id)
		}
	}
	if old := vnet.GroupName(found.network); found.network != "" && found.network != network && slices.Contains(found.groups, old) {
		tx.mutate("Port_Group", ovsdb.Where("name", old), "ports", "delete", id)
	}
	if group := tx.v.networks[network].group; group != "" && !slices.Contains(found.groups, vnet.GroupName(network)) {
		tx.mutate("Port_Group", ovsdb.Where("_uuid", group), "ports", "insert", id)
	}
}

// leave gives up this chassis's part in a port: others keep it, and without
// others it is removed with its rules, from groups by the database itself.
func (tx *transaction) leave(id string, found *logical) {
	others := slices.DeleteFunc(chassisOf(found.Options), func(name string) bool { return name == tx.chassis })
	if len(others) > 0 {
		tx.north = append(tx.north, ovsdb.Operation{
			Op: "update", Table: "Logical_Switch_Port", Where: ovsdb.Where("_uuid", found.UUID),
			Row: ovsdb.Row{"options": request(found.Options, others, tx.several)},
		})
		return
	}
	tx.mutate("Logical_Switch", ovsdb.Where("name", found.network), "ports", "delete", found.UUID)
	tx.free(id)
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

// mutate puts a row into, or takes it out of, the column of others. What is done
// to the same ones is one operation, for which their column is written once.
func (tx *transaction) mutate(table string, rows []ovsdb.Condition, column, mutator string, row any) {
	key := fmt.Sprint(table, rows, column, mutator)
	if at, ok := tx.mutations[key]; ok {
		m := tx.north[at].Mutations[0]
		tx.north[at].Mutations[0] = ovsdb.Condition{column, mutator, append(m[2].(ovsdb.Set[any]), row)}
		return
	}
	if tx.mutations == nil {
		tx.mutations = map[string]int{}
	}
	tx.mutations[key] = len(tx.north)
	tx.north = append(tx.north, ovsdb.Operation{
		Op: "mutate", Table: table, Where: rows, Mutations: []ovsdb.Condition{{column, mutator, ovsdb.Set[any]{row}}},
	})
}

func (tx *transaction) mutateHere(bridge []ovsdb.Condition, mutations ...ovsdb.Condition) {
	tx.here = append(tx.here, ovsdb.Operation{Op: "mutate", Table: "Bridge", Where: bridge, Mutations: mutations})
}

// Release implements [switchcfg.Releaser].
func (d *Driver) Release(ctx context.Context, guest string, ids []string) error {
	var conflict error
	for range conflictTries {
		v, err := d.look(ctx, []string{}, wantedIDs(ids))
		if err != nil {
			return fmt.Errorf("switch %s: %w", d.name, err)
		}
		tx := &transaction{v: v, chassis: d.chassis, several: d.several(), all: ids}
		for _, id := range ids {
			l := v.ports[id]
			if l == nil {
				tx.free(id) // of what others have left, who removed the port
				continue
			}
			if l.ExternalIDs.Owner().Guest != guest {
				continue
			}
			if chassis := chassisOf(l.Options); len(chassis) > 0 && !slices.Contains(chassis, d.chassis) {
				continue // it has moved, and is the other host's
			}
			tx.wait("Logical_Switch_Port", ovsdb.Where("_uuid", l.UUID), ovsdb.Row{"external_ids": l.ExternalIDs, "options": l.Options})
			tx.guards++
			tx.leave(id, l)
		}
		switch _, err = d.commit(ctx, tx); {
		case err == nil:
			return nil
		case !ovsdb.IsConflict(err):
			return fmt.Errorf("switch %s: release %s: %w", d.name, tx, err)
		}
		conflict = err
	}
	return fmt.Errorf("switch %s: %w", d.name, ovsdb.Conflict("ports", conflict))
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
