// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"slices"
	"time"
)

const (
	// latencyRate bounds the echoes of all segments together, a second: faster,
	// the time they wait in queues is most of what is measured.
	latencyRate = 5000
	// latencyGap is the least time between two echoes to one guest.
	latencyGap = 10 * time.Millisecond
	// paceTick is as often as a pace can be kept, paceBurst how many packets it
	// may be behind at a time.
	paceTick  = time.Millisecond
	paceBurst = 8
)

// attend listens and answers who asks for us until that time, or until take
// returns false. take gets every frame that is not ours.
func (p *prober) attend(ctx context.Context, until time.Time, take func(seen) bool) error {
	var packets []packet
	var sendErr error
	err := p.socket.receive(ctx, until, func(frames []seen) bool {
		packets = packets[:0]
		more := true
		for _, s := range frames {
			if s.outgoing || s.src == p.mac {
				continue
			}
			packets = p.hearAndReply(s, packets)
			more = take(s) && more
		}
		sendErr = p.socket.send(packets)
		return more && sendErr == nil
	})
	if err != nil {
		return err
	}
	return sendErr
}

// hearAndReply does what a neighbour does with s: it notes who uses which
// address, and answers who asks for ours.
func (p *prober) hearAndReply(s seen, packets []packet) []packet {
	switch s.kind {
	case frameARPReply, frameAdvertisement:
		p.hear(&s)
	case frameARPRequest, frameSolicitation:
		p.hear(&s)
		if f, ok := p.reply(&s); ok {
			packets = append(packets, packet{device: p.device, data: f.encode()})
		}
	case frameEchoRequest, frameEchoReply:
	}
	return packets
}

// paced sends n packets, one every gap on the average, and attends in between.
func (p *prober) paced(ctx context.Context, n int, gap time.Duration, next func(int) packet, take func(seen) bool) error {
	start := time.Now()
	for i := 0; i < n; {
		due := min(n, i+paceBurst, int(time.Since(start)/gap)+1)
		for ; i < due; i++ {
			if err := p.socket.send([]packet{next(i)}); err != nil {
				return err
			}
		}
		until := time.Now().Add(paceTick)
		if at := start.Add(time.Duration(i) * gap); at.After(until) {
			until = at
		}
		if i == n {
			return nil
		}
		// An answer does not end the wait.
		if err := p.attend(ctx, until, func(s seen) bool { take(s); return true }); err != nil {
			return err
		}
	}
	return nil
}

// measureLatency fills in the latency of the guests that answer echo.
func (r *run) measureLatency(ctx context.Context) error {
	if !r.opts.Latency {
		return nil
	}
	r.opts.Progress("measuring latency")
	gap := time.Second / latencyRate * time.Duration(max(1, len(r.segments)))
	return r.each(func(s *segment) error { return s.measure(ctx, gap, r.opts) })
}

// echoes are those of one segment's latency pass, in the order they are sent:
// one to every target, then the next to every target.
type echoes struct {
	nics    []*nic
	targets []*target
	// place is the target's by the NIC's index.
	place map[int]int
	start time.Time
	// sent is when, after start, and took how long until the answer, zero for
	// none.
	sent, took []time.Duration
	missing    int
}

func (s *segment) measure(ctx context.Context, gap time.Duration, opts Options) error {
	p := s.prober
	e := &echoes{place: map[int]int{}, start: time.Now()}
	for _, n := range s.nics {
		if t := n.echoTarget(); t != nil {
			e.place[t.index] = len(e.targets)
			e.nics, e.targets = append(e.nics, n), append(e.targets, t)
		}
	}
	if len(e.targets) == 0 {
		return nil
	}
	e.missing = len(e.targets) * opts.Echoes
	e.sent, e.took = make([]time.Duration, e.missing), make([]time.Duration, e.missing)
	p.replies = e.missing + batch
	take := func(f seen) bool { return e.take(f, p.run) }
	gap = max(gap, latencyGap/time.Duration(len(e.targets)))
	err := p.paced(ctx, e.missing, gap, func(i int) packet {
		t := e.targets[i%len(e.targets)]
		data := p.echo(t, newToken(p.run, purposeLatency, t.index, i/len(e.targets)), 0)
		e.sent[i] = time.Since(e.start)
		return packet{device: p.device, data: data}
	}, take)
	if err == nil && e.missing > 0 {
		err = p.attend(ctx, time.Now().Add(opts.Timing.WindowMin), take)
	}
	for i, n := range e.nics {
		n.latency = e.latency(i, opts.Echoes)
	}
	return err
}

// take notes an answer, and reports whether there are more to come.
func (e *echoes) take(s seen, run uint32) bool {
	if s.kind != frameEchoReply || s.token.purpose() != purposeLatency || s.token.run() != run {
		return true
	}
	place, ok := e.place[s.token.from()]
	if !ok || s.sender != e.targets[place].addr {
		return true
	}
	i := s.token.to()*len(e.targets) + place
	if i >= len(e.took) || e.took[i] != 0 || e.sent[i] == 0 {
		return true
	}
	e.took[i] = s.at.Sub(e.start) - e.sent[i]
	if e.took[i] <= 0 { // the wall clock was set, a little, while the frame waited
		e.took[i] = time.Since(e.start) - e.sent[i]
	}
	e.missing--
	return e.missing > 0
}

// latency sums up the echoes to one target.
func (e *echoes) latency(place, sent int) *Latency {
	var took []time.Duration
	for i := place; i < len(e.took); i += len(e.targets) {
		if e.took[i] > 0 {
			took = append(took, e.took[i])
		}
	}
	l := &Latency{Sent: sent, Received: len(took)}
	if len(took) > 0 {
		slices.Sort(took)
		l.Median, l.Worst = took[len(took)/2], took[len(took)-1]
	}
	return l
}

// echoTarget is what answers echo at the NIC, over IPv4 where it does, or nil.
func (n *nic) echoTarget() *target {
	switch {
	case n.probe.target.icmp:
		return &n.probe.target
	case n.probe6.target.icmp:
		return &n.probe6.target
	}
	return nil
}

// echo is an echo request to a target, as an IP packet of that length, or of
// the least with 0.
func (p *prober) echo(t *target, tok token, length int) []byte {
	f := frame{kind: frameEchoRequest, dst: t.mac, src: p.mac, sender: p.source, target: t.addr, token: tok, length: length}
	if t.addr.Is6() {
		f.sender = p.source6
	}
	return f.encode()
}
