// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// conflictTries bounds how often Apply looks again because somebody changed one
// of its ports between its look and its transaction.
const conflictTries = 3

// Apply implements [switchcfg.Driver]: one transaction, then the wait for
// ovs-vswitchd. A plan that OVSDB refuses is not made at all; one that
// ovs-vswitchd does not take up in time, or whose outcome is unknown because
// OVSDB went away, counts as made.
func (d *Driver) Apply(ctx context.Context, plan switchcfg.Plan) ([]switchcfg.Change, error) {
	if plan.Empty() {
		return nil, nil
	}
	var conflict error
	for try := range conflictTries {
		tx, err := d.prepare(ctx, plan, try > 0)
		if err != nil {
			return nil, fmt.Errorf("switch %s: %w", d.name, err)
		}
		made, err := d.carryOut(ctx, tx)
		if ovsdb.IsConflict(err) {
			conflict = err
			continue
		}
		if err == nil {
			err = errors.Join(d.checkInbound(ctx, plan), d.filter(ctx, plan, tx.seen))
		}
		if err != nil {
			err = fmt.Errorf("switch %s: %w", d.name, err)
		}
		if !made {
			return nil, err
		}
		return plan.Changes, err
	}
	return nil, fmt.Errorf("switch %s: %w", d.name, ovsdb.Conflict("ports", conflict))
}

// carryOut makes the transaction, if there is anything to do, and waits until it
// is in force. made says that it was, or may have been, made.
func (d *Driver) carryOut(ctx context.Context, tx *transaction) (made bool, err error) {
	if len(tx.ops) == 0 {
		return true, nil
	}
	if len(tx.first) > 0 {
		before := &transaction{ops: tx.first, all: tx.all}
		if _, err := d.carryOut(ctx, before); err != nil {
			return true, err
		}
	}
	goal, err := d.commit(ctx, tx)
	d.last.outdated = true
	if err != nil {
		return errors.Is(err, switchcfg.ErrUnreachable), fmt.Errorf("change %s: %w", tx, err)
	}
	if err := d.inForce(ctx, goal, tx); err != nil || !tx.remirrors {
		return true, err
	}
	return true, d.mirrorAnew(ctx)
}

// transaction is operations under construction.
type transaction struct {
	seen   view
	bridge ovsdb.UUID
	ops    []ovsdb.Operation
	// first are operations to be in force before the others: ovs-vswitchd does
	// not look whether the kernel still has what it once told it.
	first []ovsdb.Operation
	// all names every device of the plan.
	all []string
	// wired names the devices that are ports afterwards.
	wired []string
	// theirs are the QoS of ports of the plan that are somebody else's.
	theirs map[ovsdb.UUID]bool
	// own is the bridge itself, if the plan is about it.
	own *own
	// remirrors says that other frames are mirrored afterwards.
	remirrors bool
}

// String names what the transaction changes.
func (tx *transaction) String() string { return ovsdb.PortNames(tx.all) }

// prepare turns the plan into operations on the ports as they were seen last,
// or, when that was never or is out of date, as they are.
func (d *Driver) prepare(ctx context.Context, plan switchcfg.Plan, again bool) (*transaction, error) {
	tx := &transaction{}
	for _, c := range plan.Changes {
		tx.all = append(tx.all, c.Device)
	}
	v := d.last
	if again || !v.covers(tx.all) {
		var err error
		if v, err = d.look(ctx, switchcfg.Scope{Devices: tx.all}); err != nil {
			return nil, err
		}
	}
	ports, err := d.ports(ctx, v, tx.all)
	if err != nil {
		return nil, fmt.Errorf("look devices up: %w", err)
	}
	if tx.theirs, err = d.theirQoS(ctx, v, tx.all); err != nil {
		return nil, err
	}
	if tx.own, err = d.studyOwn(ctx, plan); err != nil {
		return nil, err
	}
	tx.seen, tx.bridge = v, v.bridge
	return tx, tx.fill(plan, ports, d.name)
}

// fill adds the operations of the plan to ports that are found to be like this.
func (tx *transaction) fill(plan switchcfg.Plan, ports map[string]switchcfg.Port, bridge string) error {
	tx.guard(tx.seen, bridge)
	guards := len(tx.ops)
	for _, c := range plan.Changes {
		s := tx.seen.ports[c.Device]
		found, exists := ports[c.Device]
		switch {
		case !exists && c.After.Switch != "":
			return &switchcfg.PortError{Device: c.Device, Err: switchcfg.ErrNoPort}
		case !exists && s.port == nil:
			continue // gone with its device
		case !exists:
			found = s.known(c.Device)
		}
		if err := c.Admit(found); err != nil {
			return &switchcfg.PortError{Device: c.Device, Err: err}
		}
		if err := tx.change(c, s, bridge); err != nil {
			return err
		}
	}
	if len(tx.ops) == guards {
		tx.ops = nil // all is done already
	}
	return nil
}

