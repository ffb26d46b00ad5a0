// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"cmp"
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
	// place is the segment's name.
	place string
	// mtu is the device's.
	mtu int
	mac vnet.MAC
	// source is our own address in the segment, or invalid when there is none:
	// then ARP is asked as RFC 5227 probes do, and ICMP not at all. source6 is
	// the one of IPv6, which follows from the MAC.
	source, source6 netip.Addr
	run             uint32
	timing          Timing
	// unseen is whether the switch answers ARP in the guests' place, so that they do
	// not learn from being asked who asks.
	unseen bool

	// nics are the segment's by MAC, and owners by the address each should have.
	nics   map[vnet.MAC]*nic
	owners map[netip.Addr]*nic
	// defence holds source, if there is one.
	defence *defence
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
	// via is the device that it is asked out of, or zero for the vantage.
	via int

	// arp is whether it answered ARP, or for an IPv6 address neighbour
	// discovery.
	arp, icmp bool
	rtt       time.Duration

	firstAsk time.Time
	// next is another target of the same MAC, while they are asked.
	next *target
}

func (t *target) done() bool { return t.arp && (t.icmp || !t.wantICMP) }

// asking is one window in which targets are asked.
type asking struct {
	*prober

	// byMAC are the targets of each MAC, zero for those that are not known, and
	// byToken those that are to answer an echo.
	byMAC   map[vnet.MAC]*target
	byToken map[token]*target
	pending int
	slowest time.Duration
	// rouse makes every request come with more, see [prober.rousers].
	rouse bool
	out   *outbox
}

// ask asks every target that has not answered yet, up to three times in a
// window, and returns as soon as all have answered. The window of the first
// pass grows with the slowest answer.
func (p *prober) ask(ctx context.Context, targets []*target, window time.Duration) error {
	return p.newAsking(targets).ask(ctx, targets, window)
}

func (p *prober) newAsking(targets []*target) *asking {
	run := &asking{prober: p, byMAC: make(map[vnet.MAC]*target, len(targets)), byToken: make(map[token]*target, len(targets))}
	for _, t := range targets {
		if t.done() {
			continue
		}
		run.pending++
		t.next = run.byMAC[t.mac]
		run.byMAC[t.mac] = t
		if t.wantICMP {
			run.byToken[p.token(t)] = t
		}
	}
	return run
}

