// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// group is the ports of one guest on one switch that succeed or fail together.
type group struct {
	sw        vnet.Switch
	onFailure vnet.FailurePolicy
	ports     []vnet.Port
	// old names devices that an earlier run wired and that are no longer
	// wanted.
	old []string

	driver  switchcfg.Driver
	want    switchcfg.State
	have    switchcfg.State
	plan    switchcfg.Plan
	applied []switchcfg.Change
}

// groups sorts the legs to be wired by switch. Networks that let failures pass
// make a group of their own: their failure must not take the others along.
// Failures of legs are returned too, as [Warning] where policy lets them pass.
func groups(legs []leg) ([]*group, []error) {
	var all []*group
	var errs []error
	for _, l := range legs {
		switch {
		case l.err != nil:
			errs = append(errs, byPolicy(l.onFailure, l.err))
		case l.wired():
			g, err := groupOf(&all, l)
			if err != nil {
				errs = append(errs, byPolicy(l.onFailure, err))
				continue
			}
			g.ports = append(g.ports, l.port)
		}
	}
	return all, errs
}

func groupOf(all *[]*group, l leg) (*group, error) {
	for _, g := range *all {
		if g.sw.Name == l.sw.Name && g.sw.Driver != l.sw.Driver {
			return nil, fmt.Errorf("network %s: switch %s is %s here and %s in another network: write both anew with: virt-vnet apply",
				l.port.Network, l.sw.Name, l.sw.Driver, g.sw.Driver)
		}
	}
	i := slices.IndexFunc(*all, func(g *group) bool { return g.sw.Name == l.sw.Name && g.onFailure == l.onFailure })
	if i >= 0 {
		return (*all)[i], nil
	}
	g := &group{sw: l.sw, onFailure: l.onFailure}
	*all = append(*all, g)
	return g, nil
}

// prepare opens the switch of g and finds out what is to be done.
func (w *Wirer) prepare(ctx context.Context, g *group, uuid string) error {
	if err := w.open(ctx, g); err != nil {
		return err
	}
	return g.study(ctx, uuid)
}

// study finds out what is to be done to the switch of g, which is open.
func (g *group) study(ctx context.Context, uuid string) (err error) {
	if err := g.wish(ctx); err != nil {
		return err
	}
	if g.have, err = g.driver.Observe(ctx, switchcfg.Scope{Devices: g.devices()}); err != nil {
		return g.wrap(err)
	}
	return g.diff(uuid)
}

// wish finds out what the ports of g are to be like, and whether its switch can
// do that.
func (g *group) wish(ctx context.Context) error {
	for _, p := range g.ports {
		if p.Device == "" {
			return fmt.Errorf("network %s: NIC %s has no device on the host: the guest does not run", p.Network, p.MAC)
		}
	}
	var err error
	if g.want, err = switchcfg.Desired(g.ports, g.sw); err != nil {
		return err
	}
	caps := g.driver.Capabilities()
	caps.Try = nil // the changes themselves are the attempt, and are undone
	return caps.Check(ctx, g.want)
}

// devices are those to look at.
func (g *group) devices() []string { return append(g.want.Devices(), g.old...) }

// diff finds out what is to be changed for the guest.
func (g *group) diff(uuid string) (err error) {
	if g.plan, err = switchcfg.Diff(g.want, g.have, uuid); err != nil {
		return g.wrap(err)
	}
	return nil
}

func (w *Wirer) open(ctx context.Context, g *group) (err error) {
	if g.driver, err = w.Open(ctx, g.sw); err != nil {
		return g.wrap(err)
	}
	return nil
}

// apply makes the changes of g and looks whether they are there.
func apply(ctx context.Context, g *group, uuid string) (err error) {
	if g.plan.Empty() {
		return nil
	}
	if g.applied, err = g.driver.Apply(ctx, g.plan); err != nil {
		return g.wrap(err)
	}
	have, err := g.driver.Observe(ctx, switchcfg.Scope{Devices: g.devices()})
	if err != nil {
		return g.wrap(err)
	}
	left, err := switchcfg.Diff(g.want, have, uuid)
	if err != nil {
		return g.wrap(err)
	}
	if !left.Empty() {
		return g.wrap(fmt.Errorf("the switch did not take it: left to do: %s", oneLine(errors.New(left.String()))))
	}
	return nil
}

// undo takes back what was applied, on all switches at the same time: one that
// does not answer must not use up the others' time.
func undo(ctx context.Context, groups []*group) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	errs := make([]error, len(groups))
	var wg sync.WaitGroup
	for i, g := range groups {
		if len(g.applied) == 0 {
			continue
		}
		wg.Go(func() {
			back := switchcfg.Plan{Switch: g.sw.Name, Changes: g.applied}.Reverse()
			if _, err := g.driver.Apply(ctx, back); err != nil {
				errs[i] = fmt.Errorf("undo: %w", g.wrap(err))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// wrap says which networks the failure is of.
func (g *group) wrap(err error) error {
	if err == nil {
		return nil
	}
	var networks []string
	for _, p := range g.ports {
		if !slices.Contains(networks, p.Network) {
			networks = append(networks, p.Network)
		}
	}
	if len(networks) == 0 {
		return err
	}
	return fmt.Errorf("network %s: %w", strings.Join(networks, ", "), err)
}

func refused(errs []error) bool {
	return slices.ContainsFunc(errs, func(err error) bool {
		_, warning := errors.AsType[*Warning](err)
		return !warning
	})
}

func closeAll(groups []*group) error {
	var errs []error
	for _, g := range groups {
		if g.driver != nil {
			errs = append(errs, g.driver.Close())
		}
	}
	return errors.Join(errs...)
}
