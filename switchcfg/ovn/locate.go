// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"
	"fmt"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
)

var _ switchcfg.Locator = (*Driver)(nil)

// Locate implements [switchcfg.Locator]: the southbound database has the marks of
// logical ports, too.
func (d *Driver) Locate(ctx context.Context, nics []switchcfg.Owner) ([]switchcfg.Binding, error) {
	bindings, err := d.locate(ctx, nics)
	if err != nil {
		return nil, fmt.Errorf("switch %s: where guests of other hosts are bound: %w", d.name, err)
	}
	return bindings, nil
}

func (d *Driver) locate(ctx context.Context, nics []switchcfg.Owner) ([]switchcfg.Binding, error) {
	ctx, cancel := context.WithTimeout(ctx, southLimit)
	defer cancel()
	results, err := d.local.Transact(ctx, ovsdb.Select("Open_vSwitch", []ovsdb.Condition{}, "external_ids"))
	if err != nil {
		return nil, err
	}
	global, err := ovsdb.Rows[southRow](results, 0)
	if err != nil || len(global) != 1 {
		return nil, fmt.Errorf("read the chassis: %w", err)
	}
	south, err := d.southbound(ctx, global[0].ExternalIDs["ovn-remote"])
	if err != nil {
		return nil, err
	}
	defer south.Close() //nolint:errcheck // a connection that was only read from
	ops := []ovsdb.Operation{ovsdb.Select("Chassis", []ovsdb.Condition{}, "_uuid", "name")}
	for _, nic := range nics {
		ours := ovsdb.Dict{keyGuest: nic.Guest, keyMAC: nic.MAC.String(), keyNetwork: nic.Network}
		ops = append(ops, ovsdb.Select("Port_Binding", []ovsdb.Condition{{"external_ids", "includes", ours}}, "logical_port", "chassis", "options"))
	}
	if results, err = south.Transact(ctx, ops...); err != nil {
		return nil, err
	}
	chassis, err := ovsdb.Rows[southRow](results, 0)
	if err != nil {
		return nil, err
	}
	names := map[ovsdb.UUID]string{}
	for _, c := range chassis {
		names[c.UUID] = c.Name
	}
	list := make([]switchcfg.Binding, len(nics))
	for i := range nics {
		rows, err := ovsdb.Rows[southRow](results, 1+i)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			list[i] = switchcfg.Binding{
				ID: r.LogicalPort, Known: true, Chassis: names[r.Chassis.First()], Requested: chassisOf(r.Options),
			}
		}
	}
	return list, nil
}
