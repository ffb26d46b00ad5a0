// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Two locks keep hooks apart. The guest's makes its record, which spans
// switches, the work of one process at a time. The switch's makes looking and
// changing one step: without it, the hook of a stopping guest could see its own
// vnet0, and change the vnet0 that libvirt has since given to the next guest.
// Everybody takes the guest's lock first and then those of the switches by
// name, so nobody waits in a circle.

// lockSwitches locks the switches of groups.
func (w *Wirer) lockSwitches(ctx context.Context, groups []*group) (unlock func() error, err error) {
	var names []string
	for _, g := range groups {
		names = append(names, g.sw.Name)
	}
	slices.Sort(names)
	var unlocks []func() error
	unlock = func() error {
		var errs []error
		for _, u := range unlocks {
			errs = append(errs, u())
		}
		return errors.Join(errs...)
	}
	for _, name := range slices.Compact(names) {
		u, err := w.Store.Lock(ctx, name)
		if err != nil {
			return nil, errors.Join(err, unlock())
		}
		unlocks = append(unlocks, u)
	}
	return unlock, nil
}

// Unwire releases the ports of a guest that has stopped, and drops its record.
// Ports that are gone are fine, and so is a guest that never had any. A device
// that carries the mark of another guest by now, or none, is left alone. When a
// switch cannot be reached the record stays, for the next try; [Wirer.Prune] finds
// what is left of the ports.
func (w *Wirer) Unwire(ctx context.Context, uuid string) (err error) {
	if _, err := w.Store.Guest(uuid); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := w.Store.LockGuest(ctx, uuid)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	record, err := w.Store.Guest(uuid)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // released by the one who held the lock
	case errors.Is(err, state.ErrDamaged):
		// The ports die with the guest's devices, the record must not stay.
		return errors.Join(err, w.Store.RemoveGuest(uuid))
	case err != nil:
		return err
	}
	if err := w.release(ctx, record); err != nil {
		return err
	}
	w.log().Info("released", "guest", record.Guest.Name, "ports", len(record.Ports))
	return w.Store.RemoveGuest(uuid)
}

