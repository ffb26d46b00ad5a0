// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	// leastMTU is less than any path has. Who answers short echoes only, and
	// none as long as this, drops long ones as such.
	leastMTU = 1200
	// lengthSteps is how many lengths are tried at once to find the largest
	// that passes, in lengthRounds; lengthGuests for how many guests.
	lengthSteps  = 16
	lengthRounds = 4
	lengthGuests = 64
)

// lengthProbe is about frames of full length to one target.
type lengthProbe struct {
	target *target
	// want is the length of the IP packet that should pass, zero when it was
	// not tried; why not is in reason.
	want   int
	reason string
	// stated is whether the spec says that length.
	stated bool

	passed bool
	// longest is the longest that passed, when want did not, and ceiling the
	// shortest that is known not to.
	longest, ceiling int
	// common is whether it is so for every guest of the segment.
	common bool
	// delivered is how many of full length were seen on their way to the guest.
	watched   bool
	delivered int
	lost      int
}

// tryFullLength sends echoes of full length, not to be fragmented, to who
// answered short ones: every guest, and the gateway of each segment.
func (r *run) tryFullLength(ctx context.Context) error {
	if err := r.each(func(s *segment) error { return s.firstLengths(ctx) }); err != nil {
		return err
	}
	var silent []*nic
	some := false
	for _, s := range r.segments {
		for _, l := range s.lengths {
			some = some || !l.passed
		}
		for _, n := range s.nics {
			if n.length.want > 0 && !n.length.passed {
				silent = append(silent, n)
			}
		}
	}
	if !some {
		return nil
	}
	r.opts.Progress("looking for the longest frames that pass")
	take := func(n *nic, s seen) {
		mine := s.token.run() == r.id && s.token.from() == n.index
		if mine && s.token.purpose() == purposeLength && s.token.to() == n.length.want && n.link.toGuest(s) {
			n.length.delivered++
		}
	}
	all, err := r.watchPorts(ctx, silent, take, func(ctx context.Context) error {
		return r.each(func(s *segment) error { return s.confirmLengths(ctx, r.opts.Timing) })
	})
	for _, n := range here(silent) {
		n.length.watched = all
	}
	return err
}

func (s *segment) firstLengths(ctx context.Context) error {
	for _, n := range s.nics {
		if t := n.echoTarget(); t != nil {
			n.length = s.newLength(t, n)
			s.addLength(&n.length)
		}
	}
	if s.gateway != nil && s.gateway.icmp {
		s.gatewayLength = s.newLength(s.gateway, s.nics[0])
		s.addLength(&s.gatewayLength)
	}
	return s.tryLengths(ctx, s.prober.timing.WindowMin)
}

func (s *segment) addLength(l *lengthProbe) {
	if l.want > 0 {
		s.lengths = append(s.lengths, l)
	}
}

// newLength says which length should pass to t: the network's MTU, or else
// what the port and we have.
func (s *segment) newLength(t *target, n *nic) lengthProbe {
	l := lengthProbe{target: t, want: n.network.MTU, stated: n.network.MTU > 0}
	if !l.stated {
		l.want = min(n.link.mtu, s.prober.mtu)
	}
	if l.want > s.prober.mtu {
		if have := s.raiseMTU(l.want); have < l.want {
			l.reason = fmt.Sprintf("the MTU of the network is %d, and that of %s cannot be set higher than %d", l.want, s.device, have)
			l.want = 0
		}
	}
	return l
}

// raiseMTU makes the vantage, and the other end of a veth, send frames of that
// length, and returns what they can. It is our own device.
func (s *segment) raiseMTU(mtu int) int {
	vantage, err := netlink.LinkByName(s.device)
	if err != nil {
		return s.prober.mtu
	}
	if vantage.Type() == "veth" {
		if peer, err := netlink.LinkByIndex(vantage.Attrs().ParentIndex); err == nil && netlink.LinkSetMTU(peer, mtu) != nil {
			return s.prober.mtu
		}
	}
	if netlink.LinkSetMTU(vantage, mtu) == nil {
		s.prober.mtu = mtu
	}
	return s.prober.mtu
}

