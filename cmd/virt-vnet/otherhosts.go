// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// otherHostLimit is how long another host's libvirt may take to tell of its
// guests.
const otherHostLimit = 10 * time.Second

// otherHost is what the libvirt of a host of the spec said.
type otherHost struct {
	name   string
	guests []virtapi.Guest
	err    error
}

// onVerifyingHost does the work on this host or, where there is no libvirt and the
// spec has hosts, on a machine that reaches theirs.
func onVerifyingHost(c *cli.Context, std stdio, do func(*config.Spec, *site) error) error {
	err := withSite(c, std, do)
	if !errors.Is(err, virtapi.ErrNotRunning) {
		return err
	}
	spec, errSpec := loadSpec(c)
	if errSpec != nil {
		return err
	}
	hosts, errHosts := hostsOf(c, spec.Topology)
	if errHosts != nil {
		return err
	}
	errs := []error{err}
	for _, h := range hosts {
		err := onHost(c, std, spec, h, func(spec *config.Spec, s *site, _ stdio) error { return do(spec, s) })
		if !errors.Is(err, virtapi.ErrNotRunning) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// misses returns an error if a guest that is asked about is on none of the hosts,
// which could all be asked.
func (col *collection) misses() error {
	for _, name := range col.site.only {
		if col.site.elsewhere && len(col.inventory.Limits) == 0 && !col.has([]string{name}) {
			return usagef("there is no guest %s on %s", name, hostNames(col.site.topology.Hosts))
		}
	}
	return nil
}

// known returns an error if one of these guests is neither libvirt's nor, of several
// hosts, one that may be another's.
func (s *site) known(ctx context.Context, names []string) error {
	if s.elsewhere {
		return nil // what no host has is missed later
	}
	_, err := s.named(ctx, names)
	return err
}

// guestsHere are the guests of this host: of a machine that is none, nobody.
func (s *site) guestsHere(ctx context.Context, names []string) ([]virtapi.Guest, error) {
	if s.elsewhere && !s.local {
		return nil, nil
	}
	return s.guestsNamed(ctx, names)
}

// otherHosts asks the hosts of the spec for their guests, all at the same time. The
// host of that UUID, our own, is passed over.
func (s *site) otherHosts(ctx context.Context, own string) []otherHost {
	hosts := make([]otherHost, len(s.topology.Hosts))
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, h := range s.topology.Hosts {
		hosts[i].name = h.Name
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(ctx, otherHostLimit)
			defer cancel()
			hosts[i].ask(ctx, h.URI, own)
		})
	}
	all.Wait()
	return hosts
}

func (h *otherHost) ask(ctx context.Context, uri, own string) {
	conn, err := virtapi.Open(ctx, uri)
	if err != nil {
		h.err = err
		return
	}
	defer conn.Close() //nolint:errcheck // nothing was changed
	uuid, err := conn.HostUUID(ctx)
	if err == nil && own != "" && uuid == own {
		return // we are connected to it anyway
	}
	h.guests, h.err = conn.Guests(ctx)
}

