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
)

// The Open vSwitch bridge with a thousand ports, and its network.
const (
	ovsHallBridge  = "ovs5"
	ovsHallNetwork = "hall2"
	ovsHallPrefix  = "vnet5-"
	// ovsHallGroup is the link group of its taps, which go together.
	ovsHallGroup = "50"
)

// ovsHall measures a thousand ports of Open vSwitch: planning without drift, and
// repairing them all when each has drifted.
func ovsHall(ctx context.Context, b *bench) (m medians, err error) {
	network := red(ovsHallBridge)
	network.Network.Name = ovsHallNetwork
	nics := newNICs(ovsHallNetwork, ovsHallBridge, ovsHallPrefix, planPorts)
	for i := range nics {
		nics[i].OVS = true
	}
	if err := errors.Join(b.needOVS(ctx), b.lab.AddOVSBridge(ctx, ovsHallBridge), b.store.PutNetwork(network)); err != nil {
		return medians{}, err
	}
	defer func() { err = errors.Join(err, b.leaveOVSHall(ctx)) }()
	if err := b.addOVSPorts(ctx, nics); err != nil {
		return medians{}, err
	}
	var groups []string
	for _, n := range nics {
		groups = append(groups, "link set dev "+n.Device+" group "+ovsHallGroup)
	}
	if _, err := tool(ctx, groups, "ip", "-batch", "-"); err != nil {
		return medians{}, err
	}
	p, err := b.plannerOf(nics)
	if err != nil {
		return medians{}, err
	}
	tag := func(value string) func(context.Context, string) error {
		return func(ctx context.Context, device string) error {
			_, err := b.lab.Vsctl(ctx, "set", "port", device, "tag="+value)
			return err
		}
	}
	p.spoil, p.mend = tag("99"), tag("20")
	if err := p.wire(ctx); err != nil {
		return medians{}, err
	}
	planned, err := interleave(
		ctx, effort{least: 11, most: 51, limit: 8 * time.Second},
		contender{name: "plan", run: p.ours, check: p.finds},
		contender{name: "list", run: listPortsCPU},
	)
	if err != nil {
		return medians{}, err
	}
	repaired, err := interleave(ctx, effort{least: 5, most: 21, limit: 12 * time.Second}, b.repairJob(p, nics), b.setAllJob(nics))
	planned.of["repair"], planned.of["once"] = repaired.of["repair"], repaired.of["once"]
	return planned, err
}

// leaveOVSHall removes the bridge and the taps, with which ovs-vswitchd would take
// long to end.
func (b *bench) leaveOVSHall(ctx context.Context) error {
	_, err := b.lab.Vsctl(ctx, "--timeout=60", "del-br", ovsHallBridge) // which takes it more than ten seconds
	_, errTaps := tool(ctx, nil, "ip", "link", "delete", "group", ovsHallGroup)
	return errors.Join(err, errTaps)
}

// listPortsCPU is the CPU time of the tool that lists the same.
func listPortsCPU(ctx context.Context) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, "ovs-vsctl", "--no-wait", "--format=json", "list", "port")
	if _, err := cmd.Output(); err != nil {
		return 0, err
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// repairJob repairs the guests of all NICs, one each.
func (b *bench) repairJob(p *planner, nics []nic) contender {
	c := b.spoiled(nics)
	c.name = "repair"
	before := 0 // transactions
	reset := c.reset
	c.reset = func(ctx context.Context) (err error) {
		err = reset(ctx)
		if err == nil {
			before, err = b.ovsTransactions(ctx)
		}
		return err
	}
	c.run = func(ctx context.Context) (time.Duration, error) {
		begun := time.Now()
		errRepair := p.wire(ctx)
		took := time.Since(begun)
		now, err := b.ovsTransactions(ctx)
		if n := now - before; err == nil && n != 1 {
			err = fmt.Errorf("repair took %d transactions, want one", n)
		}
		return took, errors.Join(errRepair, err)
	}
	return c
}

// setAllJob is one ovs-vsctl that knows what is wrong.
func (b *bench) setAllJob(nics []nic) contender {
	c := b.spoiled(nics)
	c.name = "once"
	c.run = func(ctx context.Context) (time.Duration, error) {
		begun := time.Now()
		err := b.setTags(ctx, nics, "20")
		return time.Since(begun), err
	}
	return c
}

// spoiled is a job that finds all ports in another VLAN, and is to put them back.
func (b *bench) spoiled(nics []nic) contender {
	return contender{
		reset: func(ctx context.Context) error { return b.setTags(ctx, nics, "99") },
		check: func(ctx context.Context) error {
			tags, err := b.lab.Vsctl(ctx, "--no-wait", "--bare", "--columns=tag", "find", "port", "tag=20")
			if n := len(strings.Fields(tags)); err == nil && n < len(nics) {
				err = fmt.Errorf("%d ports are in VLAN 20, want at least %d", n, len(nics))
			}
			return err
		},
	}
}

func (b *bench) setTags(ctx context.Context, nics []nic, tag string) error {
	var commands []string
	for _, n := range nics {
		commands = append(commands, "--", "set", "port", n.Device, "tag="+tag)
	}
	_, err := b.lab.Vsctl(ctx, commands...)
	return err
}