func (w *Wirer) release(ctx context.Context, record state.Guest) (err error) {
	var groups []*group
	for _, sw := range record.Switches {
		groups = append(groups, &group{sw: sw})
	}
	unlock, err := w.lockSwitches(ctx, groups)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	defer func() { err = errors.Join(err, closeAll(groups)) }()
	var errs []error
	for _, g := range groups {
		if err := w.releaseOn(ctx, g, record); !errors.Is(err, switchcfg.ErrNoSwitch) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// releaseOn releases the guest's ports on one switch.
func (w *Wirer) releaseOn(ctx context.Context, g *group, record state.Guest) error {
	var devices []string
	for _, p := range record.Ports {
		if p.Switch == g.sw.Name {
			devices = append(devices, p.Device)
		}
	}
	if err := w.open(ctx, g); err != nil {
		return err
	}
	if err := w.releasePorts(ctx, g, record, devices); err != nil {
		return err
	}
	if releaser, ok := g.driver.(switchcfg.Releaser); ok {
		if err := releaser.Release(ctx, record.Guest.UUID, ids(record, g.sw.Name)); err != nil {
			return err
		}
	}
	return w.tidy(ctx, g, indices(record, g.sw.Name, g.sw.Driver))
}

// ids are what the guest's ports of the switch are called on all hosts.
func ids(record state.Guest, sw string) []string {
	var all []string
	for _, p := range record.Ports {
		if p.Switch == sw && p.InterfaceID != "" {
			all = append(all, p.InterfaceID)
		}
	}
	return all
}

// indices are the numbers of the guest's ports of which the switch keeps
// something apart.
func indices(record state.Guest, sw string, driver vnet.Driver) []int {
	gone := []int{}
	for _, p := range record.Ports {
		if image, ok := beforeImage(record, sw, p.Device); ok && leaves(p, driver) && image.Index != 0 {
			gone = append(gone, image.Index)
		}
	}
	return gone
}

// leaves reports whether the port had something that its switch keeps apart
// from it. The rates of a port of a Linux bridge go with its device.
func leaves(p vnet.Port, driver vnet.Driver) bool {
	antiSpoof, dhcp, ra := p.Policy.Guards()
	limited := driver != vnet.DriverLinux && p.Policy.QoS != (vnet.QoS{})
	return antiSpoof || dhcp || ra || p.Policy.QoS.Priority != 0 || limited
}

func (w *Wirer) releasePorts(ctx context.Context, g *group, record state.Guest, devices []string) error {
	// Libvirt may take a device away, or give its name to another guest, while
	// we look: then we look again. Each time there is one less.
	for range devices {
		have, err := g.driver.Observe(ctx, switchcfg.Scope{Devices: devices})
		if err != nil {
			return err
		}
		plan := releasePlan(record, have)
		if plan.Empty() {
			return nil
		}
		_, err = g.driver.Apply(ctx, plan)
		if !errors.Is(err, switchcfg.ErrNoPort) && !errors.Is(err, switchcfg.ErrNotOwned) {
			return err
		}
	}
	return nil
}

// releasePlan brings the ports that carry the guest's mark to how libvirt left
// them: whoever made a device may keep it.
func releasePlan(record state.Guest, have switchcfg.State) switchcfg.Plan {
	plan := switchcfg.Plan{Switch: have.Switch}
	for _, device := range have.Devices() {
		found := have.Ports[device]
		if found.Owner.Guest != record.Guest.UUID {
			continue
		}
		before, ok := beforeImage(record, have.Switch, device)
		if !ok {
			before = found
		}
		before.Switch = found.Switch
		plan.Changes = append(plan.Changes, switchcfg.Change{Device: device, Before: found, After: before.Released()})
	}
	return plan
}

// Started notes in the record of a wired guest that its CPUs run, and has the
// guest checked if the user wants that.
func (w *Wirer) Started(ctx context.Context, dom libvirtnet.Domain) error {
	if _, err := w.Store.Guest(dom.UUID); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(w.noteStart(ctx, dom), w.startCheck(ctx, dom.Name))
}

func (w *Wirer) noteStart(ctx context.Context, dom libvirtnet.Domain) (err error) {
	unlock, err := w.Store.LockGuest(ctx, dom.UUID)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	record, err := w.Store.Guest(dom.UUID)
	if err != nil {
		return err
	}
	record.Started = w.now()
	return w.Store.PutGuest(record)
}

// Preflight finds out, touching nothing, whether the guest's NICs could be
// wired: the records of their networks are readable, the switches there and up,
// and able to do what is asked. The guest's devices need not exist. The error is
// as with [Wirer.Wire].
func (w *Wirer) Preflight(ctx context.Context, dom libvirtnet.Domain) error {
	return w.preflight(ctx, w.legs(dom), func(context.Context, *group) {})
}

// prepareGuest is Preflight before anything was done for the guest. A damaged
// record of a network passes, as the network may bring it along when the guest
// gets its ports (see [Wirer.learn]); without it the guest is refused then.
func (w *Wirer) prepareGuest(ctx context.Context, dom libvirtnet.Domain) error {
	legs := slices.DeleteFunc(w.legs(dom), func(l leg) bool { return l.torn })
	return w.preflight(ctx, legs, w.advise)
}

// preflight calls also for each switch that could be opened, too.
func (w *Wirer) preflight(ctx context.Context, legs []leg, also func(context.Context, *group)) (err error) {
	groups, errs := groups(withDevices(legs))
	defer func() { err = errors.Join(err, closeAll(groups)) }()
	for _, g := range groups {
		errs = append(errs, byPolicy(g.onFailure, w.able(ctx, g)))
		also(ctx, g)
	}
	return combine(slices.DeleteFunc(errs, func(err error) bool { return err == nil }))
}

// advise logs, once a start, what on the host spoils the traffic of the switch:
// the guest may start, and whoever wonders why it reaches nobody will look there.
func (w *Wirer) advise(ctx context.Context, g *group) {
	adviser, ok := g.driver.(switchcfg.Adviser)
	if !ok {
		return
	}
	lines, err := adviser.Advise(ctx)
	if err != nil {
		w.log().Warn("no advice", "switch", g.sw.Name, "error", err)
	}
	for _, line := range lines {
		w.log().Warn(line, "switch", g.sw.Name)
	}
}

// able reports why the switch cannot do what is asked.
func (w *Wirer) able(ctx context.Context, g *group) (err error) {
	if err := w.open(ctx, g); err != nil {
		return err
	}
	if g.want, err = switchcfg.Desired(g.ports, g.sw); err != nil {
		return err
	}
	if err := g.driver.Capabilities().Check(ctx, g.want); err != nil {
		return err
	}
	if examiner, ok := g.driver.(switchcfg.Examiner); ok {
		return g.wrap(examiner.Examine(ctx, g.want))
	}
	return nil
}

// withDevices gives a name of its own to each NIC whose device does not exist
// yet.
func withDevices(legs []leg) []leg {
	for i := range legs {
		if legs[i].port.Device == "" {
			legs[i].port.Device = placeholder(legs[i].nic)
		}
	}
	return legs
}

// placeholder is no valid device name, so it can be no other port's.
func placeholder(nic libvirtnet.DomainNIC) string { return "NIC/" + nic.MAC.String() }
