// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// maxCandidates is how many addresses are tried before giving up on one of our
// own.
const maxCandidates = 8

// errNoSource means that no address of the subnet is free to ask from.
var errNoSource = errors.New("no address of the subnet is free")

// chooseSource finds an address of subnet that nobody has, to ask from: the
// highest that is not used as far as anybody knows and that nobody answers for
// (RFC 5227 section 2.1.1). It is never announced, so that the only ones to
// learn it are the guests that are asked.
func (p *prober) chooseSource(ctx context.Context, subnet netip.Prefix, used func(netip.Addr) bool) error {
	addr := lastAddress(subnet)
	for range maxCandidates {
		for addr = addr.Prev(); used(addr); {
			addr = addr.Prev()
		}
		if !subnet.Contains(addr) || addr == subnet.Masked().Addr() {
			break
		}
		probe := &target{addr: addr}
		if err := p.ask(ctx, []*target{probe}, p.timing.WindowMin); err != nil {
			return err
		}
		if !probe.arp {
			p.source = addr
			return nil
		}
	}
	return fmt.Errorf("%w: %s", errNoSource, subnet)
}

// lastAddress is the broadcast address of an IPv4 prefix.
func lastAddress(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

const (
	// maxSweep is the largest subnet, by its prefix length, that is searched
	// for a guest's address.
	maxSweep = 22
	// sweepChunk is how many addresses a guest is asked for at a time, and
	// sweepWindow for how long: more at once overruns a slow guest's queue.
	sweepChunk  = 64
	sweepWindow = 50 * time.Millisecond
)

// sweep asks guests, each alone, for every address of the subnet, and notes in
// heard the one that each answers for. A guest that answers for several, as a
// router with proxy ARP does, is not believed.
func (p *prober) sweep(ctx context.Context, nics []*nic, subnet netip.Prefix) error {
	if !subnet.IsValid() || !subnet.Addr().Is4() || subnet.Bits() < maxSweep || subnet.Bits() > 30 {
		return nil
	}
	nics = slices.DeleteFunc(nics, func(n *nic) bool { return !n.findable() })
	var targets []*target
	found := map[vnet.MAC][]netip.Addr{}
	last := lastAddress(subnet)
	for a := subnet.Masked().Addr().Next(); len(nics) > 0 && a != last; a = a.Next() {
		for _, n := range nics {
			n.swept = true
			targets = append(targets, &target{index: n.index, mac: n.Want.MAC, addr: a})
		}
		if len(targets) < sweepChunk*len(nics) && a.Next() != last {
			continue
		}
		if err := p.ask(ctx, targets, sweepWindow); err != nil {
			return err
		}
		for _, t := range targets {
			if t.arp {
				found[t.mac] = append(found[t.mac], t.addr)
			}
		}
		targets = targets[:0]
	}
	for mac, addrs := range found {
		if len(addrs) > 1 {
			delete(p.heard, mac)
		}
	}
	return nil
}

// findable reports whether the guest can be asked for many addresses without
// its neighbours hearing all that: a switch floods frames to MACs that it has
// not learned.
func (n *nic) findable() bool {
	here, _ := n.learnedOn()
	return n.macvtap() || here != ""
}
