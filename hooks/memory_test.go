// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"context"
	"fmt"
	"sync"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// memory is one switch of a host in memory, with faults of its own.
type memory struct {
	vnet.Switch
	host *switchtest.Host

	mu        sync.Mutex
	missing   map[switchcfg.Feature]string
	openError error
	deaf      bool              // changes have no effect
	onChange  func(n int) error // before the n-th change
	after     func(n int) error // when it is made
	onObserve func(n int) error
	onDevice  func(device string) error // before a change of that device
	applies   int
	changes   int
	observed  int
	opened    int
}

func (m *memory) failChange(n int, err error)      { m.onChange = nth(n, err) }
func (m *memory) failAfterChange(n int, err error) { m.after = nth(n, err) }
func (m *memory) failObserve(n int, err error)     { m.onObserve = nth(n, err) }

// nth is a fault at the n-th time.
func nth(n int, err error) func(int) error {
	return func(i int) error {
		if i == n {
			return err
		}
		return nil
	}
}

// heal ends all faults.
func (m *memory) heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.openError, m.deaf, m.onChange, m.after, m.onObserve, m.missing = nil, false, nil, nil, nil, nil
}

func (m *memory) setMark(device string, owner switchcfg.Owner) {
	m.host.Change(device, func(p *switchcfg.Port) { p.Owner = owner })
}

// setMTU breaks vnet0.
func (m *memory) setMTU(mtu int) {
	m.host.Change("vnet0", func(p *switchcfg.Port) { p.Settings.MTU = mtu })
}

// ports returns the ports as they are, past all faults.
func (m *memory) ports(ctx context.Context) map[string]switchcfg.Port {
	d, err := m.host.Open(ctx, m.Switch)
	if err != nil {
		panic(err)
	}
	state, err := d.Observe(ctx, switchcfg.Scope{})
	if err != nil {
		panic(err)
	}
	return state.Ports
}

func (m *memory) open(ctx context.Context) (switchcfg.Driver, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.openError != nil {
		return nil, fmt.Errorf("switch %s: %w", m.Name, m.openError)
	}
	d, err := m.host.Open(ctx, m.Switch)
	m.opened++
	return &memoryDriver{d, m}, err
}

// memoryDriver is a driver in memory with the faults of its switch.
type memoryDriver struct {
	switchcfg.Driver
	m *memory
}

func (d *memoryDriver) Capabilities() switchcfg.Capabilities {
	caps := d.Driver.Capabilities()
	if d.m.missing != nil {
		caps.Missing = d.m.missing
	}
	return caps
}

// due counts, and returns the fault that is due.
func (m *memory) due(count *int, fault *func(int) error) error {
	m.mu.Lock()
	*count++
	n, f := *count, *fault
	m.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(n)
}

func (d *memoryDriver) Observe(ctx context.Context, scope switchcfg.Scope) (switchcfg.State, error) {
	if err := d.m.due(&d.m.observed, &d.m.onObserve); err != nil {
		return switchcfg.State{}, err
	}
	return d.Driver.Observe(ctx, scope)
}

func (d *memoryDriver) Apply(ctx context.Context, plan switchcfg.Plan) (applied []switchcfg.Change, err error) {
	d.m.mu.Lock()
	d.m.applies++
	d.m.mu.Unlock()
	for _, c := range plan.Changes {
		if d.m.onDevice != nil {
			if err := d.m.onDevice(c.Device); err != nil {
				return applied, err
			}
		}
		if err := d.m.due(&d.m.changes, &d.m.onChange); err != nil {
			return applied, err
		}
		if !d.m.deaf {
			if _, err := d.Driver.Apply(ctx, switchcfg.Plan{Switch: plan.Switch, Changes: []switchcfg.Change{c}}); err != nil {
				return applied, err
			}
		}
		applied = append(applied, c)
		if d.m.after != nil {
			if err := d.m.after(d.m.changes); err != nil {
				return applied, err
			}
		}
	}
	return applied, nil
}

func (d *memoryDriver) Close() error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.opened--
	return d.Driver.Close()
}
