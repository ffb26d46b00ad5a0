// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// noteSwitch records what the plan of g does to the switch itself and to its
// uplink, before it is done: ports end with their guests, these do not.
func (w *Wirer) noteSwitch(g *group) error {
	find := func(device string) (switchcfg.Change, bool) {
		i := slices.IndexFunc(g.plan.Changes, func(c switchcfg.Change) bool { return c.Device == device })
		if i < 0 {
			return switchcfg.Change{}, false
		}
		return g.plan.Changes[i], true
	}
	own, changesOwn := find(g.sw.Name)
	uplink, changesUplink := find(g.have.Uplink.Device)
	if !changesOwn && !changesUplink {
		return nil
	}
	record, err := w.switchRecord(g.sw)
	if err != nil {
		return err
	}
	if changesOwn && record.Before == nil && g.sw.Bridge.Owned {
		record.Before = own.Before.Settings.Bridge
	}
	record.Rows = record.Rows || changesOwn && own.After.Settings.Monitoring != nil
	if changesUplink {
		more := uplink.After.Settings.VLAN.All().Minus(uplink.Before.Settings.VLAN.All())
		record.Added = append(record.Added, more...).Normal()
	}
	return w.Store.PutSwitch(record)
}

// switchRecord is the record of a switch, or a new one. One that is damaged is
// as good as none: then what was done to the switch stays.
func (w *Wirer) switchRecord(sw vnet.Switch) (state.Switch, error) {
	record, err := w.Store.Switch(sw.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, state.ErrDamaged):
		w.log().Warn("switch record not used", "switch", sw.Name, "error", err)
		record = state.Switch{}
	case err != nil:
		return state.Switch{}, err
	}
	record.Switch = sw
	return record, nil
}

