// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// broadcasters is how many NICs of a class also send to everybody: each such
// frame is heard by all of its VLAN.
const broadcasters = 2

// rounds is how often a frame is sent that should arrive, and apartRounds one
// that should not: those flood the sender's VLAN, for nobody there has the MAC.
const (
	rounds      = 3
	apartRounds = 2
)

// matrix lets guests speak to each other and watches their ports.
type matrix struct {
	*run

	injector *injector
	// watch sees every port, but not what it sends itself; so sender sends.
	watch, sender *socket
	byDevice      map[int]*nic
	byMAC         map[vnet.MAC][]*nic
	byEnds        map[[2]int]*pair
	// speakers are the NICs that also broadcast.
	speakers []*nic
	// stranger is a MAC that nobody has.
	stranger vnet.MAC
	// owed is how many of the requests sent last are not answered yet, and
	// flooding whether there were frames among them that all of a VLAN may get.
	owed     int
	flooding bool
}

// crossTraffic tries the pairs, and the gateways as the guests.
func (r *run) crossTraffic(ctx context.Context) error {
	r.opts.Progress("letting the guests speak to each other")
	r.pairs = slices.DeleteFunc(choosePairs(r.nics, r.opts.Full), func(p *pair) bool { return r.overruled(p.from, p.to, p.expect) })
	return r.sendAsGuests(ctx)
}

// sendAsGuests tries r.pairs, and the gateways.
func (r *run) sendAsGuests(ctx context.Context) error {
	m := &matrix{run: r, byDevice: map[int]*nic{}, byMAC: map[vnet.MAC][]*nic{}, byEnds: map[[2]int]*pair{}}
	for _, n := range r.nics {
		m.byMAC[n.Want.MAC] = append(m.byMAC[n.Want.MAC], n)
		if n.plugged() {
			m.byDevice[n.link.index] = n
		}
	}
	for _, p := range r.pairs {
		m.byEnds[[2]int{p.from.index, p.to.index}] = p
	}
	m.speakers = m.chooseSpeakers()
	if err := m.open(); err != nil {
		r.limit("nothing was sent as the guests: pairs, isolation and gateways are not proved", err)
		r.pairs = nil
		return nil
	}
	err := m.exchange(ctx)
	r.blind = m.watch.lost() > 0
	for _, n := range r.nics {
		n.gateway.blind = r.blind
	}
	if r.blind {
		r.limit("isolation is not proved", errors.New("the host was too busy to watch every frame: try again, or name guests"))
	}
	return errors.Join(err, m.close())
}

func (m *matrix) open() (err error) {
	if m.stranger, err = randomMAC(); err != nil {
		return err
	}
	if m.injector, err = openInjector(); err != nil {
		return err
	}
	if m.watch, err = listen(listening{filter: filterWithout(m.injector.index), snap: snapLength}); err != nil {
		return errors.Join(err, m.injector.close())
	}
	if m.sender, err = openSender(); err != nil {
		return errors.Join(err, m.watch.close(), m.injector.close())
	}
	return nil
}

func (m *matrix) close() error {
	return errors.Join(m.sender.close(), m.watch.close(), m.injector.close())
}

// chooseSpeakers picks who broadcasts: some of every class that has somebody to
// be isolated from.
func (m *matrix) chooseSpeakers() []*nic {
	count := map[class]int{}
	chosen := map[int]bool{}
	var list []*nic
	for _, p := range m.pairs {
		n := p.from
		if p.expect != ExpectIsolation || chosen[n.index] || !n.speaks() {
			continue
		}
		// A broken port speaks for itself only.
		if c := n.class(); n.wired() {
			if count[c] >= broadcasters && !m.opts.Full {
				continue
			}
			count[c]++
		}
		chosen[n.index] = true
		list = append(list, n)
	}
	return list
}

// exchange sends in rounds over one window, and once more, slowly, for those
// that should have arrived and did not.
func (m *matrix) exchange(ctx context.Context) error {
	for _, s := range m.segments {
		s.chooseAskers()
	}
	window := m.opts.Timing.WindowMin
	start := time.Now()
	for round := range rounds {
		if err := m.sendRound(ctx, round); err != nil {
			return err
		}
		until := start.Add(window * time.Duration(round+1) / rounds)
		if err := m.listen(ctx, until); err != nil {
			return err
		}
	}
	if !m.pending() || m.opts.survey {
		return nil
	}
	err := m.tracing(ctx, m.unheard(), m.confirm)
	if err == nil {
		m.tracePairs(ctx)
	}
	return err
}

// confirm tries those again, slowly, that should have arrived and did not, and
// ends as soon as they have: nothing is sent that must stay away.
func (m *matrix) confirm(ctx context.Context) error {
	for _, window := range m.opts.Timing.Confirm {
		if !m.pending() {
			return nil
		}
		if err := m.sendRound(ctx, rounds); err != nil {
			return err
		}
		if err := m.takeWhile(ctx, time.Now().Add(window), m.pending); err != nil {
			return err
		}
	}
	return nil
}

// listen watches until the time is over or, when nothing need be seen to stay
// away, everything has arrived.
func (m *matrix) listen(ctx context.Context, until time.Time) error {
	apart := slices.ContainsFunc(m.pairs, func(p *pair) bool { return p.expect == ExpectIsolation })
	return m.takeWhile(ctx, until, func() bool { return apart || m.pending() })
}

// takeWhile takes what comes until the time is over or more says that it is
// enough.
func (m *matrix) takeWhile(ctx context.Context, until time.Time, more func() bool) error {
	return m.watch.receive(ctx, until, func(frames []seen) bool {
		m.takeAll(frames)
		return more()
	})
}

