// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// undoLimit bounds the undoing, which goes on when the time for the work is
// over.
const undoLimit = undoReserve - 200*time.Millisecond

// Wire brings the ports of every NIC of dom in networks of ours to their wanted
// state, and looks again whether they are. If one cannot be wired it undoes
// what it did, on all switches. It is idempotent, and repairs what a killed
// process left. dom must be the XML of a running guest or of one that is just
// about to run.
//
// The error is a [Warning] when the policy of all networks that failed lets
// that pass; the other networks' ports are wired then.
func (w *Wirer) Wire(ctx context.Context, dom libvirtnet.Domain) error {
	_, err := w.Repair(ctx, dom)
	return err
}

// Repair is [Wirer.Wire]. It returns what it changed, one plan a switch; nothing
// when all was as it should be.
func (w *Wirer) Repair(ctx context.Context, dom libvirtnet.Domain) (changed []switchcfg.Plan, err error) {
	return w.wire(ctx, dom, w.legs(dom))
}

func (w *Wirer) wire(ctx context.Context, dom libvirtnet.Domain, legs []leg) (changed []switchcfg.Plan, err error) {
	managed := slices.ContainsFunc(legs, func(l leg) bool { return l.managed })
	if _, err := w.Store.Guest(dom.UUID); err != nil && !managed {
		return nil, nil // none of ours, and no trace that it ever was
	}
	unlock, err := w.Store.LockGuest(ctx, dom.UUID)
	if err != nil {
		return nil, byPolicy(strictest(legs), err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	j := &job{w: w, guest: dom.Ref(), legs: legs, old: w.oldRecord(dom.UUID)}
	return j.run(ctx)
}

// oldRecord returns what an earlier run wrote, or the zero record. One that
// cannot be read is as good as none: the switches are looked at in any case.
func (w *Wirer) oldRecord(uuid string) state.Guest {
	old, err := w.Store.Guest(uuid)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.log().Warn("guest record not used", "guest", uuid, "error", err)
		return state.Guest{}
	}
	return old
}

// job is one wiring of one guest, under the guest's lock.
type job struct {
	w      *Wirer
	guest  vnet.GuestRef
	legs   []leg
	old    state.Guest
	groups []*group
	// stuck is the groups that could not be wired nor undone.
	stuck []*group
	errs  []error // so far all of them warnings
}

func (j *job) run(ctx context.Context) (changed []switchcfg.Plan, err error) {
	if j.groups, j.errs = groups(j.legs); refused(j.errs) {
		return nil, combine(j.errs)
	}
	j.addOld()
	unlock, err := j.w.lockSwitches(ctx, j.groups)
	if err != nil {
		return nil, byPolicy(strictest(j.legs), err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	all := slices.Clone(j.groups)
	defer func() { err = errors.Join(err, closeAll(all)) }()
	// Everything that can be known to fail fails before the first change.
	j.each(func(g *group) error { return j.w.prepare(ctx, g, j.guest.UUID) }, nil)
	if refused(j.errs) {
		return nil, combine(j.errs)
	}
	if err := j.commit(ctx); err != nil {
		return nil, err
	}
	return j.changed(), combine(j.errs)
}

// changed is what was changed, one plan a switch, and logs it.
func (j *job) changed() (plans []switchcfg.Plan) {
	for _, g := range j.groups {
		if len(g.applied) > 0 {
			plans = append(plans, switchcfg.Plan{Switch: g.sw.Name, Changes: g.applied, Warnings: g.plan.Warnings})
			for _, warning := range g.plan.Warnings {
				j.w.log().Warn(warning, "guest", j.guest.Name)
			}
			j.w.log().Info("wired", "guest", j.guest.Name, "switch", g.sw.Name, "ports", len(g.ports), "changed", len(g.applied))
		}
	}
	return plans
}

// pending reports whether there is anything to change.
func (j *job) pending() bool {
	return slices.ContainsFunc(j.groups, func(g *group) bool { return !g.plan.Empty() })
}

// each calls f for the groups, as long as none of those fails that must not.
// Groups that may fail and do are dropped, after undo, which may be nil.
func (j *job) each(f, undo func(*group) error) {
	for _, g := range slices.Clone(j.groups) {
		err := f(g)
		if err == nil {
			continue
		}
		j.errs = append(j.errs, byPolicy(g.onFailure, err))
		if g.onFailure == vnet.FailureRefuse {
			return
		}
		j.groups = slices.DeleteFunc(j.groups, func(other *group) bool { return other == g })
		if undo == nil {
			continue
		}
		if err := undo(g); err != nil {
			j.errs = append(j.errs, byPolicy(g.onFailure, err))
			j.stuck = append(j.stuck, g)
		}
	}
}

// commit makes the changes, with a record before the first and after the last.
func (j *job) commit(ctx context.Context) error {
	if j.pending() {
		if err := j.w.Store.PutGuest(j.record(false)); err != nil {
			return byPolicy(strictest(j.legs), err)
		}
	}
	uuid := j.guest.UUID
	j.each(
		func(g *group) error {
			if err := j.w.noteSwitch(g); err != nil {
				return err
			}
			return apply(ctx, g, uuid)
		},
		func(g *group) error { return undo(ctx, []*group{g}) },
	)
	if !refused(j.errs) {
		err := j.w.Store.PutGuest(j.record(len(j.stuck) == 0))
		if err == nil {
			return nil
		}
		j.errs = append(j.errs, byPolicy(strictest(j.legs), err))
	}
	if err := errors.Join(undo(ctx, j.groups), stuckError(j.stuck)); err != nil {
		j.errs = append(j.errs, fmt.Errorf("%w: the record is kept: put it right with: virt-vnet repair %s", err, j.guest.Name))
		return combine(j.errs)
	}
	return errors.Join(combine(j.errs), j.restoreRecord())
}

func stuckError(stuck []*group) error {
	if len(stuck) == 0 {
		return nil
	}
	return errors.New("not everything could be undone")
}

// restoreRecord puts back the record that was there before.
func (j *job) restoreRecord() error {
	if j.old.Format == 0 {
		return j.w.Store.RemoveGuest(j.guest.UUID)
	}
	return j.w.Store.PutGuest(j.old)
}

// addOld adds what an earlier run wired and nobody wants any more, to be
// released. That may fail: such ports are mostly gone.
func (j *job) addOld() {
	wanted := func(device string) bool {
		return slices.ContainsFunc(j.legs, func(l leg) bool { return l.wired() && l.port.Device == device })
	}
	for _, p := range j.old.Ports {
		i := slices.IndexFunc(j.old.Switches, func(sw vnet.Switch) bool { return sw.Name == p.Switch })
		if i < 0 || wanted(p.Device) {
			continue
		}
		sw := j.old.Switches[i]
		at := slices.IndexFunc(j.groups, func(g *group) bool { return g.sw.Name == sw.Name })
		if at < 0 {
			j.groups = append(j.groups, &group{sw: sw, onFailure: vnet.FailureWarn})
			at = len(j.groups) - 1
		}
		j.groups[at].old = append(j.groups[at].old, p.Device)
	}
}