// tidy removes from the switch of g, which is open and locked, what guests left
// there that are gone: the guards of ports with these indices, or with nil all
// that can be found, and VLANs of the uplink that no port has any more.
func (w *Wirer) tidy(ctx context.Context, g *group, gone []int) error {
	if sweeper, ok := g.driver.(switchcfg.Sweeper); ok && (gone == nil || len(gone) > 0) {
		if err := sweeper.Sweep(ctx, gone); err != nil {
			return err
		}
	}
	record, err := w.Store.Switch(g.sw.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || len(record.Added) == 0 {
		return err
	}
	have, err := g.driver.Observe(ctx, switchcfg.Scope{})
	if err != nil {
		return err
	}
	plan, pending := switchcfg.Prune(have, record.Added)
	if !pending {
		return nil
	}
	if _, err := g.driver.Apply(ctx, plan); err != nil {
		return err
	}
	c := plan.Changes[0]
	pruned := c.Before.Settings.VLAN.All().Minus(c.After.Settings.VLAN.All())
	record.Added = record.Added.Minus(pruned)
	w.log().Info("pruned", "switch", g.sw.Name, "uplink", c.Device, "vlans", pruned.String())
	return w.putSwitch(record)
}

// putSwitch writes the record, or removes it when there is nothing to remember.
func (w *Wirer) putSwitch(record state.Switch) error {
	if record.Before == nil && !record.Rows && len(record.Added) == 0 {
		return w.Store.RemoveSwitch(record.Switch.Name)
	}
	return w.Store.PutSwitch(record)
}

// Tidy removes what guests that are gone left on switches, by the records that
// there are of them. It is what [Wirer.Unwire] does, for those that it could not.
func (w *Wirer) Tidy(ctx context.Context, switches []vnet.Switch) error {
	var errs []error
	for _, sw := range switches {
		err := w.withSwitch(ctx, sw, func(g *group) error { return w.tidy(ctx, g, nil) })
		switch {
		case errors.Is(err, switchcfg.ErrNoSwitch): // of one that is gone nothing is left
		case errors.Is(err, switchcfg.ErrUnreachable): // there is a next time, and nobody needs it now
			w.log().Info("not tidied", "switch", sw.Name, "error", err)
		default:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// withSwitch calls do with a switch that is open and locked.
func (w *Wirer) withSwitch(ctx context.Context, sw vnet.Switch, do func(*group) error) (err error) {
	g := &group{sw: sw}
	unlock, err := w.lockSwitches(ctx, []*group{g})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := w.open(ctx, g); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll([]*group{g})) }()
	return do(g)
}

// PlanSwitch says what bringing the switch itself to what the spec wants would
// change. A switch that is not ours has no plan, but for giving it back.
func (w *Wirer) PlanSwitch(ctx context.Context, sw vnet.Switch) (plan switchcfg.Plan, err error) {
	g := &group{sw: sw}
	defer func() { err = errors.Join(err, closeAll([]*group{g})) }()
	if !sw.Configured() {
		record, err := w.Store.Switch(sw.Name)
		if err != nil {
			return switchcfg.Plan{Switch: sw.Name}, nil //nolint:nilerr // nothing is known that could be given back
		}
		g.sw = record.Switch
		if err := w.open(ctx, g); err != nil {
			return switchcfg.Plan{Switch: sw.Name}, nil //nolint:nilerr // whoever needs the switch says it better
		}
		return returnPlan(ctx, g, record)
	}
	err = w.prepare(ctx, g, "")
	return g.plan, err
}

// SetSwitch brings a switch of ours itself to what the spec wants, and returns
// what that changed. It is also done when a guest is wired: a bridge that comes
// up anew has lost all.
func (w *Wirer) SetSwitch(ctx context.Context, sw vnet.Switch) (changed switchcfg.Plan, err error) {
	changed.Switch = sw.Name
	if !sw.Configured() {
		return changed, nil
	}
	err = w.withSwitch(ctx, sw, func(g *group) error {
		if err := g.study(ctx, ""); err != nil {
			return err
		}
		if err := w.noteSwitch(g); err != nil {
			return err
		}
		err := apply(ctx, g, "")
		if err != nil {
			err = errors.Join(err, undo(ctx, []*group{g}))
		}
		changed.Changes = g.applied
		return err
	})
	return changed, err
}

// ReturnSwitch gives a switch back that is no longer ours: its settings become
// what they were. The error is [switchcfg.ErrNotOwned] as long as a guest needs
// VLANs that it would no longer tell apart.
func (w *Wirer) ReturnSwitch(ctx context.Context, name string) (changed switchcfg.Plan, err error) {
	record, err := w.Store.Switch(name)
	if err != nil {
		return changed, err
	}
	err = w.withSwitch(ctx, record.Switch, func(g *group) error {
		changed, err = w.giveBack(ctx, g, record)
		return err
	})
	if errors.Is(err, switchcfg.ErrNoSwitch) {
		err = w.Store.RemoveSwitch(name) // there is nothing left of it
	}
	return changed, err
}

func (w *Wirer) giveBack(ctx context.Context, g *group, record state.Switch) (switchcfg.Plan, error) {
	plan, err := returnPlan(ctx, g, record)
	if err != nil {
		return plan, err
	}
	if _, err := g.driver.Apply(ctx, plan); err != nil {
		return plan, err
	}
	return plan, w.Store.RemoveSwitch(g.sw.Name)
}

// returnPlan is what gives the switch of g, which is open, back.
func returnPlan(ctx context.Context, g *group, record state.Switch) (switchcfg.Plan, error) {
	plan := switchcfg.Plan{Switch: g.sw.Name}
	have, err := g.driver.Observe(ctx, switchcfg.Scope{})
	if err != nil {
		return plan, err
	}
	// What we added goes, whoever uses it by now.
	alone := switchcfg.State{Switch: have.Switch, Uplink: have.Uplink, Ports: map[string]switchcfg.Port{
		have.Uplink.Device: have.Ports[have.Uplink.Device],
	}}
	if prune, pending := switchcfg.Prune(alone, record.Added); pending {
		plan.Changes = append(plan.Changes, prune.Changes...)
	}
	own := have.Ports[g.sw.Name]
	after := own
	if record.Before != nil {
		after.Settings.Bridge = record.Before
	}
	if after.Settings.Monitoring != nil {
		after.Settings.Monitoring, after.Settings.Bond = &switchcfg.Monitoring{}, &switchcfg.Bond{}
		after.Settings.TreePorts = &switchcfg.TreePorts{}
	}
	if off := after.Settings.Bridge; off != nil && off.VLANFiltering == vnet.ToggleOff {
		if user := inVLAN(have); user != "" {
			return plan, fmt.Errorf("switch %s: %w: %s needs its VLAN: stop the guest first", g.sw.Name, switchcfg.ErrNotOwned, user)
		}
	}
	if c := (switchcfg.Change{Device: g.sw.Name, Before: own, After: after}); !c.Empty() {
		plan.Changes = append(plan.Changes, c)
	}
	return plan, nil
}

// inVLAN names a guest port that is in a VLAN other than that of new ports.
func inVLAN(have switchcfg.State) string {
	for _, device := range have.Devices() {
		p := have.Ports[device]
		if set := p.Settings.VLAN; !p.Owner.IsZero() && set != nil && !slices.Equal(set.All(), vnet.VLANSet{Access: have.Untagged}.All()) {
			return fmt.Sprintf("port %s (%s)", device, p.Owner)
		}
	}
	return ""
}
