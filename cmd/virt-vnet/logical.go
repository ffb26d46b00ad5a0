// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// logicalPlan is what apply would change of the networks that a switch itself
// has, for all hosts at once.
type logicalPlan struct {
	Switch  string   `json:"switch"`
	Changes []string `json:"changes"`
}

// logicalPlans compares the networks of the spec with those of their switches.
func (s *site) logicalPlans(ctx context.Context) ([]logicalPlan, error) {
	plans := []logicalPlan{}
	err := s.eachNetworker(ctx, s.topology.Networks, func(n switchcfg.Networker, sw vnet.Switch, names []string) error {
		lines, err := n.PlanNetworks(ctx, &s.topology, names)
		if err == nil {
			plans = append(plans, logicalPlan{sw.Name, append([]string{}, lines...)})
		}
		return err
	})
	return plans, err
}

// eachNetworker calls do for every switch that itself has networks, with the
// names of those that are meant.
func (s *site) eachNetworker(
	ctx context.Context, networks []vnet.Network, do func(n switchcfg.Networker, sw vnet.Switch, names []string) error,
) error {
	bySwitch := map[string][]string{}
	for _, n := range networks {
		bySwitch[n.Switch] = append(bySwitch[n.Switch], n.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(bySwitch)) {
		sw, _ := s.topology.Switch(name)
		err := s.withNetworker(ctx, sw, func(n switchcfg.Networker) error { return do(n, sw, bySwitch[name]) })
		if err != nil {
			return err
		}
	}
	return nil
}

// withNetworker calls do if the switch itself has networks. A database at its
// usual place is this machine's, and so not that of another host.
func (s *site) withNetworker(ctx context.Context, sw vnet.Switch, do func(switchcfg.Networker) error) (err error) {
	if !s.local && sw.Driver == vnet.DriverOVN && len(sw.Database) == 0 {
		return usagef("switch %s has no database in the spec, and libvirt is another machine's: want database: where OVN's northbound "+
			"database is reached from here and there, such as tcp:192.0.2.10:6641, or run it there", sw.Name)
	}
	n, ok, err := drivers.OpenNetworker(ctx, sw)
	if err != nil || !ok {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	return do(n)
}

// networkMaker is [site.makeNetworks], or does its work elsewhere.
type networkMaker func(ctx context.Context, std stdio, networks []vnet.Network) (undo []func() error, changed int, err error)

// alreadyMade is a networkMaker for networks that have been made for all hosts.
func alreadyMade(context.Context, stdio, []vnet.Network) ([]func() error, int, error) {
	return nil, 0, nil
}

// makeNetworks makes the networks on the switches that themselves have networks,
// and says what that changed. What it returns puts all back.
func (s *site) makeNetworks(ctx context.Context, std stdio, networks []vnet.Network) (undo []func() error, changed int, err error) {
	err = s.eachNetworker(ctx, networks, func(n switchcfg.Networker, _ vnet.Switch, names []string) error {
		lines, back, err := n.ApplyNetworks(ctx, &s.topology, names)
		if err != nil {
			return err
		}
		changed += len(lines)
		undo = append(undo, func() error { return errors.Join(back(context.WithoutCancel(ctx)), n.Close()) })
		writeLogical(std, lines)
		return nil
	})
	return undo, changed, err
}

// unmakeNetwork removes what the network's switch has of it. What it returns
// puts that back.
func (s *site) unmakeNetwork(ctx context.Context, std stdio, name string) (undo func() error, err error) {
	network, _ := s.topology.Network(name)
	sw, _ := s.topology.Switch(network.Switch)
	if record, err := s.store.Network(name); err == nil && s.local {
		sw = record.Switch // where it is, whatever the spec says by now
	}
	rest := s.topology
	rest.Networks = slices.DeleteFunc(slices.Clone(rest.Networks), func(n vnet.Network) bool { return n.Name == name })
	err = s.withNetworker(ctx, sw, func(n switchcfg.Networker) error {
		lines, back, err := n.ApplyNetworks(ctx, &rest, []string{name})
		if err != nil {
			return err
		}
		undo = func() error { return errors.Join(back(context.WithoutCancel(ctx)), n.Close()) }
		writeLogical(std, lines)
		return nil
	})
	return undo, err
}

// repairNetworks does what makeNetworks does, for the networks of the spec that
// have been applied.
func (s *site) repairNetworks(ctx context.Context, std stdio) (changed int, err error) {
	var applied []vnet.Network
	for _, n := range s.topology.Networks {
		if _, err := s.store.Network(n.Name); err == nil {
			applied = append(applied, n)
		}
	}
	_, changed, err = s.makeNetworks(ctx, std, applied)
	return changed, err
}

func writeLogical(std stdio, lines []string) {
	for _, line := range lines {
		fmt.Fprintln(std.out, line)
	}
}