func (r *asking) ask(ctx context.Context, targets []*target, window time.Duration) error {
	r.out, ctx = newOutbox(ctx, r.socket)
	defer r.out.close()
	r.replies = asks*len(targets) + batch
	start := time.Now()
	for round := 1; round <= asks && r.pending > 0; round++ {
		if err := r.request(targets); err != nil {
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
	if r.pending == 0 {
		return nil
	}
	err := r.socket.receive(ctx, until, func(frames []seen) bool {
		r.handle(frames)
		r.out.flush()
		return r.pending > 0
	})
	if ctx.Err() != nil {
		return context.Cause(ctx) // sending failed, or we are to end
	}
	return err
}

func (p *prober) token(t *target) token {
	if t.addr.Is6() {
		return newToken(p.run, purposeProbe6, t.index, t.index)
	}
	return newToken(p.run, purposeProbe, t.index, t.index)
}

// request sends the next frame to every target that still owes an answer.
// Between batches it reads what came: answers that are read at once need not
// wait in a long queue, and what they lead to goes out with the next batch.
func (r *asking) request(targets []*target) error {
	now := time.Now()
	for _, t := range targets {
		if t.done() {
			continue
		}
		if t.firstAsk.IsZero() {
			t.firstAsk = now
		}
		r.addRequest(t)
		if r.rouse && (!t.arp || r.unseen) {
			r.addRousers(t)
		}
		for r.out.waiting() >= batch {
			r.out.flush()
			if err := r.socket.poll(r.handle); err != nil {
				return err
			}
			now = time.Now()
		}
	}
	r.out.flush()
	return nil
}

// add puts f into the next batch.
func (r *asking) add(f frame) { r.out.put(r.device, f) }

// requestTo is an ARP request to the target alone, or a neighbour solicitation,
// or an ICMP echo once it has answered that. From the request it learns who
// asks, so that it can answer the echo without asking everybody.
func (p *prober) requestTo(t *target) frame {
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
	return f
}

// addRousers adds frames that a guest may answer though it does not answer for
// its address: an echo, and a question about the IPv6 address that follows from
// its MAC. What matters is whether any frame of it shows up at its port.
func (r *asking) addRousers(t *target) {
	if t.mac.IsZero() {
		return
	}
	echo := frame{
		kind: frameEchoRequest, dst: t.mac, src: r.mac, sender: r.source, target: t.addr,
		token: newToken(r.run, purposeRouse, t.index, t.index),
	}
	if t.addr.Is6() {
		echo.sender = r.source6
	}
	solicit := echo
	solicit.kind, solicit.senderMAC, solicit.sender, solicit.target = frameSolicitation, r.mac, r.source6, linkLocal(t.mac)
	r.add(solicit)
	if echo.sender.IsValid() {
		r.add(echo)
	}
}

// handle takes frames.
func (r *asking) handle(frames []seen) {
	for i := range frames {
		if s := &frames[i]; !s.outgoing && s.src != r.mac {
			r.take(s)
		}
	}
}

func (r *asking) take(s *seen) {
	switch s.kind {
	case frameARPReply, frameAdvertisement:
		r.hear(s)
		r.arpAnswer(s)
	case frameARPRequest, frameSolicitation:
		r.hear(s)
		if f, ok := r.reply(s); ok {
			r.add(f)
		}
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
func (p *prober) hear(s *seen) {
	p.notice(s)
	a := s.sender
	if a.Is4() && a.IsGlobalUnicast() && s.senderMAC == s.src && p.nics[s.senderMAC] != nil {
		p.heard[s.senderMAC] = a
	}
}

func (r *asking) arpAnswer(s *seen) {
	mac := s.stationMAC()
	t := r.find(mac, s.sender)
	switch {
	case t == nil || t.arp:
		return
	case !t.mac.IsZero() && s.src != mac:
		return // another says it in the guest's name, as a router may in another's
	}
	stranger := t.mac.IsZero() // it was asked without our address
	t.arp, t.mac = true, mac
	r.answered(t, s.at)
	if !t.wantICMP {
		return
	}
	if stranger {
		introduction := *t
		introduction.arp = false
		r.add(r.requestTo(&introduction))
	}
	r.addRequest(t)
}

// addRequest adds the next frame to the target. A guest that did not see who
// asked for its address may still know ours from another run, at another MAC, and
// so may one that does not answer an echo: before that it is told (RFC 5227
// section 2.3, to it alone).
func (r *asking) addRequest(t *target) {
	if (r.unseen || r.rouse) && t.arp && t.addr.Is4() && r.source.IsValid() {
		r.add(frame{
			kind: frameARPRequest, dst: t.mac, src: r.mac, senderMAC: r.mac, sender: r.source, target: r.source,
			token: newToken(r.run, purposeRouse, t.index, t.index),
		})
	}
	r.out.put(cmp.Or(t.via, r.device), r.requestTo(t))
}

// find returns the target at an address of a MAC, or at one whose MAC was not
// known, or nil.
func (r *asking) find(mac vnet.MAC, addr netip.Addr) *target {
	for _, m := range []vnet.MAC{mac, {}} {
		for t := r.byMAC[m]; t != nil; t = t.next {
			if t.addr == addr {
				return t
			}
		}
	}
	return nil
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
// table forgot us still can answer.
func (p *prober) reply(s *seen) (f frame, ok bool) {
	ours := s.target == p.source || s.target == p.source6 && s.sender != netip.IPv6Unspecified()
	if !ours || !s.target.IsValid() || p.replies == 0 {
		return f, false
	}
	p.replies--
	f = frame{
		kind: frameARPReply, dst: s.src, src: p.mac,
		senderMAC: p.mac, sender: s.target, targetMAC: s.senderMAC, target: s.sender,
	}
	if s.kind == frameSolicitation {
		f.kind = frameAdvertisement
	}
	return f, true
}
