// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"net/netip"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// asks is how often a target is asked within one window.
const asks = 3

// prober asks the guests of one segment from a vantage in it.
type prober struct {
	socket *socket
	device int
	// mtu is the device's.
	mtu int
	mac vnet.MAC
	// source is our own address in the segment, or invalid when there is none:
	// then ARP is asked as RFC 5227 probes do, and ICMP not at all. source6 is
	// the one of IPv6, which follows from the MAC.
	source, source6 netip.Addr
	run             uint32
	timing          Timing

	// nics are the segment's by MAC, and owners by the address each should have.
	nics   map[vnet.MAC]*nic
	owners map[netip.Addr]*nic
	// heard is what the segment's guests said of themselves in ARP, by MAC.
	heard map[vnet.MAC]netip.Addr
	// lost is how many frames the last asking missed, because they came faster
	// than we read them.
	lost int
	// replies is how many answers to questions about our own address are left
	// in this window: nobody can make us send more than we ask.
	replies int
}

// target is something to ask, and what it answered.
type target struct {
	// index is the NIC's in the run, for the token.
	index int
	// mac is zero when it is not known: then everybody is asked, and the first
	// answer fills it in.
	mac  vnet.MAC
	addr netip.Addr
	// wantICMP asks for an ICMP echo after ARP.
	wantICMP bool

	// arp is whether it answered ARP, or for an IPv6 address neighbour
	// discovery.
	arp, icmp bool
	rtt       time.Duration

	firstAsk time.Time
}

func (t *target) done() bool { return t.arp && (t.icmp || !t.wantICMP) }

type targetKey struct {
	mac  vnet.MAC
	addr netip.Addr
}

// asking is one window in which targets are asked.
type asking struct {
	*prober

	byKey   map[targetKey]*target
	byToken map[token]*target
	pending int
	slowest time.Duration
	// rouse makes every request come with more, see [prober.rousers].
	rouse bool
	// next is what the answers that are being read lead to.
	next    []packet
	sendErr error
}

// ask asks every target that has not answered yet, up to three times in a
// window, and returns as soon as all have answered. The window of the first
// pass grows with the slowest answer.
func (p *prober) ask(ctx context.Context, targets []*target, window time.Duration) error {
	return p.newAsking(targets).ask(ctx, targets, window)
}

func (p *prober) newAsking(targets []*target) *asking {
	run := &asking{prober: p, byKey: map[targetKey]*target{}, byToken: map[token]*target{}}
	for _, t := range targets {
		if t.done() {
			continue
		}
		run.pending++
		run.byKey[targetKey{t.mac, t.addr}] = t
		run.byToken[p.token(t)] = t
	}
	return run
}

func (r *asking) ask(ctx context.Context, targets []*target, window time.Duration) error {
	r.replies = asks*len(targets) + batch
	start := time.Now()
	for round := 1; round <= asks && r.pending > 0; round++ {
		if err := r.socket.send(r.requests(targets)); err != nil {
			return err
		}
		if err := r.listen(ctx, start.Add(window*time.Duration(round)/asks)); err != nil {
			return err
		}
	}
	if late := start.Add(min(4*r.slowest, r.timing.WindowMax)); r.pending > 0 && late.After(time.Now()) {
		if err := r.listen(ctx, late); err != nil {
			return err
		}
	}
	if r.pending > 0 {
		r.lost = r.socket.lost()
	}
	return nil
}

func (r *asking) listen(ctx context.Context, until time.Time) error {
	if err := r.socket.receive(ctx, until, r.handle); err != nil {
		return err
	}
	return r.sendErr
}

func (p *prober) token(t *target) token {
	if t.addr.Is6() {
		return newToken(p.run, purposeProbe6, t.index, t.index)
	}
	return newToken(p.run, purposeProbe, t.index, t.index)
}

// requests is the next frame for every target that still owes an answer.
func (r *asking) requests(targets []*target) []packet {
	packets := make([]packet, 0, r.pending)
	now := time.Now()
	for _, t := range targets {
		if t.done() {
			continue
		}
		if t.firstAsk.IsZero() {
			t.firstAsk = now
		}
		packets = append(packets, r.request(t))
		if r.rouse && !t.arp {
			packets = append(packets, r.rousers(t)...)
		}
	}
	return packets
}

