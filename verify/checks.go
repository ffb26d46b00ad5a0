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

// resolveLimit bounds the look-up of one DNS name.
const resolveLimit = 5 * time.Second

// check is one expectation of the spec, and the talks that it takes.
type check struct {
	vnet.Expectation

	talks []*talk
	// all is how many talks there could be; a sample is held.
	all int
	// status and reason are the result when there is nothing to talk about.
	status Status
	reason string
}

// dest is who a talk may be with: a NIC of ours, or an address.
type dest struct {
	nic  *nic
	addr netip.Addr
}

// holdTalks holds the talks that the spec's expectations take.
func (r *run) holdTalks(ctx context.Context) error {
	for _, e := range r.inventory.Expect {
		if c := r.newCheck(ctx, e); c != nil {
			r.checks = append(r.checks, c)
		}
	}
	r.noteKnownPorts()
	var live []*talk
	for _, c := range r.checks {
		for _, t := range c.talks {
			if t.blocked = r.block(t); t.blocked == nil {
				live = append(live, t)
			}
		}
	}
	if len(live) == 0 {
		return ctx.Err()
	}
	r.opts.Progress("trying what the spec expects")
	for _, talks := range atOnce(live) {
		if err := r.hold(ctx, talks); err != nil {
			return err
		}
	}
	return nil
}

// hold holds talks at the same time.
func (r *run) hold(ctx context.Context, talks []*talk) error {
	blind, err := r.converse(ctx, talks)
	if errors.Is(err, errMute) {
		r.limit("the spec's expectations are not tried", err)
		for _, t := range talks {
			t.blocked = &outcome{status: StatusInconclusive, reason: err.Error()}
		}
		return nil
	}
	for _, t := range talks {
		t.blind = blind
	}
	if err == nil {
		r.traceTalks(ctx, talks)
	}
	return err
}

// noteKnownPorts has denials tried at the ports too that somebody is expected to
// reach: what is open there may be nothing else.
func (r *run) noteKnownPorts() {
	ports := map[netip.Addr][]uint16{}
	for _, c := range r.checks {
		for _, t := range c.talks {
			if t.kind == talkTCP && !slices.Contains(ports[t.addr], t.dport) {
				ports[t.addr] = append(ports[t.addr], t.dport)
			}
		}
	}
	for _, c := range r.checks {
		for _, t := range c.talks {
			if t.kind == talkDeny {
				t.known = ports[t.addr]
			}
		}
	}
}

// newCheck finds out who is to speak to whom, or returns nil when the run is
// about others.
func (r *run) newCheck(ctx context.Context, e vnet.Expectation) *check {
	c := &check{Expectation: e}
	sources := r.party(e.From)
	dests, err := r.dests(ctx, e.Target())
	switch {
	case !r.concerns(e.From, sources) && !r.concerns(e.Target(), nicsOf(dests)):
		return nil
	case len(sources) == 0:
		c.status, c.reason = StatusInconclusive, e.From.String()+" has no NIC in a network of the spec"
		return c
	case err != nil:
		c.status, c.reason = StatusInconclusive, err.Error()
		return c
	}
	if e.Target().Gateway {
		c.talks = r.gatewayTalks(e, sources)
	} else {
		c.talks = r.talks(e, sources, dests)
	}
	if c.all = len(c.talks); c.all == 0 {
		c.status = StatusInconclusive
		c.reason = fmt.Sprintf("there is nothing to try: %s and %s are one guest, or the network has no gateway", e.From, e.Target())
	}
	if !r.opts.Full && c.all > allPairsUpTo {
		c.talks = sampleTalks(c.talks)
	}
	return c
}

// concerns reports whether one of the NICs of a party is selected. One that has
// none is, unless the run is narrowed.
func (r *run) concerns(p vnet.Party, nics []*nic) bool {
	if len(nics) == 0 {
		return (p.Guest != "" || p.Network != "") && len(r.opts.Guests) == 0 && len(r.opts.Networks) == 0
	}
	return slices.ContainsFunc(nics, func(n *nic) bool { return n.selected })
}

func nicsOf(dests []dest) []*nic {
	var list []*nic
	for _, d := range dests {
		if d.nic != nil {
			list = append(list, d.nic)
		}
	}
	return list
}

// party is the NICs of a guest or a network.
func (r *run) party(p vnet.Party) []*nic {
	var list []*nic
	for _, n := range r.nics {
		if n.isOf(p) {
			list = append(list, n)
		}
	}
	return list
}

// isOf reports whether the NIC is of that guest or network.
func (n *nic) isOf(p vnet.Party) bool {
	return (p.Guest != "" || p.Network != "") &&
		(p.Guest == "" || n.guest.Name == p.Guest) && (p.Network == "" || n.Want.Network == p.Network)
}

// dests is who a party is.
func (r *run) dests(ctx context.Context, p vnet.Party) ([]dest, error) {
	switch {
	case p.Gateway:
		return nil, nil // depends on who asks
	case p.Addr.IsValid():
		return []dest{r.owner(p.Addr)}, nil
	case p.Host != "":
		ctx, cancel := context.WithTimeout(ctx, resolveLimit)
		defer cancel()
		addrs, err := r.opts.Resolve(ctx, p.Host)
		if err != nil {
			return nil, fmt.Errorf("the host's resolver: %w", err)
		}
		list := make([]dest, len(addrs))
		for i, a := range addrs {
			list[i] = r.owner(a.Unmap())
		}
		return list, nil
	}
	var list []dest
	for _, n := range r.party(p) {
		list = append(list, dest{nic: n})
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s has no NIC in a network of the spec", p)
	}
	return list, nil
}

