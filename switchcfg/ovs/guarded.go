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

// guardOf is the guard that the settings ask for.
func guardOf(s switchcfg.Settings) switchcfg.Guard {
	if s.Guard == nil {
		return switchcfg.Guard{}
	}
	return *s.Guard
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
	if whole, err := d.seesFragments(ctx); err != nil || !whole {
		return err // then they drop more than they should
	}
	for device := range ports {
		if s := v.ports[device]; s.guarded(d.name) {
			*ports[device].Settings.Guard = guardIn(found[s.number])
		}
	}
	return nil
}

// guarded reports whether the port is said to have a guard on the bridge, and
// whether it is known where to look for it.
func (s seen) guarded(bridge string) bool {
	return s.bridge == bridge && s.port != nil && s.port.ExternalIDs[keyGuard] != "" && s.number != 0
}

// setGuards brings the guards of a plan into force, once ovs-vswitchd has its
// ports. Those that leave the bridge lose theirs by the number they had.
func (d *Driver) setGuards(ctx context.Context, plan switchcfg.Plan, old view) error {
	guards := map[int]switchcfg.Guard{}
	var devices []string
	wanted := map[string]switchcfg.Guard{}
	for _, c := range plan.Changes {
		to := guardOf(c.After.Settings)
		if to.Equal(guardOf(c.Before.Settings)) && c.Before.Switch == c.After.Switch {
			continue
		}
		if s := old.ports[c.Device]; s.guarded(d.name) {
			guards[s.number] = switchcfg.Guard{}
		}
		if c.After.Switch == d.name && !to.IsZero() {
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
			guards[numbers[device]] = wanted[device]
		}
	}
	if err := d.setFlows(ctx, guards); err != nil {
		return fmt.Errorf("guard %d ports: %w", len(guards), err)
	}
	return nil
}

// portNumbersOf are the OpenFlow numbers of devices, or zero.
func (d *Driver) portNumbersOf(ctx context.Context, devices []string) (map[string]int, error) {
	ops := make([]ovsdb.Operation, len(devices))
	for i, device := range devices {
		ops[i] = readNumbers(ovsdb.Where("name", device))
	}
	results, err := d.transact(ctx, ops...)
	if err != nil {
		return nil, fmt.Errorf("read port numbers: %w", err)
	}
	numbers := make(map[string]int, len(devices))
	for i, device := range devices {
		rows, err := ovsdb.Rows[record](results, i)
		if err != nil {
			return nil, fmt.Errorf("read the port number of %s: %w", device, err)
		}
		if len(rows) > 0 {
			numbers[device] = rows[0].number()
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
	stale := map[int]switchcfg.Guard{}
	for _, port := range gone {
		if !alive[port] {
			stale[port] = switchcfg.Guard{}
		}
	}
	return d.setFlows(ctx, stale)
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
