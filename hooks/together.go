// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// mostTogether bounds how many guests are repaired at once: each has a lock, and
// so an open file.
const mostTogether = 1000

// Repaired is what [Wirer.RepairAll] did for one guest.
type Repaired struct {
	Guest vnet.GuestRef
	// Changed is what it changed, one plan a switch.
	Changed []switchcfg.Plan
	Err     error
}

// RepairAll is [Wirer.Repair] for many guests, in their order: what is to be
// changed on a switch is one plan for all of them, of which Open vSwitch makes
// one transaction. A guest that cannot be repaired takes no other along: then
// everything is undone and done again without it, or, where nobody says which it
// is, by halves. Those that remain are repaired by themselves, and so is a guest
// that something is wrong with before the first change, or for which a switch
// itself or its uplink is to be changed.
func (w *Wirer) RepairAll(ctx context.Context, doms []libvirtnet.Domain) []Repaired {
	done := map[string]Repaired{}
	for some := range slices.Chunk(doms, mostTogether) {
		if len(some) > 1 {
			w.repairTogether(ctx, some, done)
		}
	}
	results := make([]Repaired, len(doms))
	for i, dom := range doms {
		result, ok := done[dom.UUID]
		if !ok {
			result.Guest = dom.Ref()
			result.Changed, result.Err = w.Repair(ctx, dom)
		}
		results[i] = result
	}
	return results
}

// crew is jobs that are done together, under the locks of their guests and of
// all of their switches.
type crew struct {
	w    *Wirer
	jobs []*job
	// switches has every switch once, open.
	switches map[string]*group
	done     map[string]Repaired
}

// repairTogether puts into done what it could repair.
func (w *Wirer) repairTogether(ctx context.Context, doms []libvirtnet.Domain, done map[string]Repaired) {
	c := &crew{w: w, switches: map[string]*group{}, done: done}
	unlock, err := c.recruit(ctx, doms)
	defer func() {
		if err := errors.Join(closeAll(slices.Collect(maps.Values(c.switches))), unlock()); err != nil {
			w.log().Warn("repair of all guests together", "error", err)
		}
	}()
	if err == nil {
		err = c.study(ctx)
	}
	if err != nil {
		w.log().Info("guests are repaired one by one", "error", err)
		return
	}
	c.repair(ctx, c.jobs)
}

// recruit makes the jobs of the guests that there is nothing wrong with, locks
// them and opens their switches.
func (c *crew) recruit(ctx context.Context, doms []libvirtnet.Domain) (unlock func() error, err error) {
	var unlocks []func() error
	unlock = func() (err error) {
		for _, u := range unlocks {
			err = errors.Join(err, u())
		}
		return err
	}
	byUUID := slices.SortedFunc(slices.Values(doms), func(a, b libvirtnet.Domain) int { return cmp.Compare(a.UUID, b.UUID) })
	known := map[string]lookup{}
	var all []*group
	for _, dom := range byUUID {
		j := &job{w: c.w, guest: dom.Ref(), legs: c.w.legsKnowing(dom, known)}
		if !slices.ContainsFunc(j.legs, func(l leg) bool { return l.managed }) {
			continue
		}
		u, err := c.w.Store.LockGuest(ctx, dom.UUID)
		if err != nil {
			return unlock, err
		}
		unlocks = append(unlocks, u)
		j.old = c.w.oldRecord(dom.UUID)
		if j.groups, j.errs = groups(j.legs); len(j.errs) > 0 {
			continue
		}
		j.addOld()
		c.jobs, all = append(c.jobs, j), append(all, j.groups...)
	}
	u, err := c.w.lockSwitches(ctx, all)
	if err != nil {
		return unlock, err
	}
	unlocks = append([]func() error{u}, unlocks...)
	for _, g := range all {
		if c.switches[g.sw.Name] != nil {
			continue
		}
		shared := &group{sw: g.sw}
		if err := c.w.open(ctx, shared); err != nil {
			continue // the guests' own repair says so
		}
		c.switches[g.sw.Name] = shared
	}
	return unlock, nil
}

// study takes one look at each switch, and drops the jobs that are for another
// day.
func (c *crew) study(ctx context.Context) error {
	c.keep(func(j *job) bool {
		return !slices.ContainsFunc(j.groups, func(g *group) bool {
			shared := c.switches[g.sw.Name]
			if shared == nil || !reflect.DeepEqual(shared.sw, g.sw) {
				return true
			}
			g.driver = shared.driver
			return g.wish(ctx) != nil
		})
	})
	if err := c.look(ctx); err != nil {
		return err
	}
	c.keep(func(j *job) bool {
		return !slices.ContainsFunc(j.groups, func(g *group) bool {
			g.have = part(c.switches[g.sw.Name].have, g.devices())
			return g.diff(j.guest.UUID) != nil || len(g.besides()) > 0
		})
	})
	return nil
}

func (c *crew) keep(good func(*job) bool) {
	c.jobs = slices.DeleteFunc(c.jobs, func(j *job) bool { return !good(j) })
}

// look observes the devices of all jobs.
func (c *crew) look(ctx context.Context) error {
	devices := map[string][]string{}
	for _, j := range c.jobs {
		for _, g := range j.groups {
			devices[g.sw.Name] = append(devices[g.sw.Name], g.devices()...)
		}
	}
	for name, list := range devices {
		slices.Sort(list)
		list = slices.Compact(list) // every guest has the switch itself, where it is ours
		have, err := c.switches[name].driver.Observe(ctx, switchcfg.Scope{Devices: list})
		switch {
		case errors.Is(err, switchcfg.ErrUnreachable):
			c.lose(name, err, func(*group) bool { return true })
		case err != nil:
			return err
		default:
			c.switches[name].have = have
		}
	}
	return nil
}