// lookElsewhere adds the guests of the spec's other hosts, those of these names or
// all. It reports whether every host could be asked.
func (col *collection) lookElsewhere(ctx context.Context, names []string) (all bool) {
	var away []*verify.Guest
	all = true
	if !col.site.local {
		col.inventory.Limits = append(col.inventory.Limits, "nothing is probed: this machine is none of the hosts, and shows guests as the hosts' libvirts have them")
	}
	own := ""
	if col.site.local {
		var err error
		if own, err = col.site.conn.HostUUID(ctx); err != nil {
			col.inventory.GuestsUnknown = true
			col.inventory.Limits = append(col.inventory.Limits, "the guests of other hosts are not known: "+oneLine(err))
			return false
		}
	}
	for _, h := range col.site.otherHosts(ctx, own) {
		if h.err != nil {
			all, col.inventory.GuestsUnknown = false, true
			col.inventory.Limits = append(col.inventory.Limits, fmt.Sprintf("the guests of host %s are not known (--here leaves other hosts out): %s", h.name, oneLine(h.err)))
		}
		for _, g := range h.guests {
			named := len(names) == 0 || slices.Contains(names, g.Name)
			if named && col.concerns(g) && col.prefers(g, h.name) {
				col.inventory.Guests = append(col.inventory.Guests, col.away(ctx, g, h.name))
			}
		}
	}
	for i := range col.inventory.Guests {
		if g := &col.inventory.Guests[i]; g.Host != "" {
			away = append(away, g)
		}
	}
	col.locate(ctx, away)
	return all
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// prefers reports whether a guest of another host is to be taken, and removes one
// of that name that only lies there: the definition that a guest left behind when
// it moved.
func (col *collection) prefers(g virtapi.Guest, host string) bool {
	i := slices.IndexFunc(col.inventory.Guests, func(have verify.Guest) bool { return have.Ref.Name == g.Name })
	if i < 0 {
		return true
	}
	have := col.inventory.Guests[i]
	switch running := g.State == virtapi.StateRunning; {
	case running && have.Running:
		where := have.Host
		if where == "" {
			where = "this host"
		}
		col.inventory.Limits = append(col.inventory.Limits, fmt.Sprintf("guest %s runs twice, on %s and on %s: only the first was looked at", g.Name, where, host))
		return false
	case !running:
		return false
	}
	col.inventory.Guests = slices.Delete(col.inventory.Guests, i, i+1)
	return true
}

// away is the guest of another host as its libvirt has it.
func (col *collection) away(ctx context.Context, g virtapi.Guest, host string) verify.Guest {
	out := verify.Guest{Ref: g.GuestRef, Host: host, Running: g.State == virtapi.StateRunning, State: g.State.String(), Held: g.Held}
	expected, _ := col.site.topology.Guest(g.Name)
	out.Down = expected.Down
	missing := slices.Clone(expected.NICs)
	for _, nic := range g.Domain.NICs {
		n, ours := col.site.topology.Network(nic.Network)
		if !ours {
			continue
		}
		found := col.nic(g.GuestRef, n, nic)
		found.Port = nil
		if sw, _ := col.site.topology.Switch(n.Switch); sw.Driver == vnet.DriverOVN && col.site.local {
			if _, open := col.switches[sw.Name]; !open {
				col.switches[sw.Name] = observe(ctx, sw)
			}
		}
		want, rest, _ := vnet.TakeNIC(missing, nic.MAC, nic.Network)
		if missing = rest; want.Address.IsValid() {
			found.Addresses = append(found.Addresses, verify.Address{Addr: want.Address, Source: verify.AddressSpec})
		}
		out.NICs = append(out.NICs, found)
	}
	for _, want := range missing {
		out.NICs = append(out.NICs, col.missingNIC(g.GuestRef, want))
	}
	return out
}

// locate fills in where the ports of guests of other hosts are bound.
func (col *collection) locate(ctx context.Context, guests []*verify.Guest) {
	bySwitch := map[string][]*verify.NIC{}
	for _, g := range guests {
		for i := range g.NICs {
			n := &g.NICs[i]
			bySwitch[n.Want.Switch] = append(bySwitch[n.Want.Switch], n)
		}
	}
	for name, nics := range bySwitch {
		locator, err := driverAs[switchcfg.Locator](col, name)
		if err != nil {
			continue // its guests are their host's alone
		}
		owners := make([]switchcfg.Owner, len(nics))
		for i, n := range nics {
			owners[i] = switchcfg.Owner{Guest: n.Want.Guest.UUID, MAC: n.Want.MAC, Network: n.Want.Network}
		}
		bindings, err := locator.Locate(ctx, owners)
		if err != nil {
			col.site.log.Info("verify: other hosts' guests", "err", err)
			continue
		}
		for i, n := range nics {
			n.Port = &verify.Port{Switch: name, Binding: newBinding(bindings[i])}
		}
	}
}