// owner is the NIC that has the address, if exactly one has.
func (r *run) owner(a netip.Addr) dest {
	d := dest{addr: a}
	for _, n := range r.nics {
		if n.own(a.Is6()) != a {
			continue
		}
		if d.nic != nil {
			return dest{addr: a}
		}
		d.nic = n
	}
	return d
}

// own is the address that the NIC speaks from, or an invalid one.
func (n *nic) own(v6 bool) netip.Addr {
	if !v6 {
		return n.address.Addr
	}
	for _, a := range n.Addresses {
		if a.Addr.Is6() && a.Addr.IsGlobalUnicast() {
			return a.Addr
		}
	}
	return netip.Addr{}
}

func (r *run) gatewayTalks(e vnet.Expectation, sources []*nic) []*talk {
	var list []*talk
	for _, n := range sources {
		if gw := n.network.Gateway; gw.IsValid() && gw != n.own(gw.Is6()) {
			list = append(list, newTalk(e, n, r.owner(gw)))
		}
	}
	return list
}

// talks are those between sources and dests: for every two guests the ways that
// the one would take to the other, or with deny every way there is.
func (r *run) talks(e vnet.Expectation, sources []*nic, dests []dest) []*talk {
	type guests struct {
		from string
		to   any
	}
	ways := map[guests][]*talk{}
	var order []guests
	for _, n := range sources {
		for _, d := range dests {
			if d.nic != nil && d.nic.guest == n.guest {
				continue
			}
			// The addresses of one name are ways to one target.
			key := guests{n.guest.Name, e.Target()}
			if d.nic != nil && !d.addr.IsValid() {
				key.to = d.nic.guest.Name
			}
			if ways[key] == nil {
				order = append(order, key)
			}
			ways[key] = append(ways[key], newTalk(e, n, d))
		}
	}
	var list []*talk
	for _, key := range order {
		if e.Deny.IsZero() {
			list = append(list, bestWays(ways[key])...)
		} else {
			list = append(list, possibleWays(ways[key])...)
		}
	}
	return list
}

// possibleWays are those that the guest has an address for, if there are any.
func possibleWays(ways []*talk) []*talk {
	possible := slices.DeleteFunc(slices.Clone(ways), func(t *talk) bool { return !t.source.IsValid() })
	if len(possible) == 0 {
		return ways[:1]
	}
	return possible
}

// bestWays are those that guests would take: on a link that both are on, or else
// the first through a gateway.
func bestWays(ways []*talk) []*talk {
	var direct, routed []*talk
	for _, t := range ways {
		switch {
		case t.direct && t.source.IsValid():
			direct = append(direct, t)
		case t.gateway.IsValid() && t.source.IsValid():
			routed = append(routed, t)
		}
	}
	switch {
	case len(direct) > 0:
		return direct
	case len(routed) > 0:
		return routed[:1]
	}
	return ways[:1]
}

// newTalk is the talk that e takes between the two.
func newTalk(e vnet.Expectation, from *nic, d dest) *talk {
	t := &talk{from: from, to: d.nic, addr: d.addr, kind: talkEcho, latency: e.Latency, loss: e.Loss}
	switch {
	case !e.Deny.IsZero():
		t.kind = talkDeny
	case !e.TCP.IsZero():
		t.kind, t.dport = talkTCP, e.TCP.Port
	case e.DNS != "":
		t.kind, t.dport, t.name = talkDNS, dnsPort, e.DNS
	}
	if !t.addr.IsValid() && d.nic != nil {
		v6 := !from.own(false).IsValid() || !d.nic.own(false).IsValid()
		t.addr = d.nic.own(v6)
	}
	t.source = from.own(t.addr.Is6())
	// An address of a network means what has it there, whoever that is.
	t.direct = from.network.Subnet.Contains(t.addr) || d.nic != nil && d.nic.Want.Network == from.Want.Network
	if gw := from.network.Gateway; !t.direct && gw.Is6() == t.addr.Is6() {
		t.gateway = gw
	}
	return t
}

// sampleTalks picks so many talks that every source and every destination has
// one. Sound guests are not tried in the place of broken ones.
func sampleTalks(all []*talk) []*talk {
	type ends struct {
		from *nic
		to   dest
	}
	byEnds := map[ends]*talk{}
	var sources []*nic
	var dests []dest
	for _, t := range all {
		if t.unsound() != nil {
			continue
		}
		d := dest{t.to, t.addr}
		byEnds[ends{t.from, d}] = t
		if !slices.Contains(sources, t.from) {
			sources = append(sources, t.from)
		}
		if !slices.Contains(dests, d) {
			dests = append(dests, d)
		}
	}
	if len(byEnds) == 0 {
		return all[:1]
	}
	var list []*talk
	for i := range max(len(sources), len(dests)) {
		// The next one, so that nobody meets itself.
		t := byEnds[ends{sources[i%len(sources)], dests[(i+1)%len(dests)]}]
		if t != nil {
			list = append(list, t)
		}
	}
	return list
}
