// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
)

// commit carries the transaction out, and returns the configuration number that
// ovs-vswitchd must reach to have it in force.
func (d *Driver) commit(ctx context.Context, tx *transaction) (goal int, err error) {
	ops := append(tx.ops,
		ovsdb.Operation{Op: "mutate", Table: database, Where: []ovsdb.Condition{}, Mutations: []ovsdb.Condition{{"next_cfg", "+=", 1}}},
		ovsdb.Select(database, []ovsdb.Condition{}, "next_cfg"),
		ovsdb.Operation{Op: "comment", Comment: "virt-vnet: " + tx.String()})
	results, err := d.transact(ctx, ops...)
	if err != nil {
		return 0, err
	}
	rows, err := ovsdb.Rows[record](results, len(ops)-2)
	if err != nil || len(rows) != 1 {
		return 0, errors.Join(errors.New("OVSDB has no configuration number"), err)
	}
	return rows[0].NextCfg, nil
}

// inForce waits until ovs-vswitchd has reached the goal, and returns what it
// could not do. OVSDB itself waits, and answers once cur_cfg is there.
func (d *Driver) inForce(ctx context.Context, goal int, tx *transaction) error {
	behind := []ovsdb.Condition{{"cur_cfg", "<", goal}}
	results, err := d.transact(ctx,
		ovsdb.Operation{Op: "wait", Table: database, Where: behind, Columns: []string{"cur_cfg"}, Until: "==", Rows: []ovsdb.Row{}},
		readInterfaces([]ovsdb.Condition{{"error", "!=", ovsdb.Set[string]{}}}))
	if err != nil {
		return fmt.Errorf("wait for ovs-vswitchd to take up %s: %w", tx, err)
	}
	rows, err := ovsdb.Rows[record](results, 1)
	if err != nil {
		return fmt.Errorf("read errors of interfaces: %w", err)
	}
	var errs []error
	for _, r := range rows {
		if slices.Contains(tx.wired, r.Name) {
			errs = append(errs, d.refusal(ctx, r))
		}
	}
	return errors.Join(errs...)
}

// refusal is what ovs-vswitchd says about an interface.
func (d *Driver) refusal(ctx context.Context, i record) error {
	if _, err := d.links.LinkByName(ctx, i.Name); rtnl.IsGone(err) && !i.virtual() {
		return &switchcfg.PortError{Device: i.Name, Err: fmt.Errorf("%w: %s", switchcfg.ErrNoPort, i.Error.First())}
	}
	return &switchcfg.PortError{Device: i.Name, Err: fmt.Errorf("ovs-vswitchd refuses it: %s", i.Error.First())}
}