// tryLengths asks those for whom full length has not passed, three times in a
// window, some at a time: long frames fill queues.
func (s *segment) tryLengths(ctx context.Context, window time.Duration) error {
	p := s.prober
	p.replies = asks*len(s.lengths) + batch
	byIndex := map[int]*lengthProbe{}
	pending := 0
	for _, l := range s.lengths {
		if !l.passed {
			byIndex[l.target.index] = l
			pending++
		}
	}
	owing := 0 // of those sent last
	take := func(f seen) bool {
		if l := s.lengthAnswer(f, byIndex); l != nil && f.token.to() == l.want && !l.passed {
			l.passed = true
			pending, owing = pending-1, owing-1
		}
		return owing > 0
	}
	start := time.Now()
	for round := 1; round <= asks && pending > 0; round++ {
		err := s.sendLengths(func(sent int) error {
			owing = sent
			return p.attend(ctx, time.Now().Add(paceTick), take)
		})
		if owing = pending; err == nil && pending > 0 {
			err = p.attend(ctx, start.Add(window*time.Duration(round)/asks), take)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sendLengths sends an echo of full length to all for whom none has passed, and
// has the answers read after every batch.
func (s *segment) sendLengths(read func(sent int) error) error {
	var packets []packet
	for i, l := range s.lengths {
		if !l.passed {
			packets = append(packets, s.prober.lengthEcho(l, l.want))
		}
		if len(packets) < batch && i < len(s.lengths)-1 {
			continue
		}
		if err := s.prober.socket.send(packets); err != nil {
			return err
		}
		if err := read(len(packets)); err != nil {
			return err
		}
		packets = packets[:0]
	}
	return nil
}

func (p *prober) lengthEcho(l *lengthProbe, length int) packet {
	tok := newToken(p.run, purposeLength, l.target.index, length)
	return packet{device: p.device, data: p.echo(l.target, tok, length)}
}

// lengthAnswer is the probe that f answers, or nil.
func (s *segment) lengthAnswer(f seen, byIndex map[int]*lengthProbe) *lengthProbe {
	if f.kind != frameEchoReply || f.token.purpose() != purposeLength || f.token.run() != s.prober.run {
		return nil
	}
	if l := byIndex[f.token.from()]; l != nil && f.sender == l.target.addr {
		return l
	}
	return nil
}

// confirmLengths asks again, slowly, and then looks for the longest that passes.
func (s *segment) confirmLengths(ctx context.Context, timing Timing) error {
	for _, window := range timing.Confirm {
		if err := s.tryLengths(ctx, window); err != nil {
			return err
		}
	}
	var failed []*lengthProbe
	lost := s.prober.socket.lost()
	for _, l := range s.lengths {
		if l.passed {
			continue
		}
		if l.lost = lost; len(failed) < lengthGuests {
			failed = append(failed, l)
		}
	}
	return s.findLongest(ctx, failed, timing.WindowMin)
}

// findLongest narrows down the longest that passes, for all at once.
func (s *segment) findLongest(ctx context.Context, failed []*lengthProbe, window time.Duration) error {
	byIndex := map[int]*lengthProbe{}
	for _, l := range failed {
		byIndex[l.target.index] = l
		l.longest, l.ceiling = ip6Header+icmpHeader+markLength, l.want // that much has passed before
	}
	take := func(f seen) bool {
		if l := s.lengthAnswer(f, byIndex); l != nil {
			l.longest = max(l.longest, f.token.to())
		}
		return true
	}
	for round := 0; round < lengthRounds && len(failed) > 0; round++ {
		var packets []packet
		width := map[*lengthProbe]int{}
		for _, l := range failed {
			width[l] = (l.ceiling - l.longest + lengthSteps) / (lengthSteps + 1)
			for length := l.longest + width[l]; length < l.ceiling; length += width[l] {
				packets = append(packets, s.prober.lengthEcho(l, length))
			}
		}
		for range 2 { // one may be lost
			if err := s.prober.socket.send(packets); err != nil {
				return err
			}
			if err := s.prober.attend(ctx, time.Now().Add(window/2), take); err != nil {
				return err
			}
		}
		for _, l := range failed {
			l.ceiling = min(l.ceiling, l.longest+width[l])
		}
	}
	s.findCommonLength()
	return nil
}

// findCommonLength tells a path that is too narrow for all from one guest's.
func (s *segment) findCommonLength() {
	var failed []*lengthProbe
	longest := 0
	for _, l := range s.lengths {
		switch {
		case l == &s.gatewayLength:
		case l.passed, longest != 0 && l.longest != 0 && l.longest != longest:
			return
		default:
			longest = max(longest, l.longest)
			failed = append(failed, l)
		}
	}
	if len(failed) < 2 {
		return
	}
	for _, l := range failed {
		l.common, l.longest = true, longest
	}
}

func (n *nic) judgePathMTU() finding {
	l := n.length
	switch {
	case l.reason != "":
		return skip("%s", l.reason)
	case l.want == 0:
		return skip("it does not answer short echoes either, or was not asked")
	}
	who := choose(l.common, "the guests", "the guest")
	if f := n.judgeLength(l, who); f.status != StatusPass {
		return f
	}
	f := pass(fmt.Sprintf("%d bytes passed to the guest and back, unfragmented", l.want))
	if !l.passed {
		f = pass(fmt.Sprintf("%d bytes are delivered to %s; the guest itself takes no more than %d, and the spec states no MTU",
			l.want, n.Want.Device, l.longest))
	}
	g := n.segment.gatewayLength
	if g.want == 0 {
		return f
	}
	if bad := n.judgeLength(g, "gateway "+n.network.Gateway.String()); bad.status != StatusPass {
		bad.network = bad.status == StatusFail
		return bad
	}
	return f.with(fmt.Sprintf("%d bytes passed to gateway %s and back", g.want, n.network.Gateway))
}

// judgeLength is what became of frames of full length to somebody.
func (n *nic) judgeLength(l lengthProbe, who string) finding {
	switch {
	case l.passed || !l.stated && l.watched && l.delivered > 0:
		return pass()
	case l.lost > 0:
		return tooBusy(l.lost)
	case l.longest == 0:
		return unsure("%d bytes do not pass to %s; shorter ones were not tried, because it is so for too many others", l.want, who)
	case l.longest < leastMTU:
		return skip("%s answers no echo longer than %d bytes: a filter of long ones, and not the path", who, l.longest)
	}
	f := finding{
		status: StatusFail, code: CodePathMTU, network: l.common,
		want: fmt.Sprintf("%d bytes pass to %s", l.want, who), got: fmt.Sprintf("no more than %d do", l.longest),
		evidence: []string{fmt.Sprintf("echoes of %d bytes, not to be fragmented, from %s in %s: no answer", l.want, n.probeVantage(), n.segment)},
		fix:      "ip link show   # which device on the path has an MTU of " + fmt.Sprint(l.longest) + "?",
	}
	switch {
	case l.target == nil || l.target.index == maxNICs || !l.watched:
	case l.delivered > 0:
		f = f.with(fmt.Sprintf("%d of them were delivered to %s: the guest's own MTU is smaller", l.delivered, n.Want.Device))
		f.fix = fmt.Sprintf("virsh console %s   # ip link set mtu %d", quoted(n.guest.Name), l.want)
	default:
		f = f.with("none was delivered to " + n.Want.Device)
	}
	return f
}

// probeVantage is the device that the NIC was asked from.
func (n *nic) probeVantage() string { return orElse(n.probe.vantage, n.probe6.vantage) }