// lose drops the jobs that need a switch that does not answer. Who is on no other
// need not wait for it again.
func (c *crew) lose(name string, err error, needs func(*group) bool) {
	c.keep(func(j *job) bool {
		i := slices.IndexFunc(j.groups, func(g *group) bool { return g.sw.Name == name && needs(g) })
		if i >= 0 && len(j.groups) == 1 {
			c.done[j.guest.UUID] = Repaired{Guest: j.guest, Err: byPolicy(j.groups[i].onFailure, j.groups[i].wrap(err))}
		}
		return i < 0
	})
}

// part is the state of some devices, and of what is not a guest's.
func part(all switchcfg.State, devices []string) switchcfg.State {
	some := all
	some.Ports = make(map[string]switchcfg.Port, len(devices))
	for _, device := range slices.Concat(devices, []string{all.Uplink.Device, all.Switch}) {
		if port, ok := all.Ports[device]; ok {
			some.Ports[device] = port
		}
	}
	return some
}

// repair does the jobs, or leaves those that fail as they were, not done.
func (c *crew) repair(ctx context.Context, jobs []*job) {
	if len(jobs) == 0 || ctx.Err() != nil {
		return
	}
	bad, lost, err := c.try(ctx, jobs)
	if err == nil {
		for _, j := range jobs {
			c.done[j.guest.UUID] = Repaired{Guest: j.guest, Changed: j.changed()}
		}
		return
	}
	c.w.log().Info("guests could not be repaired together", "guests", len(jobs), "error", err)
	switch half := len(jobs) / 2; {
	case lost != "":
		c.lose(lost, err, func(g *group) bool { return !g.plan.Empty() })
		c.repair(ctx, slices.DeleteFunc(slices.Clone(jobs), func(j *job) bool { return !slices.Contains(c.jobs, j) }))
	case len(bad) > 0 && len(bad) < len(jobs):
		c.repair(ctx, slices.DeleteFunc(slices.Clone(jobs), func(j *job) bool { return bad[j] }))
	case half > 0 && len(bad) == 0:
		c.repair(ctx, jobs[:half])
		c.repair(ctx, jobs[half:])
	}
}

// try makes the changes of all jobs, and takes them back when some cannot be
// made. bad are those that are to blame, or lost is the switch that does not
// answer, if that is known.
func (c *crew) try(ctx context.Context, jobs []*job) (bad map[*job]bool, lost string, err error) {
	plans := map[string]*group{}
	for _, j := range jobs {
		for _, g := range j.groups {
			if plans[g.sw.Name] == nil {
				plans[g.sw.Name] = &group{sw: g.sw, driver: g.driver, plan: switchcfg.Plan{Switch: g.sw.Name}}
			}
			all := plans[g.sw.Name]
			all.plan.Changes = append(all.plan.Changes, g.plan.Changes...)
		}
	}
	err = c.put(jobs, false)
	for name, all := range plans {
		if err == nil && !all.plan.Empty() {
			all.applied, err = all.driver.Apply(ctx, all.plan)
			if errors.Is(err, switchcfg.ErrUnreachable) && len(switchcfg.PortErrors(err)) == 0 {
				lost = name
			}
		}
	}
	if bad = blamed(jobs, err); err == nil {
		bad, err = c.check(ctx, jobs)
	}
	if err == nil {
		err = c.put(jobs, true)
	}
	if err == nil {
		return nil, "", nil
	}
	err = errors.Join(err, undo(ctx, slices.Collect(maps.Values(plans))))
	for _, j := range jobs {
		err = errors.Join(err, j.restoreRecord())
	}
	return bad, lost, err
}

// writers is how many records are written at once: a disk takes hardly longer to
// make several durable than one.
const writers = 8

// put writes the records of the jobs, before they are complete only of those that
// change something.
func (c *crew) put(jobs []*job, complete bool) error {
	var all errgroup.Group
	all.SetLimit(writers)
	for _, j := range jobs {
		if complete || j.pending() {
			all.Go(func() error { return c.w.Store.PutGuest(j.record(complete)) })
		}
	}
	return all.Wait()
}

// blamed are the jobs whose ports the error names.
func blamed(jobs []*job, err error) map[*job]bool {
	devices := switchcfg.PortErrors(err)
	bad := map[*job]bool{}
	for _, j := range jobs {
		for _, g := range j.groups {
			if slices.ContainsFunc(g.plan.Changes, func(c switchcfg.Change) bool { return slices.Contains(devices, c.Device) }) {
				bad[j] = true
			}
		}
	}
	return bad
}

// check looks whether all is there, and notes it as made.
func (c *crew) check(ctx context.Context, jobs []*job) (bad map[*job]bool, err error) {
	if !slices.ContainsFunc(jobs, (*job).pending) {
		return nil, nil
	}
	if err := c.look(ctx); err != nil {
		return nil, err
	}
	bad = map[*job]bool{}
	for _, j := range jobs {
		for _, g := range j.groups {
			left, errDiff := switchcfg.Diff(g.want, part(c.switches[g.sw.Name].have, g.devices()), j.guest.UUID)
			if errDiff == nil && left.Empty() {
				g.applied = g.plan.Changes
				continue
			}
			bad[j] = true
			err = errors.Join(err, errDiff, fmt.Errorf("guest %s: the switch did not take it: %s", j.guest.Name, oneLine(errors.New(left.String()))))
		}
	}
	return bad, err
}
