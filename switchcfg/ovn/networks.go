// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// networkTries bounds how often Apply looks again because somebody changed what
// it was about to change.
const networkTries = 3

// Networks makes the networks of an OVN switch. It needs the northbound database
// only, and so works from any machine. It belongs to one goroutine at a time.
type Networks struct {
	sw     vnet.Switch
	nb     *ovsdb.Client
	schema ovsdb.Schema
}

var _ switchcfg.Networker = (*Networks)(nil)

// OpenNetworks connects to the northbound database of sw. The error is
// [switchcfg.ErrUnreachable] when that does not answer, or no server of its
// cluster is the leader.
func OpenNetworks(ctx context.Context, sw vnet.Switch) (*Networks, error) {
	n := &Networks{sw: sw, nb: northbound(sw)}
	var err error
	if n.schema, err = n.nb.Schema(ctx); err != nil {
		return nil, fmt.Errorf("switch %s: %w", sw.Name, err)
	}
	return n, nil
}

// Close implements [switchcfg.Networker].
func (n *Networks) Close() error { return n.nb.Close() }

// PlanNetworks implements [switchcfg.Networker].
func (n *Networks) PlanNetworks(ctx context.Context, t *vnet.Topology, names []string) ([]string, error) {
	scope := set(names)
	p, err := n.plan(ctx, desired(t, n.sw, scope), scope)
	if err != nil {
		return nil, fmt.Errorf("switch %s: %w", n.sw.Name, err)
	}
	return lines(p.changes), nil
}

// ApplyNetworks implements [switchcfg.Networker]: one transaction, which is
// guarded: if anybody touched what it changes since it was looked at, nothing
// happens and it looks again.
func (n *Networks) ApplyNetworks(ctx context.Context, t *vnet.Topology, names []string) ([]string, func(context.Context) error, error) {
	scope := set(names)
	p, err := n.reach(ctx, desired(t, n.sw, scope), scope)
	if err != nil {
		return nil, nil, fmt.Errorf("switch %s: %w", n.sw.Name, err)
	}
	undo := func(ctx context.Context) error {
		if len(p.changes) == 0 {
			return nil
		}
		if _, err := n.reach(ctx, p.have.within(scope), scope); err != nil {
			return fmt.Errorf("switch %s: undo: %w", n.sw.Name, err)
		}
		return nil
	}
	return lines(p.changes), undo, nil
}

func set(names []string) map[string]bool {
	all := make(map[string]bool, len(names))
	for _, name := range names {
		all[name] = true
	}
	return all
}

// plan is what there is to do, and what it goes by.
type plan struct {
	have    objects
	changes []change
	// emptied is the ports of the switches and routers that are removed.
	emptied map[*object]ovsdb.Set[ovsdb.UUID]
}

func (n *Networks) plan(ctx context.Context, want objects, scope map[string]bool) (plan, error) {
	if err := n.check(want); err != nil {
		return plan{}, err
	}
	have, err := n.look(ctx, want)
	if err != nil {
		return plan{}, err
	}
	p := plan{have: have, changes: diff(want, have, scope)}
	p.emptied, err = n.empty(ctx, p)
	return p, err
}

// empty makes sure that no switch or router is removed that others have ports
// on, and returns the ports of those that are.
func (n *Networks) empty(ctx context.Context, p plan) (map[*object]ovsdb.Set[ovsdb.UUID], error) {
	ours := map[ovsdb.UUID]bool{}
	for _, o := range p.have {
		ours[o.uuid] = true
	}
	emptied := map[*object]ovsdb.Set[ovsdb.UUID]{}
	for _, c := range p.changes {
		if o := c.before; c.after == nil && (o.table == tableSwitch || o.table == tableRouter) {
			results, err := n.nb.Transact(ctx, ovsdb.Select(o.table, ovsdb.Where("_uuid", o.uuid), "ports"))
			if err != nil {
				return nil, fmt.Errorf("read ports: %w", err)
			}
			rows, err := ovsdb.Rows[anyRow](results, 0)
			if err != nil {
				return nil, fmt.Errorf("read ports: %w", err)
			}
			for _, row := range rows {
				emptied[o] = *row["ports"].(*ovsdb.Set[ovsdb.UUID])
			}
			others := slices.DeleteFunc(slices.Clone(emptied[o]), func(port ovsdb.UUID) bool { return ours[port] })
			if len(others) > 0 {
				return nil, fmt.Errorf("%s: %w: ports of guests or of others on it: %d: see ovn-nbctl show %s; of guests that are gone: virt-vnet repair --prune",
					o, switchcfg.ErrNotOwned, len(others), o.key)
			}
		}
	}
	return emptied, nil
}

// reach makes what is in scope as wanted and returns what that took.
func (n *Networks) reach(ctx context.Context, want objects, scope map[string]bool) (plan, error) {
	var conflict error
	for range networkTries {
		p, err := n.plan(ctx, want, scope)
		if err != nil || len(p.changes) == 0 {
			return p, err
		}
		_, err = n.nb.Transact(ctx, p.operations()...)
		switch {
		case ovsdb.IsConflict(err):
			conflict = err
			continue
		case err != nil:
			return p, fmt.Errorf("change networks: %w", err)
		}
		return p, nil
	}
	return plan{}, ovsdb.Conflict("networks", conflict)
}

// within is what there was in scope, and of what no single network is the owner:
// what to want in order to undo a plan.
func (all objects) within(scope map[string]bool) objects {
	before := maps.Clone(all)
	maps.DeleteFunc(before, func(_ id, o *object) bool { return o.network != "" && !scope[o.network] })
	return before
}
