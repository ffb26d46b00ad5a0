// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// agentLimit bounds what all guest agents together may take to answer: one that
// hangs must not hold up the run.
const agentLimit = time.Second

// clientRequests is how many questions libvirt takes at a time from one client
// (max_client_requests in libvirtd.conf).
const clientRequests = 5

// guestAddresses are the addresses of a guest by MAC, best source first.
type guestAddresses map[vnet.MAC][]verify.Address

// addresses asks what addresses the guests have: their agents, and the DHCP
// servers of libvirt. Not knowing is no error, as verify then listens for them;
// only that libvirt is gone is one.
func (s *site) addresses(ctx context.Context, guests []virtapi.Guest) (map[string]guestAddresses, error) {
	all := map[string]guestAddresses{}
	for _, g := range guests {
		all[g.Name] = guestAddresses{}
	}
	s.askAgents(ctx, guests, all)
	for _, g := range guests {
		if !g.Active || !slices.ContainsFunc(g.Domain.NICs, s.served) {
			continue
		}
		found, err := s.conn.Addresses(ctx, g.Name, virtapi.SourceLease)
		switch {
		case errors.Is(err, virtapi.ErrNotRunning) || ctx.Err() != nil:
			return nil, err
		case err != nil:
			s.log.Debug("addresses", "guest", g.Name, "error", err)
		}
		all[g.Name].add(found, verify.AddressLease)
	}
	return all, nil
}

// served reports whether libvirt itself gives the NIC its address.
func (s *site) served(nic libvirtnet.DomainNIC) bool {
	n, _ := s.topology.Network(nic.Network)
	return n.Mode == vnet.ModeNAT || n.Mode == vnet.ModeIsolated
}

// askAgents asks the agents that listen, over a connection of their own: the
// questions that hang would keep all others waiting there.
func (s *site) askAgents(ctx context.Context, guests []virtapi.Guest, all map[string]guestAddresses) {
	listens := func(g virtapi.Guest) bool { return g.State == virtapi.StateRunning && g.Domain.Agent }
	if !slices.ContainsFunc(guests, listens) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, agentLimit)
	defer cancel()
	conn, err := virtapi.Open(ctx, s.conn.URI())
	if err != nil {
		s.log.Debug("ask guest agents", "error", err)
		return
	}
	defer conn.Close() //nolint:errcheck // nothing was changed
	var mu sync.Mutex  // of all
	var asking errgroup.Group
	asking.SetLimit(clientRequests)
	for _, g := range guests {
		if !listens(g) {
			continue
		}
		asking.Go(func() error {
			found, err := conn.Addresses(ctx, g.Name, virtapi.SourceAgent)
			if err != nil {
				s.log.Debug("ask guest agent", "guest", g.Name, "error", err)
			}
			mu.Lock()
			defer mu.Unlock()
			all[g.Name].add(found, verify.AddressAgent)
			return nil
		})
	}
	_ = asking.Wait() // no error comes
}

// add appends what a source knows and the better ones do not.
func (a guestAddresses) add(found map[vnet.MAC][]netip.Prefix, source verify.AddressSource) {
	for mac, prefixes := range found {
		for _, p := range prefixes {
			known := func(have verify.Address) bool { return have.Addr == p.Addr() }
			if !slices.ContainsFunc(a[mac], known) {
				a[mac] = append(a[mac], verify.Address{Addr: p.Addr(), Source: source})
			}
		}
	}
}
