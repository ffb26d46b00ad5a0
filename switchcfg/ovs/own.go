// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
)

// What the spec asks of the bridge itself stands in columns of its row, and in
// rows of other tables that the bridge refers to. Those rows carry our mark,
// keySwitch with the bridge's name, and go when the bridge no longer does.

// Keys of external_ids of such rows.
const (
	keySwitch = "virt-vnet-switch"
	keyPorts  = "virt-vnet-ports" // of a Mirror, that the spec names
	keyFlood  = "virt-vnet-flood" // of a Mirror, for whose output_vlan it set flood_vlans
	keyMirror = "virt-vnet-mirror"
)

// own is the bridge itself, as OVSDB has it.
type own struct {
	bridge  ownRow
	mirrors []mirrorRow
	exports [3][]exportRow // in the order of exportTables
	// ports are those that mirrors refer to, and devices those that somebody asked
	// for and those that are ours, by name.
	ports      map[ovsdb.UUID]record
	devices    map[string]record
	interfaces map[string]interfaceRow
	// users are the ports of all bridges by the names that they take, if it is
	// about a bond.
	users map[string]seen
}

// ownRow is the row of a bridge, as far as it is about the bridge itself.
type ownRow struct {
	UUID           ovsdb.UUID
	Ports, Mirrors ovsdb.Set[ovsdb.UUID]
	Exports        [3]ovsdb.Set[ovsdb.UUID]
	Flood          ovsdb.Set[int]
	STP, RSTP      bool
	OtherConfig    ovsdb.Dict
}

var ownColumns = []string{"_uuid", "ports", "mirrors", "sflow", "netflow", "ipfix", "flood_vlans", "stp_enable", "rstp_enable", "other_config"}

// Column implements [ovsdb.Record].
func (r *ownRow) Column(name string) any {
	switch name {
	case "_uuid":
		return &r.UUID
	case "ports":
		return &r.Ports
	case "mirrors":
		return &r.Mirrors
	case "sflow":
		return &r.Exports[0]
	case "netflow":
		return &r.Exports[1]
	case "ipfix":
		return &r.Exports[2]
	case "flood_vlans":
		return &r.Flood
	case "stp_enable":
		return &r.STP
	case "rstp_enable":
		return &r.RSTP
	case "other_config":
		return &r.OtherConfig
	}
	return nil
}

// lookOwn reads the bridge itself, and which ports the devices are.
func (d *Driver) lookOwn(ctx context.Context, devices []string) (own, error) {
	ours := []ovsdb.Condition{{"external_ids", "includes", ovsdb.Dict{keySwitch: d.name}}}
	ops := []ovsdb.Operation{
		ovsdb.Select("Bridge", ovsdb.Where("name", d.name), ownColumns...),
		ovsdb.Select("Mirror", ours, mirrorColumns...),
		ovsdb.Select("Port", ours, portColumns...),
		ovsdb.Select("Interface", ours, interfaceColumns...),
		ovsdb.Select("Port", []ovsdb.Condition{{"external_ids", "includes", ovsdb.Dict{keyTree: d.name}}}, portColumns...),
	}
	for _, table := range exportTables {
		ops = append(ops, ovsdb.Select(table.name, ours, table.columns()...))
	}
	for _, device := range devices {
		ops = append(ops, ovsdb.Select("Port", ovsdb.Where("name", device), portColumns...))
	}
	results, err := d.transact(ctx, ops...)
	if err != nil {
		return own{}, fmt.Errorf("read the bridge itself: %w", err)
	}
	o, err := d.readOwn(results)
	if err == nil {
		err = o.readDevices(results)
	}
	if err == nil {
		err = d.lookMirrored(ctx, &o)
	}
	if err != nil {
		return own{}, fmt.Errorf("read the bridge itself: %w", err)
	}
	return o, nil
}

var portColumns = []string{"_uuid", "name", "external_ids", "interfaces", "bond_mode", "lacp", "other_config"}

// readOwn reads the answers of lookOwn, but for the devices.
func (d *Driver) readOwn(results ovsdb.Results) (own, error) {
	o := own{ports: map[ovsdb.UUID]record{}, devices: map[string]record{}, interfaces: map[string]interfaceRow{}}
	bridges, err := ovsdb.Rows[ownRow](results, 0)
	if err != nil || len(bridges) != 1 {
		return o, fmt.Errorf("%w: it is gone", switchcfg.ErrNoSwitch)
	}
	o.bridge = bridges[0]
	mirrors, err := ovsdb.Rows[mirrorRow](results, 1)
	if err != nil {
		return o, err
	}
	for _, m := range mirrors {
		if slices.Contains(o.bridge.Mirrors, m.UUID) {
			o.mirrors = append(o.mirrors, m)
		}
	}
	tunnels, err := ovsdb.Rows[interfaceRow](results, 3)
	if err != nil {
		return o, err
	}
	for _, t := range tunnels {
		o.interfaces[t.Name] = t
	}
	for i := range exportTables {
		if o.exports[i], err = ovsdb.Rows[exportRow](results, firstExport+i); err != nil {
			return o, err
		}
	}
	return o, nil
}

