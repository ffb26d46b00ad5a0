// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
)

// commit carries the transaction out, and returns the configuration number that
// ovs-vswitchd must reach to have it in force.
func (d *Driver) commit(ctx context.Context, tx *transaction) (goal int, err error) {
	ops := append(tx.ops,
		operation{Op: "mutate", Table: database, Where: []condition{}, Mutations: []condition{{"next_cfg", "+=", 1}}},
		read(database, []condition{}, "next_cfg"),
		operation{Op: "comment", Comment: "virt-vnet: " + tx.String()})
	results, err := d.transact(ctx, ops...)
	if err != nil {
		return 0, err
	}
	rows, err := results.rows(len(ops) - 2)
	if err != nil || len(rows) != 1 {
		return 0, errors.Join(errors.New("OVSDB has no configuration number"), err)
	}
	return rows[0].NextCfg, nil
}

// isConflict reports whether a transaction failed because a port was changed,
// added or deleted between the look and the transaction.
func isConflict(err error) bool {
	var refused *opError
	return errors.As(err, &refused) && (refused.kind == "timed out" || refused.kind == "constraint violation" ||
		refused.kind == "referential integrity violation")
}

// inForce waits until ovs-vswitchd has reached the goal, and returns what it
// could not do. OVSDB itself waits, and answers once cur_cfg is there.
func (d *Driver) inForce(ctx context.Context, goal int, tx *transaction) error {
	behind := []condition{{"cur_cfg", "<", goal}}
	results, err := d.transact(ctx,
		operation{Op: "wait", Table: database, Where: behind, Columns: []string{"cur_cfg"}, Until: "==", Rows: []row{}},
		readInterfaces([]condition{{"error", "!=", set[string]{}}}))
	if err != nil {
		return fmt.Errorf("wait for ovs-vswitchd to take up %s: %w", tx, err)
	}
	rows, err := results.rows(1)
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
		return fmt.Errorf("port %s: %w: %s", i.Name, switchcfg.ErrNoPort, i.Error.first())
	}
	return fmt.Errorf("port %s: ovs-vswitchd refuses it: %s", i.Name, i.Error.first())
}
