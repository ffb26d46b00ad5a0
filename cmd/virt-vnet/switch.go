// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// switchPlan is what apply would change of a switch itself, and what on the host
// spoils its traffic.
type switchPlan struct {
	Name     string   `json:"name"`
	Changes  []string `json:"changes,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// switchPlans compares the switches of the spec with the host's.
func (s *site) switchPlans(ctx context.Context, defined []virtapi.Network, running []libvirtnet.Domain) ([]switchPlan, error) {
	plans := []switchPlan{}
	var errs []error
	for _, sw := range s.topology.Switches {
		p, err := s.switchPlan(ctx, sw, defined, running)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		plans = append(plans, p)
	}
	return plans, errors.Join(errs...)
}

func (s *site) switchPlan(ctx context.Context, sw vnet.Switch, defined []virtapi.Network, running []libvirtnet.Domain) (switchPlan, error) {
	advice, err := advise(ctx, sw, defined)
	if err != nil {
		return switchPlan{}, err
	}
	plan, err := s.wirer.PlanSwitch(ctx, sw)
	if err != nil {
		return switchPlan{}, err
	}
	p := switchPlan{Name: sw.Name, Warnings: append(advice, plan.Warnings...)}
	list, err := s.stale(ctx, sw, running)
	if err != nil {
		p.Warnings = append(p.Warnings, err.Error())
	}
	for _, stale := range list {
		p.Warnings = append(p.Warnings, stale.String()+": "+staleFix(stale))
	}
	for _, c := range plan.Changes {
		p.Changes = append(p.Changes, c.Lines()...)
	}
	return p, nil
}

// advise says what on the host spoils the traffic of a switch. One that is not
// there has nothing to say: who needs it will.
func advise(ctx context.Context, sw vnet.Switch, defined []virtapi.Network) (lines []string, err error) {
	for _, n := range defined {
		if libvirtnet.ManagedMACTable(n.XML) == sw.Name && !n.Owned {
			lines = append(lines, fmt.Sprintf("network %s, which is not virt-vnet's, has macTableManager='libvirt': libvirt sets up ports of %s "+
				"for itself: take it out with: virsh net-edit %s", n.Name, sw.Name, n.Name))
		}
	}
	driver, err := drivers.Open(ctx, sw)
	if err != nil {
		return lines, nil //nolint:nilerr // whoever needs the switch says it better
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	adviser, ok := driver.(switchcfg.Adviser)
	if !ok {
		return lines, nil
	}
	more, err := adviser.Advise(ctx)
	return append(lines, more...), err
}

// warn says on standard error what spoils the traffic of the switches.
func (s *site) warn(ctx context.Context, std stdio) error {
	defined, err := s.conn.Networks(ctx)
	if err != nil {
		return err
	}
	for _, sw := range s.topology.Switches {
		lines, err := advise(ctx, sw, defined)
		if err != nil {
			return err
		}
		for _, line := range lines {
			fmt.Fprintf(std.err, "virt-vnet: switch %s: %s\n", sw.Name, line)
		}
	}
	return nil
}

// setSwitches brings the switches that are ours to what the spec says, before
// guests are wired to them, and returns how many settings that were.
func (s *site) setSwitches(ctx context.Context, std stdio) (changed int, err error) {
	for _, sw := range s.topology.Switches {
		plan, err := s.wirer.SetSwitch(ctx, sw)
		changed += writeSwitchChanges(std, plan)
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

func writeSwitchChanges(std stdio, plan switchcfg.Plan) (lines int) {
	for line := range strings.Lines(plan.String()) {
		fmt.Fprintf(std.out, "switch %s", line)
		lines++
	}
	return lines
}

// returnSwitches gives back the switches that no network of ours looks after any
// more.
func (s *site) returnSwitches(ctx context.Context, std stdio) error {
	touched, err := s.store.Switches()
	if err != nil {
		return err
	}
	networks, err := s.store.Networks()
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range touched {
		kept := false
		for _, n := range networks {
			kept = kept || n.Switch.Name == t.Switch.Name && n.Switch.Configured()
		}
		if kept {
			continue
		}
		plan, err := s.wirer.ReturnSwitch(ctx, t.Switch.Name)
		writeSwitchChanges(std, plan)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// tidySwitches removes from the spec's switches what guests that are gone left
// there. On OVN they leave ports, which are pruned.
func (s *site) tidySwitches(ctx context.Context) error {
	other := func(sw vnet.Switch) bool { return sw.Driver == vnet.DriverOVN }
	return s.wirer.Tidy(ctx, slices.DeleteFunc(slices.Clone(s.topology.Switches), other))
}