// change adds the operations of one change.
func (tx *transaction) change(c switchcfg.Change, s seen, bridge string) error {
	if c.Device == bridge {
		return tx.changeOwn(c, bridge)
	}
	if c.After.Switch != "" {
		tx.wired = append(tx.wired, c.Device)
	}
	if s.port == nil {
		if c.After.Switch == bridge {
			tx.add(c, bridge)
		}
		return nil
	}
	if s.bridge != c.After.Switch {
		tx.mutate(ovsdb.Where("name", s.bridge), ovsdb.Condition{"ports", "delete", s.port.UUID})
		if c.After.Switch == "" {
			return tx.shape(c, s, s.port.UUID)
		}
		tx.mutate(ovsdb.Where("name", c.After.Switch), ovsdb.Condition{"ports", "insert", s.port.UUID})
	}
	if columns := changed(c, s.port.ExternalIDs); len(columns) > 0 {
		tx.update("Port", s.port.UUID, columns)
	}
	if mtu := c.After.Settings.MTU; mtu != 0 && mtu != c.Before.Settings.MTU {
		tx.update("Interface", s.port.Interfaces.First(), ovsdb.Row{"mtu_request": mtu})
	}
	if tx.setMirrored(c, s.port.UUID, bridge) {
		tx.remirrors = true
	}
	return tx.shape(c, s, s.port.UUID)
}

// guard makes the transaction fail when the bridge or the ports to change are
// no longer the ones that were seen: on that bridge, and with that mark.
func (tx *transaction) guard(v view, bridge string) {
	holders := map[string]ovsdb.Set[ovsdb.UUID]{bridge: {}}
	for _, device := range tx.all {
		if s := v.ports[device]; s.port != nil {
			holders[s.bridge] = append(holders[s.bridge], s.port.UUID)
			tx.wait("Port", ovsdb.Where("_uuid", s.port.UUID), ovsdb.Row{"external_ids": s.port.ExternalIDs})
		}
	}
	for name, ports := range holders {
		tx.wait("Bridge", []ovsdb.Condition{{"name", "==", name}, {"ports", "includes", ports}}, ovsdb.Row{"name": name})
	}
	tx.wait("Bridge", ovsdb.Where("_uuid", v.bridge), ovsdb.Row{"name": bridge})
}

// wait is the operation that fails, at once, unless the one row that is asked
// for is as given.
func (tx *transaction) wait(table string, rows []ovsdb.Condition, as ovsdb.Row) {
	now := 0
	tx.ops = append(tx.ops, ovsdb.Operation{
		Op: "wait", Table: table, Timeout: &now, Until: "==",
		Where: rows, Columns: slices.Collect(maps.Keys(as)), Rows: []ovsdb.Row{as},
	})
}

// changed is the columns of Port that the change touches. It writes all of
// external_ids, with the keys of others, which the guard has made sure of.
func changed(c switchcfg.Change, ids ovsdb.Dict) ovsdb.Row {
	before, after := c.Before.Settings, c.After.Settings
	columns := ovsdb.Row{}
	if after.VLAN != nil && (before.VLAN == nil || !before.VLAN.Equal(*after.VLAN)) {
		columns = encode(*after.VLAN).row()
	}
	if isolated := after.Flags[switchcfg.FlagIsolated]; isolated != vnet.ToggleLeave && before.Flags[switchcfg.FlagIsolated] != isolated {
		columns["protected"] = isolated == vnet.ToggleOn
	}
	if to := remark(ids, c.After); !maps.Equal(to, ids) {
		columns["external_ids"] = to
	}
	return columns
}

// add makes a device of the host a port. Like the taps of libvirt it is
// transient: ovs-ctl forgets it at the next boot. A port without VLANs is
// untagged, and not the trunk of everything that Open vSwitch would make of it.
func (tx *transaction) add(c switchcfg.Change, bridge string) {
	n := len(tx.ops) // no two have the same
	device, port := ovsdb.NamedUUID(fmt.Sprintf("interface%d", n)), ovsdb.NamedUUID(fmt.Sprintf("port%d", n))
	vlan := c.After.Settings.VLAN
	if vlan == nil {
		vlan = &vnet.VLANSet{}
	}
	deviceRow := ovsdb.Row{"name": c.Device, "external_ids": interfaceIDs(c.After.Owner)}
	if mtu := c.After.Settings.MTU; mtu != 0 && mtu != c.Before.Settings.MTU {
		deviceRow["mtu_request"] = mtu
	}
	columns := encode(*vlan).row()
	columns["name"] = c.Device
	columns["interfaces"] = device
	columns["protected"] = c.After.Settings.Flags[switchcfg.FlagIsolated] == vnet.ToggleOn
	columns["external_ids"] = mark(c.After)
	columns["other_config"] = ovsdb.Dict{"transient": "true"}
	if inbound := qosOf(c.After.Settings).Inbound; inbound.Bits != 0 {
		columns["qos"] = tx.addQueue(c.Device, inbound)
	}
	tx.ops = append(tx.ops,
		ovsdb.Operation{Op: "insert", Table: "Interface", Name: string(device), Row: deviceRow},
		ovsdb.Operation{Op: "insert", Table: "Port", Name: string(port), Row: columns})
	tx.mutate(ovsdb.Where("_uuid", tx.bridge), ovsdb.Condition{"ports", "insert", port})
	tx.setMirrored(c, port, bridge) // a new port has ovs-vswitchd look at all flows
}

func (tx *transaction) update(table string, id ovsdb.UUID, columns ovsdb.Row) {
	tx.ops = append(tx.ops, ovsdb.Operation{Op: "update", Table: table, Where: ovsdb.Where("_uuid", id), Row: columns})
}

func (tx *transaction) mutate(bridge []ovsdb.Condition, mutations ...ovsdb.Condition) {
	tx.ops = append(tx.ops, ovsdb.Operation{Op: "mutate", Table: "Bridge", Where: bridge, Mutations: mutations})
}
