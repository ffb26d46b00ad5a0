// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Command vlanobserve measures, on a kernel with VLAN filtering bridges, how
// long it takes to look at a thousand ports in ten VLANs each, against reading
// the same from the kernel and throwing it away. It prints one line of JSON.
//
// The benchmark runs it, in a machine that is good for nothing else. Like a test
// binary it can be given flags, which it does not have.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// What is looked at.
const (
	bridgeName = "br0"
	ports      = 1000
	vlans      = 10
)

// How often, and how long at most. The first round warms up.
const (
	rounds    = 31
	leastTurn = 5
	workLimit = 40 * time.Second
	limit     = 3 * time.Minute
)

// figures is what is printed.
type figures struct {
	ObserveNs []time.Duration `json:"observeNs"`
	DumpNs    []time.Duration `json:"dumpNs"`
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	found, err := run(ctx)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vlanobserve:", err)
		cancel()
		os.Exit(1)
	}
}

// run makes the ports and measures both ways in turns.
func run(ctx context.Context) (found figures, err error) {
	index, err := build(ctx)
	if err != nil {
		return found, err
	}
	driver, err := drivers.Open(ctx, theSwitch())
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	raw, err := newDumper(index)
	if err != nil {
		return found, err
	}
	defer raw.close()
	if err := errors.Join(checkObserve(ctx, driver), raw.check()); err != nil {
		return found, err
	}
	observe := func() error { _, err := driver.Observe(ctx, switchcfg.Scope{}); return err }
	return interleave(observe, raw.dump)
}

// interleave takes the time of both in turns.
func interleave(observe, dump func() error) (found figures, err error) {
	begun := time.Now()
	for i := 0; i <= rounds && (i <= leastTurn || time.Since(begun) < workLimit); i++ {
		costs := make([]time.Duration, 2)
		for j := range costs {
			which := (i + j) % 2
			since := time.Now()
			if which == 0 {
				err = observe()
			} else {
				err = dump()
			}
			if costs[which] = time.Since(since); err != nil {
				return figures{}, err
			}
		}
		if i > 0 {
			found.ObserveNs, found.DumpNs = append(found.ObserveNs, costs[0]), append(found.DumpNs, costs[1])
		}
	}
	return found, nil
}

func theSwitch() vnet.Switch { return vnet.Switch{Name: bridgeName, Driver: vnet.DriverLinux} }

// trunk is ten VLANs of which no two are neighbours, so that the kernel has to
// tell of each.
func trunk() vnet.VLANSet {
	var set vnet.VLANSet
	for i := range vlans {
		id := vnet.VLANID(10 * (i + 1))
		set.Trunk = append(set.Trunk, vnet.VLANRange{First: id, Last: id})
	}
	return set
}

func device(i int) string { return fmt.Sprint("vnet", i) }

// build makes the bridge and its ports, and wires them. It returns the bridge's
// index.
func build(ctx context.Context) (index int, err error) {
	on := true
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	bridge := &netlink.Bridge{LinkAttrs: attrs, VlanFiltering: &on}
	if err := errors.Join(netlink.LinkAdd(bridge), netlink.LinkSetUp(bridge)); err != nil {
		return 0, fmt.Errorf("make %s: %w", bridgeName, err)
	}
	var wanted []vnet.Port
	for i := range ports {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MasterIndex = device(i), bridge.Index
		if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs}); err != nil {
			return 0, fmt.Errorf("make %s: %w", attrs.Name, err)
		}
		wanted = append(wanted, vnet.Port{
			Device: attrs.Name, Switch: bridgeName, MAC: vnet.MAC{0x52, 0x54, 0, 0, byte(i >> 8), byte(i)}, Network: "lan",
			Guest:  vnet.GuestRef{Name: fmt.Sprint("g", i), UUID: fmt.Sprintf("4dea22b3-1d52-48f3-9516-%012x", i)},
			Policy: vnet.Policy{VLAN: trunk(), Isolated: true},
		})
	}
	return bridge.Index, wire(ctx, wanted)
}

// wire brings the ports to their wanted state.
func wire(ctx context.Context, wanted []vnet.Port) (err error) {
	driver, err := drivers.Open(ctx, theSwitch())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	want, err := switchcfg.Desired(wanted, theSwitch())
	if err != nil {
		return err
	}
	have, err := driver.Observe(ctx, switchcfg.Scope{})
	if err != nil {
		return err
	}
	plan, err := switchcfg.Diff(want, have, "")
	if err != nil {
		return err
	}
	_, err = driver.Apply(ctx, plan)
	return err
}

// checkObserve finds out whether all ports are seen with all VLANs.
func checkObserve(ctx context.Context, driver switchcfg.Driver) error {
	have, err := driver.Observe(ctx, switchcfg.Scope{})
	if err != nil {
		return err
	}
	for i := range ports {
		p, ok := have.Ports[device(i)]
		if !ok || p.Settings.VLAN == nil || !p.Settings.VLAN.Equal(trunk()) {
			return fmt.Errorf("port %s: seen: %v, with VLANs %v, want %v", device(i), ok, p.Settings.VLAN, trunk())
		}
	}
	return nil
}
