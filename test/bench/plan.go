// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// The Linux bridge of the plan row. A bridge has room for 1,023 ports.
const (
	planBridge = "br2"
	planPorts  = 1000
)

// planner compares all ports of a switch with what they should be.
type planner struct {
	sw    vnet.Switch
	ports []vnet.Port
	// spoil has one port drift, and mend puts it back.
	spoil, mend func(ctx context.Context, device string) error
}

// newPlanner makes the bridge with its ports and wires them.
func newPlanner(ctx context.Context, b *bench) (*planner, error) {
	if err := b.lab.AddLinuxBridge(ctx, planBridge); err != nil {
		return nil, err
	}
	nics := newNICs(linuxNetwork, planBridge, "vnet3-", planPorts)
	if err := addTaps(ctx, nics); err != nil {
		return nil, err
	}
	p, err := plannerOf(lan(planBridge), nics)
	if err != nil {
		return nil, err
	}
	isolated := func(value string) func(context.Context, string) error {
		return func(_ context.Context, device string) error { return portState{"brport/isolated": value}.set(device) }
	}
	p.spoil, p.mend = isolated("0"), isolated("1")
	return p, p.wire(ctx)
}

// plannerOf plans for the NICs of as many guests in a network.
func plannerOf(network state.Network, nics []nic) (*planner, error) {
	p := &planner{sw: network.Switch}
	for i, n := range nics {
		mac, err := vnet.ParseMAC(n.MAC)
		if err != nil {
			return nil, err
		}
		p.ports = append(p.ports, vnet.Port{
			Device: n.Device, Switch: network.Switch.Name, MAC: mac, Network: network.Network.Name,
			Guest: vnet.GuestRef{Name: fmt.Sprintf("g%d", i), UUID: fmt.Sprintf("4dea22b3-1d52-48f3-9516-%012x", 5000+i)},
			MTU:   network.Network.MTU, Policy: network.Network.Policy,
		})
	}
	return p, nil
}

// wire brings all ports to what they should be.
func (p *planner) wire(ctx context.Context) error {
	return p.with(ctx, func(driver switchcfg.Driver) error {
		todo, err := p.diff(ctx, driver)
		if err != nil {
			return err
		}
		_, err = driver.Apply(ctx, todo)
		return err
	})
}

func (p *planner) with(ctx context.Context, f func(switchcfg.Driver) error) error {
	driver, err := drivers.Open(ctx, p.sw)
	if err != nil {
		return err
	}
	return errors.Join(f(driver), driver.Close())
}

// diff is the plan for the whole switch.
func (p *planner) diff(ctx context.Context, driver switchcfg.Driver) (switchcfg.Plan, error) {
	want, err := switchcfg.Desired(p.ports, p.sw)
	if err != nil {
		return switchcfg.Plan{}, err
	}
	if err := driver.Capabilities().Check(ctx, want); err != nil {
		return switchcfg.Plan{}, err
	}
	have, err := driver.Observe(ctx, switchcfg.Scope{})
	if err != nil {
		return switchcfg.Plan{}, err
	}
	return switchcfg.Diff(want, have, "")
}

// changes opens the switch and returns the number of changes that are due.
func (p *planner) changes(ctx context.Context) (changes int, err error) {
	err = p.with(ctx, func(driver switchcfg.Driver) error {
		todo, err := p.diff(ctx, driver)
		changes = len(todo.Changes)
		return err
	})
	return changes, err
}

// ours is the CPU time of planning without drift, all threads of this process
// included.
func (p *planner) ours(ctx context.Context) (time.Duration, error) {
	before, err := ownCPU()
	if err != nil {
		return 0, err
	}
	changes, err := p.changes(ctx)
	if err == nil && changes != 0 {
		err = fmt.Errorf("%d changes planned, want none", changes)
	}
	after, errAfter := ownCPU()
	return after - before, errors.Join(err, errAfter)
}

// finds makes sure that drift is seen: that of one port among a thousand.
func (p *planner) finds(ctx context.Context) error {
	broken := p.ports[planPorts/2].Device
	if err := p.spoil(ctx, broken); err != nil {
		return err
	}
	changes, err := p.changes(ctx)
	if err == nil && changes != 1 {
		err = fmt.Errorf("one port has drifted, %d changes planned", changes)
	}
	return errors.Join(err, p.mend(ctx, broken))
}

// showIP is the CPU time of the tool that lists the same ports in one dump.
func showIP(ctx context.Context) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, "ip", "-d", "-j", "link", "show", "master", planBridge)
	out, err := cmd.Output()
	if err == nil && strings.Count(string(out), `"ifname"`) != planPorts {
		err = fmt.Errorf("ip lists another number of ports than %d", planPorts)
	}
	if err != nil {
		return 0, err
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// plan measures a switch with a thousand ports and no drift.
func plan(ctx context.Context, b *bench) (medians, error) {
	p, err := newPlanner(ctx, b)
	if err != nil {
		return medians{}, err
	}
	return interleave(
		ctx, effort{least: 11, most: 51, limit: 10 * time.Second},
		contender{name: "ours", run: p.ours, check: p.finds},
		contender{name: "ip", run: showIP},
	)
}

// ownCPU is the CPU time of this process so far.
func ownCPU() (time.Duration, error) {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