func (m *matrix) takeAll(frames []seen) {
	for i := range frames {
		m.take(&frames[i])
	}
}

// pending reports whether something that should arrive has not.
func (m *matrix) pending() bool {
	for _, p := range m.pairs {
		if p.expect == ExpectReach && m.reachable(p) && !p.done() {
			return true
		}
	}
	for _, n := range m.nics {
		if m.askGateway(n) {
			return true
		}
	}
	return false
}

func (m *matrix) reachable(p *pair) bool {
	return p.from.sound() && p.from.speaks() && p.to.sound()
}

// sendRound sends what is still to be sent. Between batches it reads what came,
// so that nothing is lost of it, and waits a moment for the answers that are
// owed: guests are not asked faster than they answer, nor is a VLAN flooded.
func (m *matrix) sendRound(ctx context.Context, round int) error {
	next := make([]packet, 0, batch)
	send := func() error {
		if err := m.sender.send(next); err != nil {
			return err
		}
		next = next[:0]
		more := func() bool { return m.flooding || m.owed > 0 }
		if err := m.takeWhile(ctx, time.Now().Add(time.Millisecond), more); err != nil {
			return err
		}
		m.owed, m.flooding = 0, false
		return m.watch.drain(m.takeAll)
	}
	for p := range m.roundOf(round) {
		if next = append(next, p); len(next) == batch {
			if err := send(); err != nil {
				return err
			}
		}
	}
	return send()
}

// roundOf makes the packets of a round one by one: of thousands of pairs they
// are too many to hold.
func (m *matrix) roundOf(round int) iter.Seq[packet] {
	return func(yield func(packet) bool) {
		for _, p := range m.pairs {
			switch {
			case p.expect == ExpectReach && m.reachable(p) && !p.done():
				m.owed++
			case p.expect == ExpectIsolation && round < apartRounds && p.from.speaks() && p.to.plugged():
				m.flooding = true
			default:
				continue
			}
			if !yield(m.request(p)) {
				return
			}
		}
		for _, p := range m.others(round) {
			m.flooding = true
			if !yield(p) {
				return
			}
		}
	}
}

// others are the packets of a round that are of no pair.
func (m *matrix) others(round int) []packet {
	var packets []packet
	if round < apartRounds && len(m.pairs) > 0 {
		for _, n := range m.speakers {
			packets = append(packets, m.shout(n))
		}
		packets = append(packets, m.controls()...)
	}
	for _, n := range m.nics {
		if m.askGateway(n) {
			packets = append(packets, m.gatewayRequest(n))
		}
	}
	return packets
}

// request asks for the target's address in ARP, to its MAC alone, or for an
// ICMP echo when it has answered that.
func (m *matrix) request(p *pair) packet {
	f := frame{
		kind: frameARPRequest, dst: p.to.Want.MAC, src: p.from.Want.MAC, senderMAC: p.from.Want.MAC,
		sender: p.from.address.Addr, target: p.to.address.Addr,
		token: newToken(m.id, purposeUnicast, p.from.index, p.to.index),
	}
	if p.arp && p.wantICMP {
		f.kind = frameEchoRequest
	}
	return m.injector.packet(p.from.link, f.encode())
}

// shout is a broadcast that changes nothing in those who hear it: the probe for
// one's own address of RFC 5227.
func (m *matrix) shout(n *nic) packet {
	f := frame{
		kind: frameARPRequest, dst: broadcast, src: n.Want.MAC, senderMAC: n.Want.MAC, target: n.address.Addr,
		token: newToken(m.id, purposeBroadcast, n.index, n.index),
	}
	return m.injector.packet(n.link, f.encode())
}

// controls are frames to guests that have not shown yet that they hear anybody:
// from the vantage, or for a macvtap that has none, as if from the wire below.
func (m *matrix) controls() []packet {
	var packets []packet
	for _, n := range m.nics {
		if !n.wired() || n.probe.target.arp {
			continue
		}
		f := frame{
			kind: frameARPRequest, dst: n.Want.MAC, src: m.stranger, senderMAC: m.stranger,
			token: newToken(m.id, purposeProbe, n.index, n.index),
		}
		switch {
		case n.segment != nil && n.segment.prober != nil:
			f.src, f.senderMAC = n.segment.prober.mac, n.segment.prober.mac
			packets = append(packets, packet{device: n.segment.prober.device, data: f.encode()})
		case n.macvtap():
			packets = append(packets, packet{device: m.injector.index, mark: uint32(n.link.lower), data: f.encode()})
		}
	}
	return packets
}

// askGateway reports whether the gateway is still to be asked as the guest. With
// an IPv6 address it is only when it does not answer the vantage.
func (m *matrix) askGateway(n *nic) bool {
	switch {
	case n.gateway.heard:
		return false
	case n.gatewayDead():
		return n.segment.asksAs(n)
	}
	return n.network.Gateway.Is4() && n.asksGateway() && (n.segment != nil || n.macvtap())
}

func (m *matrix) gatewayRequest(n *nic) packet {
	n.gateway.asGuest = true
	gw := n.network.Gateway
	f := frame{
		kind: frameARPRequest, dst: broadcast, src: n.Want.MAC, senderMAC: n.Want.MAC,
		sender: n.own(gw.Is6()), target: gw,
		token: newToken(m.id, purposeGateway, n.index, n.index),
	}
	if gw.Is6() {
		f.kind = frameSolicitation
		_, f.dst = solicitedNode(gw)
	}
	if n.segment != nil && n.segment.gateway != nil && !n.segment.gateway.mac.IsZero() {
		f.dst = n.segment.gateway.mac
	}
	return m.injector.packet(n.link, f.encode())
}
