// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
)

// A guarded port says so in its external_ids, so that nobody need ask for the
// flows of one that is not. The flows themselves are the guard: they go with
// ovs-vswitchd, and then the port has none.

// filterOf is the filter that the settings ask for.
func filterOf(s switchcfg.Settings) filter {
	f := filter{outbound: qosOf(s).Outbound}
	if s.Guard != nil {
		f.guard = *s.Guard
	}
	return f
}

// addGuards completes the ports that are said to be guarded.
func (d *Driver) addGuards(ctx context.Context, v view, ports map[string]switchcfg.Port) error {
	numbers := []int{}
	for device := range ports {
		if s := v.ports[device]; s.guarded(d.name) {
			numbers = append(numbers, s.number)
		}
	}
	if len(numbers) == 0 {
		return nil
	}
	found, err := d.flowsOf(ctx, numbers)
	if err != nil {
		return fmt.Errorf("look at guards: %w", err)
	}
	var guards, metered bool
	for device := range ports {
		s := v.ports[device]
		if !s.guarded(d.name) {
			continue
		}
		*ports[device].Settings.Guard = guardIn(found[s.number])
		guards = guards || !ports[device].Settings.Guard.IsZero()
		metered = metered || s.rates().Outbound.Bits != 0
	}
	if metered {
		if err := d.addOutbound(ctx, v, ports, found); err != nil {
			return fmt.Errorf("look at meters: %w", err)
		}
	}
	if !guards {
		return nil
	}
	return d.checkFragments(ctx, v, ports)
}

// checkFragments takes guards for none that drop more than they should.
func (d *Driver) checkFragments(ctx context.Context, v view, ports map[string]switchcfg.Port) error {
	whole, err := d.seesFragments(ctx)
	if err != nil {
		return fmt.Errorf("look at guards: %w", err)
	}
	for device := range ports {
		if s := v.ports[device]; s.guarded(d.name) && !whole {
			*ports[device].Settings.Guard = switchcfg.Guard{}
		}
	}
	return nil
}

// guarded reports whether the port is said to have a guard on the bridge, and
// whether it is known where to look for it.
func (s seen) guarded(bridge string) bool {
	return s.bridge == bridge && s.port != nil && s.port.ExternalIDs[keyGuard] != "" && s.number != 0
}

// filter brings the filters of a plan into force, once ovs-vswitchd has its
// ports. Those that leave the bridge lose theirs by the number they had.
func (d *Driver) filter(ctx context.Context, plan switchcfg.Plan, old view) error {
	filters, metered := map[int]filter{}, map[int]bool{}
	var devices []string
	wanted := map[string]filter{}
	for _, c := range plan.Changes {
		to := filterOf(c.After.Settings)
		if to.equal(filterOf(c.Before.Settings)) && c.Before.Switch == c.After.Switch {
			continue
		}
		if s := old.ports[c.Device]; s.guarded(d.name) {
			filters[s.number], metered[s.number] = filter{}, s.rates().Outbound.Bits != 0
		}
		if c.After.Switch == d.name && !to.isZero() {
			devices = append(devices, c.Device)
			wanted[c.Device] = to
		}
	}
	if len(devices) > 0 {
		numbers, err := d.portNumbersOf(ctx, devices)
		if err != nil {
			return err
		}
		for _, device := range devices {
			if numbers[device] == 0 {
				return fmt.Errorf("port %s: %w: ovs-vswitchd has given it no number", device, switchcfg.ErrNoPort)
			}
			filters[numbers[device]] = wanted[device]
		}
	}
	if len(filters) == 0 {
		return nil
	}
	if err := d.setFilters(ctx, filters, metered); err != nil {
		return fmt.Errorf("guard %d ports: %w", len(filters), err)
	}
	return nil
}

// portNumbersOf are the OpenFlow numbers of devices, or zero.
func (d *Driver) portNumbersOf(ctx context.Context, devices []string) (map[string]int, error) {
	ops := []ovsdb.Operation{readNumbers([]ovsdb.Condition{})}
	if len(devices) <= wide {
		ops = nil
		for _, device := range devices {
			ops = append(ops, readNumbers(ovsdb.Where("name", device)))
		}
	}
	results, err := d.transact(ctx, ops...)
	if err != nil {
		return nil, fmt.Errorf("read port numbers: %w", err)
	}
	numbers := make(map[string]int, len(devices))
	for i := range ops {
		rows, err := ovsdb.Rows[record](results, i)
		if err != nil {
			return nil, fmt.Errorf("read port numbers: %w", err)
		}
		for _, r := range rows {
			numbers[r.Name] = r.number()
		}
	}
	return numbers, nil
}

// Sweep implements [switchcfg.Sweeper]: flows are kept by the number of their
// port, which Open vSwitch may give to another one day.
func (d *Driver) Sweep(ctx context.Context, gone []int) error {
	if err := d.sweep(ctx, gone); err != nil {
		return fmt.Errorf("switch %s: sweep guards: %w", d.name, err)
	}
	return nil
}

func (d *Driver) sweep(ctx context.Context, gone []int) error {
	if d.lacksOpenFlow() != "" {
		return nil // nor can there be any
	}
	scope, err := d.having(ctx, gone)
	if err != nil {
		return err
	}
	v, err := d.look(ctx, scope)
	if err != nil {
		return err
	}
	if gone == nil {
		found, err := d.flowsOf(ctx, nil)
		if err != nil {
			return err
		}
		gone = slices.Collect(maps.Keys(found))
	}
	alive := map[int]bool{}
	for _, s := range v.ports {
		alive[s.number] = alive[s.number] || s.guarded(d.name)
	}
	stale, metered := map[int]filter{}, map[int]bool{}
	for _, port := range gone {
		if !alive[port] {
			stale[port], metered[port] = filter{}, true
		}
	}
	if err := d.setFilters(ctx, stale, metered); err != nil {
		return err
	}
	return d.sweepQueues(ctx)
}

// having is the scope of the devices that have one of the numbers by now, on
// whichever bridge, or of all with nil.
func (d *Driver) having(ctx context.Context, numbers []int) (switchcfg.Scope, error) {
	if numbers == nil {
		return switchcfg.Scope{}, nil
	}
	ops := make([]ovsdb.Operation, len(numbers))
	for i, number := range numbers {
		ops[i] = readNumbers([]ovsdb.Condition{{"ofport", "includes", number}})
	}
	results, err := d.transact(ctx, ops...)
	if err != nil {
		return switchcfg.Scope{}, fmt.Errorf("read port numbers: %w", err)
	}
	scope := switchcfg.Scope{Devices: []string{}}
	for i := range numbers {
		rows, err := ovsdb.Rows[record](results, i)
		if err != nil {
			return switchcfg.Scope{}, fmt.Errorf("read port numbers: %w", err)
		}
		for _, r := range rows {
			scope.Devices = append(scope.Devices, r.Name)
		}
	}
	return scope, nil
}
