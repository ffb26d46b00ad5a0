// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"encoding/json"
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
	rows, err := rowsOf[struct {
		NextCfg int `json:"next_cfg"`
	}](results, len(ops)-2)
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
// could not do.
func (d *Driver) inForce(ctx context.Context, goal int, tx *transaction) error {
	if err := d.waitFor(ctx, goal); err != nil {
		return fmt.Errorf("wait for ovs-vswitchd to take up %s: %w", tx, err)
	}
	if len(tx.wired) == 0 {
		return nil
	}
	results, err := d.transact(ctx, readInterfaces([]condition{{"error", "!=", set[string]{}}}))
	if err != nil {
		return fmt.Errorf("read errors of interfaces: %w", err)
	}
	rows, err := rowsOf[interfaceRow](results, 0)
	if err != nil {
		return fmt.Errorf("read errors of interfaces: %w", err)
	}
	var errs []error
	for _, row := range rows {
		if slices.Contains(tx.wired, row.Name) {
			errs = append(errs, d.refusal(ctx, row))
		}
	}
	return errors.Join(errs...)
}

// refusal is what ovs-vswitchd says about an interface.
func (d *Driver) refusal(ctx context.Context, i interfaceRow) error {
	if _, err := d.links.LinkByName(ctx, i.Name); rtnl.IsGone(err) && !i.virtual() {
		return fmt.Errorf("port %s: %w: %s", i.Name, switchcfg.ErrNoPort, i.Error.first())
	}
	return fmt.Errorf("port %s: ovs-vswitchd refuses it: %s", i.Name, i.Error.first())
}

// waitFor waits until ovs-vswitchd has taken up configuration goal, or a later
// one.
func (d *Driver) waitFor(ctx context.Context, goal int) error {
	if d.conn == nil {
		return fmt.Errorf("OVSDB %w", switchcfg.ErrUnreachable)
	}
	err := d.conn.waitUpdates(ctx, func() bool { return d.conn.current >= goal })
	if errors.Is(err, switchcfg.ErrUnreachable) {
		_ = d.hangUp() // it is broken already
	}
	return err
}

// monitorID is the request ID, and the name, of the only monitor.
const monitorID = 0

// follow asks OVSDB to report cur_cfg, now and whenever it changes (RFC 7047,
// 4.1.5 and 4.1.6), for as long as the connection lasts. It does not wait for
// the answer, which comes before that to the next request.
func (c *conn) follow(ctx context.Context) error {
	defer c.bind(ctx)()
	wanted := map[string]any{database: map[string]any{"columns": []string{"cur_cfg"}}}
	err := c.send(outgoing{ID: monitorID, Method: "monitor", Params: []any{database, monitorID, wanted}})
	if err != nil {
		return c.broken(ctx, err)
	}
	return nil
}

// configUpdate is a table-updates object (RFC 7047, 4.1.6).
type configUpdate map[string]map[string]struct {
	New struct {
		CurCfg int `json:"cur_cfg"`
	} `json:"new"`
}

func (u configUpdate) current() int {
	highest := 0
	for _, row := range u[database] {
		highest = max(highest, row.New.CurCfg)
	}
	return highest
}

// update takes table-updates in.
func (c *conn) update(text json.RawMessage) error {
	var u configUpdate
	if err := json.Unmarshal(text, &u); err != nil {
		return fmt.Errorf("%s reports something else than cur_cfg: %w", c.path, err)
	}
	c.current = max(c.current, u.current())
	return nil
}