// request is an ARP request to the target alone, or a neighbour solicitation,
// or an ICMP echo once it has answered that. From the request it learns who
// asks, so that it can answer the echo without asking everybody.
func (p *prober) request(t *target) packet {
	f := frame{
		kind: frameARPRequest, dst: t.mac, src: p.mac, senderMAC: p.mac,
		sender: p.source, target: t.addr, token: p.token(t),
	}
	if t.addr.Is6() {
		f.kind, f.sender = frameSolicitation, p.source6
	}
	switch {
	case t.arp:
		f.kind = frameEchoRequest
	case t.mac.IsZero() && t.addr.Is6():
		_, f.dst = solicitedNode(t.addr)
	case t.mac.IsZero():
		// Nobody may learn our address from a broadcast.
		f.dst, f.sender = broadcast, netip.Addr{}
	}
	return packet{device: p.device, data: f.encode()}
}

// rousers are frames that a guest may answer though it does not answer for its
// address: an echo, and a question about the IPv6 address that follows from its
// MAC. What matters is whether any frame of it shows up at its port.
func (p *prober) rousers(t *target) []packet {
	if t.mac.IsZero() {
		return nil
	}
	echo := frame{
		kind: frameEchoRequest, dst: t.mac, src: p.mac, sender: p.source, target: t.addr,
		token: newToken(p.run, purposeRouse, t.index, t.index),
	}
	if t.addr.Is6() {
		echo.sender = p.source6
	}
	solicit := echo
	solicit.kind, solicit.senderMAC, solicit.sender, solicit.target = frameSolicitation, p.mac, p.source6, linkLocal(t.mac)
	packets := []packet{{device: p.device, data: solicit.encode()}}
	if echo.sender.IsValid() {
		packets = append(packets, packet{device: p.device, data: echo.encode()})
	}
	return packets
}

// handle takes frames and reports whether to go on.
func (r *asking) handle(frames []seen) bool {
	r.next = r.next[:0]
	for _, s := range frames {
		if !s.outgoing && s.src != r.mac {
			r.take(s)
		}
	}
	r.sendErr = r.socket.send(r.next)
	return r.pending > 0 && r.sendErr == nil
}

func (r *asking) take(s seen) {
	switch s.kind {
	case frameARPReply, frameAdvertisement:
		r.hear(s)
		r.arpAnswer(s)
	case frameARPRequest, frameSolicitation:
		r.hear(s)
		r.next = r.reply(s, r.next)
	case frameEchoReply:
		if t := r.byToken[s.token]; t != nil && !t.icmp && s.sender == t.addr && s.dst == r.mac {
			t.icmp = true
			r.answered(t, s.at)
		}
	case frameEchoRequest:
	}
}

// hear notes which address a guest of the segment uses. What others say of
// themselves is not kept: they may say it without end.
func (p *prober) hear(s seen) {
	p.notice(s)
	a := s.sender
	if a.Is4() && a.IsGlobalUnicast() && s.senderMAC == s.src && p.nics[s.senderMAC] != nil {
		p.heard[s.senderMAC] = a
	}
}

func (r *asking) arpAnswer(s seen) {
	if s.senderMAC.IsZero() { // which neighbour discovery allows
		s.senderMAC = s.src
	}
	t := r.byKey[targetKey{s.senderMAC, s.sender}]
	if t == nil {
		if t = r.byKey[targetKey{vnet.MAC{}, s.sender}]; t == nil {
			return
		}
	}
	if t.arp {
		return
	}
	stranger := t.mac.IsZero() // it was asked without our address
	t.arp, t.mac = true, s.senderMAC
	r.answered(t, s.at)
	if !t.wantICMP {
		return
	}
	if stranger {
		introduction := *t
		introduction.arp = false
		r.next = append(r.next, r.request(&introduction))
	}
	r.next = append(r.next, r.request(t))
}

func (r *asking) answered(t *target, at time.Time) {
	t.rtt = at.Sub(t.firstAsk)
	if t.rtt < 0 { // the wall clock was set, a little, while the frame waited
		t.rtt = time.Since(t.firstAsk)
	}
	r.slowest = max(r.slowest, t.rtt)
	if t.done() {
		r.pending--
	}
}

// reply answers who asks for an address of ours, so that guests whose neighbour
// table forgot us still can answer. It returns packets with the answer.
func (p *prober) reply(s seen, packets []packet) []packet {
	ours := s.target == p.source || s.target == p.source6 && s.sender != netip.IPv6Unspecified()
	if !ours || !s.target.IsValid() || p.replies == 0 {
		return packets
	}
	p.replies--
	f := frame{
		kind: frameARPReply, dst: s.src, src: p.mac,
		senderMAC: p.mac, sender: s.target, targetMAC: s.senderMAC, target: s.sender,
	}
	if s.kind == frameSolicitation {
		f.kind = frameAdvertisement
	}
	return append(packets, packet{device: p.device, data: f.encode()})
}
