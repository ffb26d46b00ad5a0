// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"

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

// site is a libvirt host and what commands need to work on it.
type site struct {
	topology vnet.Topology
	store    state.Store
	conn     *virtapi.Conn
	wirer    hooks.Wirer
	log      *slog.Logger
	// local means that libvirt manages this machine's switches. Of another
	// machine only the libvirt networks can be managed from here.
	local bool
}

// openSite connects to libvirt. Close s.conn when done.
func openSite(ctx context.Context, c *cli.Context, std stdio, topology vnet.Topology) (*site, error) {
	log, err := logger(c, std)
	if err != nil {
		return nil, err
	}
	conn, err := virtapi.Open(ctx, c.String("connect"))
	if err != nil {
		return nil, err
	}
	st := store(c)
	return &site{
		topology: topology,
		store:    st,
		conn:     conn,
		wirer:    hooks.Wirer{Store: st, Open: drivers.Open, Log: log},
		log:      log,
		local:    isLocal(conn.URI()),
	}, nil
}

// withSite reads the spec, connects to libvirt and does the command's work.
func withSite(c *cli.Context, std stdio, do func(*config.Spec, *site) error) error {
	spec, err := loadSpec(c)
	if err != nil {
		return err
	}
	s, err := openSite(c.Context, c, std, spec.Topology)
	if err != nil {
		return err
	}
	return errors.Join(do(spec, s), s.conn.Close())
}

// isLocal reports whether a libvirt URI means this machine's hypervisor: no
// host, and not libvirt's test driver.
func isLocal(uri string) bool {
	scheme, rest, _ := strings.Cut(uri, "://")
	return !strings.HasPrefix(scheme, "test") && strings.HasPrefix(rest, "/") && !strings.Contains(scheme, "+ssh")
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
		if err != nil {
			return nil, fmt.Errorf("network %s: %w", n.Name, err)
		}
		changes = append(changes, networkChange{n, sw, xml})
	}
	return changes, nil
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
				err = driver.Capabilities().Check(want)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// apply makes the networks so: the records first, because a guest that starts
// in between must find them, then libvirt, then the ports of guests that run.
// A network that libvirt refuses gets its old record back.
func (s *site) apply(ctx context.Context, networks []vnet.Network, std stdio) error {
	changes, err := s.changesFor(networks)
	if err != nil {
		return err
	}
	if err := s.preflight(ctx, changes); err != nil {
		return err
	}
	undo := make([]func() error, len(changes))
	xmls := make([]string, len(changes))
	for i, c := range changes {
		xmls[i] = c.xml
		if undo[i], err = s.putRecord(c); err != nil {
			return errors.Join(err, takeBack(undo[:i]))
		}
	}
	done, err := s.conn.EnsureNetworks(ctx, xmls, virtapi.EnsureOptions{Autostart: true, Start: true})
	for i := range changes {
		if i < len(done) && done[i].Outcome != 0 {
			writeEnsured(std, done[i])
			undo[i] = nil
		}
	}
	if err != nil {
		return errors.Join(err, takeBack(undo))
	}
	if !s.local {
		fmt.Fprintf(std.err, "%s is not this machine: its hooks know these networks once virt-vnet apply has run there\n", s.conn.URI())
		return nil
	}
	_, err = s.repair(ctx, std, func(d libvirtnet.Domain) bool { return usesAny(d, networks) })
	return err
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
	if e.RestartDue > 0 {
		fmt.Fprintf(std.out, "    libvirt goes on with the old definition until the network is restarted, which would cut off "+
			"%d guest NICs; the hook wires by the new one at once\n", e.RestartDue)
	}
}

func usesAny(d libvirtnet.Domain, networks []vnet.Network) bool {
	return slices.ContainsFunc(d.NICs, func(nic libvirtnet.DomainNIC) bool {
		return slices.ContainsFunc(networks, func(n vnet.Network) bool { return n.Name == nic.Network })
	})
}

// repair wires the running guests that match, says what it changed and returns
// how many ports that were. One guest's failure does not keep the others from
// being repaired.
func (s *site) repair(ctx context.Context, std stdio, match func(libvirtnet.Domain) bool) (changed int, err error) {
	guests, err := s.guests(ctx)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, g := range guests {
		if !g.Active || !match(g.Domain) {
			continue
		}
		plans, err := s.wirer.Repair(ctx, g.Domain)
		if err != nil {
			errs = append(errs, fmt.Errorf("guest %s: %w", g.Name, err))
		}
		for _, plan := range plans {
			changed += len(plan.Changes)
			for line := range strings.Lines(plan.String()) {
				fmt.Fprintf(std.out, "guest %s: %s", g.Name, line)
			}
		}
	}
	return changed, errors.Join(errs...)
}

// guests returns all guests of libvirt, each NIC with its network.
func (s *site) guests(ctx context.Context) ([]virtapi.Guest, error) {
	guests, err := s.conn.Guests(ctx)
	if err != nil {
		return nil, err
	}
	for i, g := range guests {
		if g.Active && s.local {
			guests[i].Domain = hooks.Recall(s.store, g.Domain)
		}
	}
	slices.SortFunc(guests, func(a, b virtapi.Guest) int { return cmp.Compare(a.Name, b.Name) })
	return guests, nil
}

// guest returns libvirt's guest of that name.
func (s *site) guest(ctx context.Context, name string) (virtapi.Guest, error) {
	guests, err := s.guests(ctx)
	if err != nil {
		return virtapi.Guest{}, err
	}
	i := slices.IndexFunc(guests, func(g virtapi.Guest) bool { return g.Name == name })
	if i < 0 {
		return virtapi.Guest{}, usagef("there is no guest %s; virt-vnet list guests shows those with a NIC in our networks", name)
	}
	return guests[i], nil
}

// named returns whether a guest is one of names, or any guest when there are
// none. A name that libvirt does not know is an error.
func (s *site) named(ctx context.Context, names []string) (func(string) bool, error) {
	if len(names) == 0 {
		return func(string) bool { return true }, nil
	}
	for _, name := range names {
		if _, err := s.guest(ctx, name); err != nil {
			return nil, err
		}
	}
	return func(name string) bool { return slices.Contains(names, name) }, nil
}

// restoreRecords writes the records of networks of the spec that libvirt has
// and the state directory has lost.
func (s *site) restoreRecords(ctx context.Context, std stdio) error {
	defined, err := s.conn.Networks(ctx)
	if err != nil {
		return err
	}
	for _, d := range defined {
		n, declared := s.topology.Network(d.Name)
		_, err := s.store.Network(d.Name)
		if !d.Owned || !declared || err == nil {
			continue
		}
		if errors.Is(err, state.ErrNewer) {
			return err
		}
		sw, _ := s.topology.Switch(n.Switch)
		if err := s.store.PutNetwork(state.Network{Network: n, Switch: sw}); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "network %s: record written anew\n", n.Name)
	}
	return nil
}
