// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func applyCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "apply",
		Usage: "define every network of the spec and put the ports of running guests right",
		Flags: []cli.Flag{fileFlag(), hostFlag()},
		Action: func(c *cli.Context) error {
			spec, hosts, err := specAndHosts(c)
			if err != nil {
				return err
			}
			if len(spec.Topology.Networks) == 0 {
				return usagef("there is no network in the spec: write one to %s, or see virt-vnet define network --help", c.String("config"))
			}
			if len(hosts) > 0 {
				return applyOnHosts(c, std, spec, hosts)
			}
			return onHost(c, std, spec, vnet.Host{URI: c.String("connect")}, func(_ *config.Spec, s *site, std stdio) error {
				_, err := s.applySpec(c, std, s.makeNetworks)
				return err
			})
		},
	}
}

// applyOnHosts makes what switches themselves have of the networks, once for all
// hosts, and then each host's part. Only when no host has taken a network the
// switches are as before: what is one host's failure is in use on another.
func applyOnHosts(c *cli.Context, std stdio, spec *config.Spec, hosts []vnet.Host) error {
	elsewhere := func(h vnet.Host) bool { return !isLocal(h.URI) }
	all := site{topology: spec.Topology, local: !slices.ContainsFunc(hosts, elsewhere)}
	made, _, err := all.makeNetworks(c.Context, std, spec.Topology.Networks)
	if err != nil {
		return errors.Join(err, takeBack(made))
	}
	var taken atomic.Bool
	err = onHosts(c, std, hosts, hostLimit, func(c *cli.Context, h vnet.Host, std stdio) error {
		return onHost(c, std, spec, h, func(_ *config.Spec, s *site, std stdio) error {
			some, err := s.applySpec(c, std, alreadyMade)
			if some {
				taken.Store(true)
			}
			return err
		})
	})
	if taken.Load() {
		return err
	}
	if back := takeBack(made); back != nil {
		return &exitError{exitCode(err), errors.Join(err, back)}
	}
	return err
}

// applySpec does what applyWith does for all networks of the spec, and first
// tells the hook what the spec says of guests.
func (s *site) applySpec(c *cli.Context, std stdio, makeNetworks networkMaker) (taken bool, err error) {
	if err := s.putGuestSpecs(c.Context, std, !c.IsSet("file")); err != nil {
		return false, err
	}
	return s.applyWith(c.Context, s.topology.Networks, std, makeNetworks)
}

// networkChange is what apply does about one network.
type networkChange struct {
	network vnet.Network
	sw      vnet.Switch
	xml     string
}

// changesFor compiles the named networks to what libvirt is to be told.
func (s *site) changesFor(networks []vnet.Network) ([]networkChange, error) {
	var changes []networkChange
	for _, n := range networks {
		sw, _ := s.topology.Switch(n.Switch)
		xml, err := libvirtnet.NetworkXML(n, sw, s.conn.Version())
		if err == nil && !s.local {
			xml, err = withRecord(xml, n, sw)
		}
		if err != nil {
			return nil, fmt.Errorf("network %s: %w", n.Name, err)
		}
		changes = append(changes, networkChange{n, sw, xml})
	}
	return changes, nil
}

// withRecord has the definition carry what the hook of the other machine must
// know, where no record can be written from here.
func withRecord(xml string, n vnet.Network, sw vnet.Switch) (string, error) {
	record, err := hooks.Carry(n, sw)
	return libvirtnet.WithRecord(xml, record), err
}

// preflight finds out, before anything is changed, what this host cannot do: a
// switch that is not there, or one without a feature that a network needs.
func (s *site) preflight(ctx context.Context, changes []networkChange) error {
	if !s.local {
		return nil
	}
	bySwitch := map[string][]networkChange{}
	for _, c := range changes {
		if c.sw.Name != "" {
			bySwitch[c.sw.Name] = append(bySwitch[c.sw.Name], c)
		}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(bySwitch)) {
		errs = append(errs, checkSwitch(ctx, bySwitch[name]))
	}
	return errors.Join(errs...)
}