// firstExport is where the answers about exports begin.
const firstExport = 5

// readDevices reads the answers of lookOwn about ports of ours, and about
// the devices.
func (o *own) readDevices(results ovsdb.Results) error {
	add := func(index int) error {
		ports, err := ovsdb.Rows[record](results, index)
		for _, p := range ports {
			if slices.Contains(o.bridge.Ports, p.UUID) {
				o.devices[p.Name] = p
			}
		}
		return err
	}
	for _, ours := range []int{2, 4} {
		if err := add(ours); err != nil {
			return err
		}
	}
	for i := firstExport + len(exportTables); i < len(results); i++ {
		if err := add(i); err != nil {
			return err
		}
	}
	return nil
}

// lookMirrored reads the ports that mirrors refer to.
func (d *Driver) lookMirrored(ctx context.Context, o *own) error {
	var ops []ovsdb.Operation
	for _, m := range o.mirrors {
		for _, id := range slices.Concat(m.Source, m.Destination, m.Output) {
			ops = append(ops, ovsdb.Select("Port", ovsdb.Where("_uuid", id), portColumns...))
		}
	}
	if len(ops) == 0 {
		return nil
	}
	results, err := d.transact(ctx, ops...)
	if err != nil {
		return err
	}
	for i := range ops {
		ports, err := ovsdb.Rows[record](results, i)
		if err != nil {
			return err
		}
		for _, p := range ports {
			o.ports[p.UUID] = p
		}
	}
	return nil
}

// addOwn completes the ports with what the bridge itself is like, where the spec
// asks for that.
func (d *Driver) addOwn(ctx context.Context, scope switchcfg.Scope, ports map[string]switchcfg.Port) error {
	if !d.configured {
		return nil
	}
	o, err := d.lookOwn(ctx, nil)
	if err != nil {
		return err
	}
	for device, port := range ports {
		port.Settings.Mirrored = o.mirrored(device)
		ports[device] = port
	}
	if scope.Devices == nil || slices.Contains(scope.Devices, d.name) {
		port := switchcfg.Port{Device: d.name, Switch: d.name}
		port.Settings.Monitoring, port.Settings.Bridge = o.monitoring(), o.bridge.settings()
		port.Settings.Bond, port.Settings.TreePorts = o.bond(), o.treePorts()
		ports[d.name] = port
	}
	return nil
}

// monitoring is what the bridge shows of its traffic because of us.
func (o own) monitoring() *switchcfg.Monitoring {
	m := &switchcfg.Monitoring{Exports: o.flowExports()}
	for _, row := range o.mirrors {
		m.Mirrors = append(m.Mirrors, o.mirror(row))
	}
	slices.SortFunc(m.Mirrors, func(a, b switchcfg.Mirror) int { return cmp.Compare(a.Name, b.Name) })
	return m
}

// changesOwn reports whether the change is about the bridge itself.
func changesOwn(c switchcfg.Change) bool {
	after := c.After.Settings
	return after.Monitoring != nil || after.Bridge != nil || after.Bond != nil || after.TreePorts != nil
}

// studyOwn finds out what the changes of the plan to the bridge itself need.
func (d *Driver) studyOwn(ctx context.Context, plan switchcfg.Plan) (*own, error) {
	if !slices.ContainsFunc(plan.Changes, changesOwn) {
		return nil, nil //nolint:nilnil // none is needed
	}
	var devices []string
	bonds := false
	for _, c := range plan.Changes {
		if m := c.After.Settings.Monitoring; m != nil {
			for _, mirror := range m.Mirrors {
				devices = append(devices, mirror.Devices()...)
			}
		}
		if b := c.After.Settings.Bond; b != nil && !b.IsZero() {
			bonds = true
		}
		if t := c.After.Settings.TreePorts; t != nil {
			for _, p := range t.Ports {
				devices = append(devices, p.Device)
			}
		}
	}
	o, err := d.lookOwn(ctx, devices)
	if err == nil && bonds {
		o.users, err = d.users(ctx)
	}
	return &o, err
}

// changeOwn adds what the change does to the bridge itself.
func (tx *transaction) changeOwn(c switchcfg.Change, bridge string) error {
	if tx.own == nil {
		return nil
	}
	if to := c.After.Settings.Monitoring; to != nil {
		if err := tx.mirrors(to.Mirrors, bridge); err != nil {
			return err
		}
		if err := tx.flowExports(to.Exports, bridge); err != nil {
			return err
		}
	}
	if to := c.After.Settings.Bond; to != nil {
		if err := tx.setBond(*to, bridge); err != nil {
			return err
		}
	}
	if to := c.After.Settings.TreePorts; to != nil {
		if err := tx.setTreePorts(*to, bridge); err != nil {
			return err
		}
	}
	if to := c.After.Settings.Bridge; to != nil {
		tx.spanning(*to)
	}
	return nil
}
