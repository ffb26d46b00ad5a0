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

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
)

// The Linux bridge of the plan row. A bridge has room for 1,023 ports.
const (
	planBridge  = "br2"
	planNetwork = "hall3"
	planPorts   = 1000
)

// planner compares all ports of a switch with what they should be, as virt-vnet
// plan does.
type planner struct {
	wirer  *hooks.Wirer
	guests []libvirtnet.Domain
	// spoil has one port drift, and mend puts it back.
	spoil, mend func(ctx context.Context, device string) error
}

// newPlanner makes the bridge with its ports and wires them.
func newPlanner(ctx context.Context, b *bench) (*planner, error) {
	network := lan(planBridge)
	network.Network.Name = planNetwork
	nics := newNICs(planNetwork, planBridge, "vnet3-", planPorts)
	if err := errors.Join(b.lab.AddLinuxBridge(ctx, planBridge), b.store.PutNetwork(network), addTaps(ctx, nics)); err != nil {
		return nil, err
	}
	p, err := b.plannerOf(nics)
	if err != nil {
		return nil, err
	}
	isolated := func(value string) func(context.Context, string) error {
		return func(_ context.Context, device string) error { return portState{"brport/isolated": value}.set(device) }
	}
	p.spoil, p.mend = isolated("0"), isolated("1")
	return p, p.wire(ctx)
}

// plannerOf plans for as many guests as there are NICs.
func (b *bench) plannerOf(nics []nic) (*planner, error) {
	guests, err := guestsOf(nics)
	return &planner{wirer: &hooks.Wirer{Store: b.store, Open: drivers.Open}, guests: guests}, err
}

// guestsOf gives each NIC a guest of its own.
func guestsOf(nics []nic) ([]libvirtnet.Domain, error) {
	guests := make([]libvirtnet.Domain, len(nics))
	for i, n := range nics {
		g, err := newGuest(5000+i, []nic{n})
		if err != nil {
			return nil, err
		}
		if guests[i], err = libvirtnet.ParseDomain(g.xml); err != nil {
			return nil, err
		}
	}
	return guests, nil
}

// wire brings all ports to what they should be.
func (p *planner) wire(ctx context.Context) error {
	var errs []error
	for _, r := range p.wirer.RepairAll(ctx, p.guests) {
		errs = append(errs, r.Err)
	}
	return errors.Join(errs...)
}

// changes is how many NICs something is to be changed of.
func (p *planner) changes(ctx context.Context) (changes int, err error) {
	var errs []error
	for _, plan := range p.wirer.PlanAll(ctx, p.guests) {
		errs = append(errs, plan.Err)
		for _, nic := range plan.NICs {
			changes += len(nic.Changes)
		}
	}
	return changes, errors.Join(errs...)
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
	broken := p.guests[planPorts/2].NICs[0].Device
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
