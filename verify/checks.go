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

	"github.com/vishvananda/netlink"

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
	var live []*talk
	for _, e := range r.inventory.Expect {
		c := r.newCheck(ctx, e)
		if c == nil {
			continue
		}
		r.checks = append(r.checks, c)
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
	blind, err := r.converse(ctx, live)
	if errors.Is(err, errMute) {
		r.limit("the spec's expectations are not tried", err)
		for _, t := range live {
			t.blocked = &outcome{status: StatusInconclusive, reason: err.Error()}
		}
		return nil
	}
	for _, t := range live {
		t.blind = blind
	}
	return err
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
		if !t.from.sound() || t.to != nil && !t.to.sound() {
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

// outcome is what became of one talk.
type outcome struct {
	status Status
	reason string
	// code, want, got and fix are of the problem, when it failed.
	code, want, got, fix string
	// cause is the problem that explains it, when it is another's.
	cause string
	// evidence is what was seen, and value what was measured.
	evidence, value string
}

// block returns why there is no use in holding the talk, or nil.
func (r *run) block(t *talk) *outcome {
	for _, n := range []*nic{t.from, t.to} {
		if n != nil && n.resting() {
			return &outcome{status: StatusSkip, reason: n.guest.Name + " is expected to be down"}
		}
	}
	for _, o := range []*outcome{t.blockedEnds(), t.blockedAddress(), t.blockedWay()} {
		if o != nil {
			return o
		}
	}
	if r.byDesign(t) {
		o := t.failed(CodeMacvtapHost, "no way: a macvtap and its own host never reach each other")
		o.fix = fmt.Sprintf("ip link add link %s name %.8s-host type macvlan mode bridge   # and give %s to that", t.from.lower, t.from.lower, t.addr)
		return &o
	}
	return nil
}

// blockedEnds is for guests that are broken already.
func (t *talk) blockedEnds() *outcome {
	broken := func(n *nic) *outcome { return &outcome{status: StatusNotReached, cause: n.problem.cause()} }
	switch {
	case t.kind != talkDeny && !t.from.sound():
		return broken(t.from)
	case t.kind != talkDeny && t.to != nil && !t.to.sound():
		return broken(t.to)
	case !t.from.speaks() && t.from.problem != nil:
		return broken(t.from)
	case !t.from.speaks():
		return &outcome{status: StatusInconclusive, reason: "nothing is sent as a guest that never spoke: the switch would learn its MAC from us"}
	}
	return nil
}

// blockedAddress is for guests of which no address is known.
func (t *talk) blockedAddress() *outcome {
	switch {
	case !t.addr.IsValid():
		return &outcome{status: StatusInconclusive, reason: "no address of " + t.to.guest.Name + " is known"}
	case !t.source.IsValid():
		return &outcome{status: StatusInconclusive, reason: fmt.Sprintf("no address of %s is known to speak to %s from", t.from.guest.Name, t.addr)}
	}
	return nil
}

// blockedWay is for talks that need a gateway which is not there, or that leave
// the host where nothing does.
func (t *talk) blockedWay() *outcome {
	if t.to == nil && t.kind != talkDeny && t.from.cutOff() {
		return &outcome{status: StatusNotReached, cause: t.from.problem.cause()}
	}
	dead := &outcome{status: StatusNotReached}
	if t.from.broken() == RungGateway {
		dead.cause = t.from.problem.cause()
	}
	switch {
	case t.addr == t.from.network.Gateway && dead.cause != "":
		return dead
	case t.direct || t.kind == talkDeny && t.to != nil:
		return nil
	case !t.gateway.IsValid():
		return &outcome{status: StatusInconclusive, reason: fmt.Sprintf("%s is outside of network %s, which has no gateway for it in the spec",
			t.addr, t.from.Want.Network)}
	case dead.cause != "":
		return dead
	}
	return nil
}

// byDesign reports whether a macvtap is to reach an address of the host on its
// own link: frames of a macvtap leave, and the host below never sees them
// (ip-link(8)).
func (r *run) byDesign(t *talk) bool {
	if !t.from.macvtap() || !t.direct || t.to != nil || t.kind == talkDeny {
		return false
	}
	index := r.hostDevice(t.addr)
	name, known := r.host.byIndex(index)
	// The way for the host is a macvlan of its own, beside the macvtap.
	beside := known && r.host[name].kind == "macvlan" && r.host[name].lower == r.host[t.from.lower].index
	return index != 0 && !beside
}

// hostDevice is the index of the device of the host that has the address, or
// zero.
func (r *run) hostDevice(addr netip.Addr) int {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL) //nolint:forbidigo // what an interrupted one lacks is a limit
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap() == addr {
			return a.LinkIndex
		}
	}
	if err != nil {
		r.limit("the host's own addresses are not known", err)
	}
	return 0
}

// overruled reports whether the user has said the opposite of what follows from
// the spec's networks for two NICs of one network.
func (r *run) overruled(a, b *nic, derived Expectation) bool {
	if a.Want.Network != b.Want.Network {
		return false
	}
	for _, e := range r.inventory.Expect {
		if derived == ExpectReach && e.Deny.IsZero() || derived == ExpectIsolation && e.Reach.IsZero() {
			continue
		}
		for _, ends := range [][2]*nic{{a, b}, {b, a}} {
			to := e.Target()
			has := to.Addr.IsValid() && ends[1].own(to.Addr.Is6()) == to.Addr
			if ends[0].isOf(e.From) && (ends[1].isOf(to) || has) {
				return true
			}
		}
	}
	return false
}
