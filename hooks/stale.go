// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"cmp"
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

// Stale is a port of a switch that carries our mark and that no running guest
// has. One whose device has a carrier is in use, whoever runs the guest.
type Stale struct {
	Port switchcfg.Port
	// Gone says that its device is gone, too.
	Gone bool
	// Since is when an earlier [Wirer.Prune] first found it so, or zero when none
	// did.
	Since time.Time
	// Removed says that it is removed, or, where there is a device, released.
	Removed bool
}

// String returns "vnet3 of guest UUID, network red: its device is gone".
func (s Stale) String() string {
	why := "no running guest has it"
	if s.Gone {
		why = "its device is gone"
	}
	return fmt.Sprintf("port %s of %s: %s", s.Port.Device, s.Port.Owner, why)
}

// Stale returns the ports of the switch that carry our mark and are those of none
// of the running guests, sorted by name. It changes nothing.
func (w *Wirer) Stale(ctx context.Context, sw vnet.Switch, running []libvirtnet.Domain) (stale []Stale, err error) {
	g := &group{sw: sw}
	if err := w.open(ctx, g); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeAll([]*group{g})) }()
	return w.findStale(ctx, g, running)
}

// Prune is Stale that remembers what it found. With remove it removes those that
// an earlier Prune has found, too: ports whose devices are gone are taken off the
// switch, others are released as at the end of their guest. listed is when the
// running guests were listed: a guest that was wired after that is none of the
// gone ones.
func (w *Wirer) Prune(ctx context.Context, sw vnet.Switch, running []libvirtnet.Domain, listed time.Time, remove bool) (stale []Stale, err error) {
	err = w.withSwitch(ctx, sw, func(g *group) error {
		if stale, err = w.findStale(ctx, g, running); err != nil {
			return err
		}
		stale = slices.DeleteFunc(stale, func(s Stale) bool { return w.wiredSince(s.Port.Owner.Guest, listed) })
		if remove {
			err = w.removeStale(ctx, g, stale)
		}
		return errors.Join(err, w.Store.PutStale(w.staleRecord(sw.Name, stale)))
	})
	return stale, err
}

// wiredSince reports whether the guest has been wired since.
func (w *Wirer) wiredSince(uuid string, since time.Time) bool {
	record, err := w.Store.Guest(uuid)
	return err == nil && !record.Updated.Before(since)
}

// findStale looks at the switch of g, which is open.
func (w *Wirer) findStale(ctx context.Context, g *group, running []libvirtnet.Domain) (stale []Stale, err error) {
	have, err := g.driver.Observe(ctx, switchcfg.Scope{})
	if err != nil {
		return nil, err
	}
	gone := switchcfg.State{}
	if keeper, ok := g.driver.(switchcfg.Keeper); ok {
		if gone, err = keeper.Gone(ctx); err != nil {
			return nil, err
		}
	}
	before := w.staleBefore(g.sw.Name)
	_, outlives := g.driver.(switchcfg.Releaser)
	has := map[[2]string]bool{}
	for _, dom := range running {
		has[[2]string{dom.UUID}] = outlives // its device may be away for a while
		for _, nic := range dom.NICs {
			has[[2]string{dom.UUID, nic.Device}] = true
		}
	}
	for _, ports := range []switchcfg.State{have, gone} {
		for _, device := range ports.Devices() {
			port := ports.Ports[device]
			_, isGone := gone.Ports[device]
			used := has[[2]string{port.Owner.Guest}] || !isGone && (port.Carrier || has[[2]string{port.Owner.Guest, device}])
			if port.Owner.IsZero() || port.Switch != g.sw.Name || used {
				continue
			}
			stale = append(stale, Stale{Port: port, Gone: isGone, Since: since(before, port)})
		}
	}
	slices.SortFunc(stale, func(a, b Stale) int { return cmp.Compare(a.Port.Device, b.Port.Device) })
	return stale, nil
}

// staleBefore is what the last look found.
func (w *Wirer) staleBefore(sw string) state.Stale {
	before, err := w.Store.Stale(sw)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.log().Warn("record of stale ports not used", "switch", sw, "error", err)
		return state.Stale{}
	}
	return before
}

// since is when the port was first found stale, or zero.
func since(before state.Stale, port switchcfg.Port) time.Time {
	for _, p := range before.Ports {
		if p.Device == port.Device && p.Owner == port.Owner && p.Index == port.Index {
			return p.Since
		}
	}
	return time.Time{}
}

// removeStale removes those that were found before.
func (w *Wirer) removeStale(ctx context.Context, g *group, stale []Stale) error {
	releaser, outlives := g.driver.(switchcfg.Releaser)
	plan := switchcfg.Plan{Switch: g.sw.Name}
	planned := []*Stale{}
	for i := range stale {
		switch s := &stale[i]; {
		case s.Since.IsZero():
		case outlives && s.Gone:
			if err := releaser.Release(ctx, s.Port.Owner.Guest, []string{s.Port.Device}); err != nil {
				return err
			}
			s.Removed = true
		default:
			plan.Changes = append(plan.Changes, w.removal(g, *s))
			planned = append(planned, s)
		}
	}
	if plan.Empty() {
		return nil
	}
	if _, err := g.driver.Apply(ctx, plan); err != nil {
		return err
	}
	for _, s := range planned {
		s.Removed = true
	}
	w.log().Info("pruned", "switch", g.sw.Name, "ports", len(plan.Changes))
	return w.tidy(ctx, g, nil)
}

// removal takes a port off the switch, or, where its device is there, releases it.
func (w *Wirer) removal(g *group, s Stale) switchcfg.Change {
	after := s.Port.Released()
	if record, err := w.Store.Guest(s.Port.Owner.Guest); err == nil && !s.Gone {
		if image, ok := beforeImage(record, g.sw.Name, s.Port.Device); ok {
			after = image.Released()
		}
	}
	after.Switch = s.Port.Switch
	if s.Gone {
		after.Switch = ""
	}
	return switchcfg.Change{Device: s.Port.Device, Before: s.Port, After: after}
}

// staleRecord is what to remember of a look.
func (w *Wirer) staleRecord(sw string, stale []Stale) state.Stale {
	record := state.Stale{Switch: sw}
	for _, s := range stale {
		if s.Removed {
			continue
		}
		if s.Since.IsZero() {
			s.Since = w.now()
		}
		record.Ports = append(record.Ports, state.StalePort{Device: s.Port.Device, Owner: s.Port.Owner, Index: s.Port.Index, Since: s.Since})
	}
	return record
}
