// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// site is a libvirt host and what commands need to work on it.
type site struct {
	host     string // of the spec, or empty
	topology vnet.Topology
	store    state.Store
	conn     *virtapi.Conn
	wirer    hooks.Wirer
	log      *slog.Logger
	// local means that libvirt manages this machine's switches. Of another
	// machine only the libvirt networks can be managed from here.
	local bool
	// elsewhere is whether the guests of the spec's other hosts are looked at, too,
	// unless only some are of interest that are all here.
	elsewhere bool
	only      []string
}

// openSite connects to the libvirt at uri. Close s.conn when done.
func openSite(c *cli.Context, std stdio, topology vnet.Topology, uri string) (*site, error) {
	log, err := logger(c, std)
	if err != nil {
		return nil, err
	}
	conn, err := virtapi.Open(c.Context, uri)
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
	return onHost(c, std, spec, vnet.Host{URI: c.String("connect")}, func(spec *config.Spec, s *site, _ stdio) error { return do(spec, s) })
}

// isLocal reports whether a libvirt URI means this machine's hypervisor: no
// host, and not libvirt's test driver.
func isLocal(uri string) bool {
	scheme, rest, _ := strings.Cut(uri, "://")
	return !strings.HasPrefix(scheme, "test") && strings.HasPrefix(rest, "/") && !strings.Contains(scheme, "+ssh")
}

// guests returns all guests of libvirt, each NIC with its network.
func (s *site) guests(ctx context.Context) ([]virtapi.Guest, error) {
	guests, err := s.conn.Guests(ctx)
	if err != nil {
		return nil, err
	}
	return s.recall(guests), nil
}

// guestsNamed returns those guests of these names that there are, or all when
// there are no names.
func (s *site) guestsNamed(ctx context.Context, names []string) ([]virtapi.Guest, error) {
	if len(names) == 0 {
		return s.guests(ctx)
	}
	var guests []virtapi.Guest
	for _, name := range names {
		g, err := s.conn.Guest(ctx, name)
		switch {
		case err == nil:
			guests = append(guests, g)
		case !errors.Is(err, virtapi.ErrNoGuest):
			return nil, err
		}
	}
	return s.recall(guests), nil
}

// recall puts the guests in order, and in the NICs of running ones the networks
// that libvirt forgot.
func (s *site) recall(guests []virtapi.Guest) []virtapi.Guest {
	for i, g := range guests {
		if g.Active && s.local {
			guests[i].Domain = hooks.Recall(s.store, g.Domain)
		}
	}
	slices.SortFunc(guests, func(a, b virtapi.Guest) int { return cmp.Compare(a.Name, b.Name) })
	return guests
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

func usesAny(d libvirtnet.Domain, networks []vnet.Network) bool {
	return slices.ContainsFunc(d.NICs, func(nic libvirtnet.DomainNIC) bool {
		return slices.ContainsFunc(networks, func(n vnet.Network) bool { return n.Name == nic.Network })
	})
}