// checkSwitch asks the switch of the changes, which is the same for all,
// whether it can do what the networks and their portgroups want.
func checkSwitch(ctx context.Context, changes []networkChange) (err error) {
	sw := changes[0].sw
	driver, err := drivers.Open(ctx, sw)
	if err != nil {
		return fmt.Errorf("network %s: %w", changes[0].network.Name, err)
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	var errs []error
	for _, c := range changes {
		policies := []vnet.Policy{c.network.Policy}
		for _, g := range c.network.Portgroups {
			policies = append(policies, g.Policy)
		}
		for _, policy := range policies {
			port := vnet.Port{Device: "any", Switch: sw.Name, Network: c.network.Name, MTU: c.network.MTU, Policy: policy}
			want, err := switchcfg.Desired([]vnet.Port{port}, sw)
			if err == nil {
				err = driver.Capabilities().Check(ctx, want)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// apply makes the networks so: the records first, because a guest that starts
// in between must find them, then what switches themselves have of them, then
// libvirt, then the ports of guests that run. A network that libvirt refuses
// gets its old record back, and when it takes none the switches are as before.
func (s *site) apply(ctx context.Context, networks []vnet.Network, std stdio) error {
	_, err := s.applyWith(ctx, networks, std, s.makeNetworks)
	return err
}

// applyWith does what apply does, and makes what switches themselves have of the
// networks by the function. It reports whether libvirt took any of them.
func (s *site) applyWith(ctx context.Context, networks []vnet.Network, std stdio, makeNetworks networkMaker) (taken bool, err error) {
	changes, err := s.changesFor(networks)
	if err != nil {
		return false, err
	}
	if err := s.preflight(ctx, changes); err != nil {
		return false, err
	}
	undo := make([]func() error, len(changes))
	xmls := make([]string, len(changes))
	for i, c := range changes {
		xmls[i] = c.xml
		if undo[i], err = s.putRecord(c); err != nil {
			return false, errors.Join(err, takeBack(undo[:i]))
		}
	}
	if s.local {
		if _, err := s.setSwitches(ctx, std); err != nil {
			return false, errors.Join(err, takeBack(undo))
		}
	}
	made, _, err := makeNetworks(ctx, std, networks)
	if err != nil {
		return false, errors.Join(err, takeBack(made), takeBack(undo))
	}
	done, err := s.conn.EnsureNetworks(ctx, xmls, virtapi.EnsureOptions{Autostart: true, Start: true})
	for i := range changes {
		if i < len(done) && done[i].Outcome != 0 {
			writeEnsured(std, done[i])
			undo[i], made, taken = nil, nil, true
		}
	}
	if err != nil {
		return taken, errors.Join(err, takeBack(made), takeBack(undo))
	}
	if !s.local {
		return taken, nil
	}
	_, err = s.repair(ctx, std, func(d libvirtnet.Domain) bool { return usesAny(d, networks) })
	return taken, errors.Join(err, s.returnSwitches(ctx, std), s.warn(ctx, std))
}

// putRecord writes the record of a change and returns how to take it back.
func (s *site) putRecord(c networkChange) (undo func() error, err error) {
	if !s.local {
		return nil, nil
	}
	before, err := s.store.Network(c.network.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, state.ErrDamaged):
		undo = func() error { return s.store.RemoveNetwork(c.network.Name) }
	case err != nil:
		return nil, err
	default:
		undo = func() error { return s.store.PutNetwork(before) }
	}
	return undo, s.store.PutNetwork(state.Network{Network: c.network, Switch: c.sw})
}

func takeBack(undo []func() error) error {
	var errs []error
	for _, u := range slices.Backward(undo) {
		if u != nil {
			errs = append(errs, u())
		}
	}
	return errors.Join(errs...)
}

// writeEnsured says what became of a network.
func writeEnsured(std stdio, e virtapi.Ensured) {
	words := []string{e.Outcome.String()}
	if e.AutostartSet {
		words = append(words, "autostarted")
	}
	switch {
	case e.Started:
		words = append(words, "started")
	case e.Restarted:
		words = append(words, "restarted")
	}
	fmt.Fprintf(std.out, "network %s: %s\n", e.Name, strings.Join(words, ", "))
	for _, line := range e.Changes {
		fmt.Fprintf(std.out, "    %s\n", line)
	}
	if e.Record {
		fmt.Fprintln(std.out, "    ~ what its hook knows of the spec")
	}
	if e.RestartDue > 0 && e.Carries {
		fmt.Fprintf(std.out, "    libvirt there, and the hook, go on with the old definition until the network is restarted, which would cut off "+
			"its guests (%d of their NICs)\n", e.RestartDue)
	} else if e.RestartDue > 0 {
		fmt.Fprintf(std.out, "    libvirt goes on with the old definition until the network is restarted, which would cut off its guests "+
			"(%d of their NICs); the hook wires by the new one at once\n", e.RestartDue)
	}
}
