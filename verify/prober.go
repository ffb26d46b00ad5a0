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
	mac    vnet.MAC
	// source is our own address in the segment, or invalid when there is none:
	// then ARP is asked as RFC 5227 probes do, and ICMP not at all.
	source netip.Addr
	run    uint32
	timing Timing

	// heard is what guests said of themselves in ARP, by MAC.
	heard map[vnet.MAC]netip.Addr
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
	// next is what the answers that are being read lead to.
	next    []packet
	sendErr error
}

// ask asks every target that has not answered yet, up to three times in a
// window, and returns as soon as all have answered. The window of the first
// pass grows with the slowest answer.
func (p *prober) ask(ctx context.Context, targets []*target, window time.Duration) error {
	run := &asking{prober: p, byKey: map[targetKey]*target{}, byToken: map[token]*target{}}
	for _, t := range targets {
		if t.done() {
			continue
		}
		run.pending++
		run.byKey[targetKey{t.mac, t.addr}] = t
		run.byToken[p.token(t)] = t
	}
	start := time.Now()
	for round := 1; round <= asks && run.pending > 0; round++ {
		if err := p.socket.send(run.requests(targets)); err != nil {
			return err
		}
		if err := run.listen(ctx, start.Add(window*time.Duration(round)/asks)); err != nil {
			return err
		}
	}
	if late := start.Add(min(4*run.slowest, p.timing.WindowMax)); run.pending > 0 && late.After(time.Now()) {
		return run.listen(ctx, late)
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
	}
	return packets
}

// request is an ARP request to the target alone, or an ICMP echo once it has
// answered that. From the ARP request it learns who asks, so that it can
// answer the echo without asking everybody.
func (p *prober) request(t *target) packet {
	f := frame{
		kind: frameARPRequest, dst: t.mac, src: p.mac, senderMAC: p.mac,
		sender: p.source, target: t.addr, token: p.token(t),
	}
	if t.mac.IsZero() {
		// Nobody may learn our address from a broadcast.
		f.dst, f.sender = broadcast, netip.Addr{}
	}
	if t.arp {
		f.kind = frameEchoRequest
	}
	return packet{device: p.device, data: f.encode()}
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
	case frameARPReply:
		r.hear(s)
		r.arpAnswer(s)
	case frameEchoReply:
		if t := r.byToken[s.token]; t != nil && !t.icmp && s.sender == t.addr && s.dst == r.mac {
			t.icmp = true
			r.answered(t, s.at)
		}
	case frameARPRequest:
		r.hear(s)
		if r.source.IsValid() && s.target == r.source {
			r.reply(s)
		}
	case frameEchoRequest:
	}
}

// hear notes which address a guest uses.
func (p *prober) hear(s seen) {
	if a := s.sender; a.IsGlobalUnicast() && !s.senderMAC.IsZero() && s.senderMAC == s.src {
		p.heard[s.senderMAC] = a
	}
}

func (r *asking) arpAnswer(s seen) {
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
	r.slowest = max(r.slowest, t.rtt)
	if t.done() {
		r.pending--
	}
}

// reply answers who asks for our address, so that guests whose neighbour table
// forgot us still can answer.
func (r *asking) reply(s seen) {
	f := frame{
		kind: frameARPReply, dst: s.src, src: r.mac,
		senderMAC: r.mac, sender: r.source, targetMAC: s.senderMAC, target: s.sender,
	}
	r.next = append(r.next, packet{device: r.device, data: f.encode()})
}
