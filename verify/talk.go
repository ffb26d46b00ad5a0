// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// purposeTalk is a frame of a conversation: in its token, from is the number of
// the talk and to that of the frame.
const purposeTalk purpose = 1<<purposeBits - 1

const (
	dnsPort = 53
	// dnsPatience is how long a server may take that asks others.
	dnsPatience = 5 * time.Second
	// firstFrame is the number of the frames that ask whether somebody answers
	// at all; those that measure come after it.
	firstFrame = 0
)

// denyPorts are tried where nothing may arrive.
func denyPorts() []uint16 { return []uint16{22, 80, 443} }

// talk is a conversation that a guest is made to have, without its knowledge:
// what is sent as the guest, and what is seen of it and of the answer.
type talk struct {
	kind talkKind
	// from speaks, from source. to is who has addr, or nil when that is none of
	// our guests.
	from, to     *nic
	source, addr netip.Addr
	// direct is whether addr is on from's own link. Else frames go to gateway,
	// which is invalid when the network has none.
	direct  bool
	gateway netip.Addr
	dport   uint16
	name    string // asked of a DNS server
	// latency and loss are limits, zero for none.
	latency time.Duration
	loss    float64

	// blocked is why it was not held, or nil, and blind whether frames went by
	// unseen meanwhile.
	blocked *outcome
	blind   bool

	number int
	sport  uint16
	seq    uint32
	hop    *neighbor

	// entered is whether a frame was seen at from's port, and delivered at to's.
	entered, delivered bool
	// echoed, open and refused are the answers; unreachable is what ICMP said
	// instead, and prohibited whether that it is forbidden.
	echoed, open, refused bool
	unreachable           string
	prohibited            bool
	dns                   map[dnsmessage.Type]dnsAnswer
	// sent and received are the times of the frames that measure, by number.
	sent, received map[int]time.Time
}

// talkKind is what a conversation is about.
type talkKind int

const (
	talkEcho talkKind = iota + 1
	talkTCP
	talkDNS
	talkDeny // everything that may not arrive
)

// neighbor is somebody on the guest's link, and the MAC it says it has.
type neighbor struct {
	from *nic
	addr netip.Addr
	// mac is where it is asked, zero for everybody; known is whether it has
	// answered.
	mac   vnet.MAC
	known bool
}

// dnsAnswer is what a server says about one type of records.
type dnsAnswer struct {
	code  dnsmessage.RCode
	addrs []netip.Addr
}

// settled reports whether nothing better can come.
func (t *talk) settled() bool {
	switch t.kind {
	case talkEcho:
		return t.echoed
	case talkTCP:
		return t.open
	case talkDNS:
		return len(t.addresses()) > 0
	case talkDeny:
	}
	return t.delivered
}

// addresses are those that a DNS server knows.
func (t *talk) addresses() []netip.Addr {
	return slices.Concat(t.dns[dnsmessage.TypeA].addrs, t.dns[dnsmessage.TypeAAAA].addrs)
}

// next is the address of who gets the frames on the link.
func (t *talk) next() netip.Addr {
	if t.direct {
		return t.addr
	}
	return t.gateway
}

// conversation is talks that are held at the same time.
type conversation struct {
	*run

	talks     []*talk
	neighbors []*neighbor
	injector  *injector
	sender    *socket
	ear       *ear
	byDevice  map[int]*nic
	bySeq     map[uint32]*talk
	byPort    map[[2]int]*talk // from's index and the source port
	// replies are what the frames that are being read lead to.
	replies []packet
	failed  error
}

// converse holds the talks, all of which can be held, and notes in each what was
// seen. It reports whether frames went by unseen.
func (r *run) converse(ctx context.Context, talks []*talk) (blind bool, err error) {
	c := &conversation{
		run: r, talks: talks,
		byDevice: map[int]*nic{}, bySeq: map[uint32]*talk{}, byPort: map[[2]int]*talk{},
	}
	if err := c.introduce(); err != nil {
		return false, err
	}
	if err := c.open(); err != nil {
		return false, fmt.Errorf("%w: %w", errMute, err)
	}
	for _, step := range []func(context.Context) error{c.resolve, c.speak, c.measure} {
		if err == nil {
			err = step(ctx)
		}
	}
	blind = c.ear.lost() > 0
	return blind, errors.Join(err, c.close())
}

// errMute means that nothing could be sent as the guests.
var errMute = errors.New("nothing was sent as the guests")

// introduce gives every talk numbers of its own, and finds out who is asked on
// the link for whom.
func (c *conversation) introduce() error {
	for _, n := range c.nics {
		if n.plugged() {
			c.byDevice[n.link.index] = n
		}
	}
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("numbers of conversations: %w", err)
	}
	const ports = 1<<16 - firstPort
	seq, port := binary.BigEndian.Uint32(random[:]), int(binary.BigEndian.Uint16(random[4:]))%ports
	byNext := map[[2]any]*neighbor{}
	for i, t := range c.talks {
		// Far enough apart that no acceptance is taken for another's.
		t.number, t.seq, t.sport = i, seq+uint32(i)<<12, uint16(firstPort+(port+i)%ports)
		c.bySeq[t.seq] = t
		c.byPort[[2]int{t.from.index, int(t.sport)}] = t
		if t.next().IsValid() {
			key := [2]any{t.from.index, t.next()}
			if byNext[key] == nil {
				byNext[key] = &neighbor{from: t.from, addr: t.next(), mac: t.nextMAC()}
				c.neighbors = append(c.neighbors, byNext[key])
			}
			t.hop = byNext[key]
		}
	}
	return nil
}

// nextMAC is the MAC at which the next hop is asked, where it is known, so that
// nobody else is.
func (t *talk) nextMAC() vnet.MAC {
	if t.direct && t.to != nil {
		return t.to.Want.MAC
	}
	if s := t.from.segment; s != nil && s.gateway != nil && s.gateway.addr == t.next() {
		return s.gateway.mac
	}
	return vnet.MAC{}
}

func (c *conversation) open() (err error) {
	if c.injector, err = openInjector(); err != nil {
		return err
	}
	if c.ear, err = openEar(); err != nil {
		return errors.Join(err, c.injector.close())
	}
	if c.sender, err = openSender(); err != nil {
		return errors.Join(err, c.ear.close(), c.injector.close())
	}
	return nil
}

func (c *conversation) close() error {
	return errors.Join(c.sender.close(), c.ear.close(), c.injector.close())
}

// resolve asks for the MACs of the next hops as the guests, up to three times in
// a window, and slowly once more.
func (c *conversation) resolve(ctx context.Context) error {
	owed := func() bool { return slices.ContainsFunc(c.neighbors, func(n *neighbor) bool { return !n.known }) }
	return c.rounds(ctx, owed, false, func(int) ([]packet, error) {
		var packets []packet
		for _, n := range c.neighbors {
			if n.known {
				continue
			}
			l := letter{src: n.from.Want.MAC, dst: n.mac, from: n.from.own(n.addr.Is6()), to: n.addr}
			data, err := l.ask()
			if err != nil {
				return nil, err
			}
			packets = append(packets, c.injector.packet(n.from.link, data))
		}
		return packets, nil
	})
}

// speak sends what each talk is about, until it is answered.
func (c *conversation) speak(ctx context.Context) error {
	start := time.Now()
	apart := slices.ContainsFunc(c.talks, func(t *talk) bool { return t.kind == talkDeny })
	err := c.rounds(ctx, c.unsettled, apart, func(round int) ([]packet, error) {
		var packets []packet
		for _, t := range c.talks {
			if t.settled() || t.kind == talkDeny && round >= apartRounds {
				continue
			}
			frames, err := c.frames(t)
			if err != nil {
				return nil, err
			}
			packets = append(packets, frames...)
		}
		return packets, nil
	})
	if err != nil || !slices.ContainsFunc(c.talks, func(t *talk) bool { return t.kind == talkDNS && !t.settled() }) {
		return err
	}
	return c.listen(ctx, start.Add(dnsPatience), c.unsettled)
}

// unsettled reports whether an answer that should come has not.
func (c *conversation) unsettled() bool {
	return slices.ContainsFunc(c.talks, func(t *talk) bool { return t.kind != talkDeny && t.hop.known && !t.settled() })
}

// rounds sends up to three times in the first window, and once in each of the
// slow ones, as long as owed says that something is. With apart something must
// be seen to stay away, so the first window is watched to its end.
func (c *conversation) rounds(ctx context.Context, owed func() bool, apart bool, packets func(round int) ([]packet, error)) error {
	send := func(round int) error {
		list, err := packets(round)
		if err != nil {
			return err
		}
		return c.send(ctx, list)
	}
	start := time.Now()
	for round := 0; round < rounds && (owed() || apart); round++ {
		if err := send(round); err != nil {
			return err
		}
		until := start.Add(c.opts.Timing.WindowMin * time.Duration(round+1) / rounds)
		if err := c.listen(ctx, until, func() bool { return apart || owed() }); err != nil {
			return err
		}
	}
	for _, window := range c.opts.Timing.Confirm {
		if !owed() {
			return nil
		}
		if err := send(rounds); err != nil {
			return err
		}
		if err := c.listen(ctx, time.Now().Add(window), owed); err != nil {
			return err
		}
	}
	return nil
}

// send sends in batches, and reads between them so that nothing is lost.
func (c *conversation) send(ctx context.Context, packets []packet) error {
	for len(packets) > 0 {
		n := min(len(packets), batch)
		if err := c.sender.send(packets[:n]); err != nil {
			return err
		}
		if packets = packets[n:]; len(packets) == 0 {
			return nil
		}
		always := func() bool { return true }
		if err := c.listen(ctx, time.Now().Add(time.Millisecond), always); err != nil {
			return err
		}
	}
	return nil
}

// listen reads frames until then, or as long as owed says.
func (c *conversation) listen(ctx context.Context, until time.Time, owed func() bool) error {
	err := c.ear.listen(ctx, until, func(o overheard) bool {
		c.take(o)
		if len(c.replies) > 0 {
			c.failed = errors.Join(c.failed, c.sender.send(c.replies))
			c.replies = c.replies[:0]
		}
		return c.failed == nil && owed()
	})
	return errors.Join(err, c.failed)
}

// frames are what a talk sends in one round.
func (c *conversation) frames(t *talk) ([]packet, error) {
	l := letter{src: t.from.Want.MAC, from: t.source, to: t.addr}
	var list [][]byte
	var errs []error
	add := func(data []byte, err error) {
		list, errs = append(list, data), append(errs, err)
	}
	for _, mac := range t.receivers() {
		l.dst = mac
		switch t.kind {
		case talkEcho:
			add(l.echo(c.token(t, firstFrame)))
		case talkTCP:
			add(l.syn(t.sport, t.dport, t.seq))
		case talkDNS:
			for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
				query, err := t.query(kind)
				errs = append(errs, err)
				add(l.query(t.sport, query))
			}
		case talkDeny:
			add(l.echo(c.token(t, firstFrame)))
			for _, port := range denyPorts() {
				add(l.syn(t.sport, port, t.seq))
			}
		}
	}
	packets := make([]packet, len(list))
	for i, data := range list {
		packets[i] = c.injector.packet(t.from.link, data)
	}
	return packets, errors.Join(errs...)
}

// receivers are the MACs that frames go to: the next hop's, when it has
// answered. What may not arrive is sent to the target itself in any case.
func (t *talk) receivers() []vnet.MAC {
	var list []vnet.MAC
	if t.hop != nil && t.hop.known {
		list = append(list, t.hop.mac)
	}
	if t.kind == talkDeny && t.to != nil && !slices.Contains(list, t.to.Want.MAC) {
		list = append(list, t.to.Want.MAC)
	}
	return list
}

func (c *conversation) token(t *talk, frame int) token {
	return newToken(c.id, purposeTalk, t.number, frame)
}

// queryID tells the queries of a talk apart.
func (t *talk) queryID(kind dnsmessage.Type) uint16 { return uint16(t.seq) + uint16(kind) }

func (t *talk) query(kind dnsmessage.Type) ([]byte, error) {
	name, err := dnsmessage.NewName(strings.TrimSuffix(t.name, ".") + ".")
	if err != nil {
		return nil, fmt.Errorf("DNS name %s: %w", t.name, err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: t.queryID(kind), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: kind, Class: dnsmessage.ClassINET}},
	}
	return m.Pack()
}

// take notes what one frame at one port means.
func (c *conversation) take(o overheard) {
	n := c.byDevice[o.device]
	if n == nil {
		return
	}
	toGuest := n.link.toGuest(seen{outgoing: o.outgoing})
	switch o.kind {
	case wordNeighbor:
		if toGuest {
			c.takeNeighbor(n, o)
		}
	case wordEcho:
		if t := c.byToken(o.token); t != nil {
			c.takeRequest(t, n, toGuest, o)
		}
	case wordSYN:
		if t := c.bySeq[o.seq]; t != nil {
			c.takeRequest(t, n, toGuest, o)
		}
	case wordUDP:
		c.takeUDP(n, toGuest, o)
	case wordEchoReply, wordOpen, wordRefused, wordError:
		if toGuest {
			c.takeAnswer(n, o)
		}
	}
}

func (c *conversation) byToken(t token) *talk {
	if t.run() != c.id || t.purpose() != purposeTalk || t.from() >= len(c.talks) {
		return nil
	}
	return c.talks[t.from()]
}

func (c *conversation) takeNeighbor(n *nic, o overheard) {
	for _, hop := range c.neighbors {
		if hop.from == n && hop.addr == o.from && !hop.known {
			hop.mac, hop.known = o.mac, true
		}
	}
}

// takeRequest notes where a frame of a talk was seen.
func (c *conversation) takeRequest(t *talk, n *nic, toGuest bool, o overheard) {
	switch {
	case n == t.from && !toGuest:
		t.entered = true
		if number := o.token.to(); o.kind == wordEcho && t.sent != nil && t.sent[number].IsZero() {
			t.sent[number] = o.at
		}
	case n == t.to && toGuest:
		t.delivered = true
	}
}

func (c *conversation) takeAnswer(n *nic, o overheard) {
	switch o.kind {
	case wordEchoReply:
		t := c.byToken(o.token)
		if t == nil || t.from != n {
			return
		}
		t.echoed = true
		if number := o.token.to(); t.received != nil && t.received[number].IsZero() {
			t.received[number] = o.at
		}
	case wordOpen:
		if t := c.bySeq[o.ack-1]; t != nil && t.from == n {
			t.open = true
			c.hangUp(t, o)
		}
	case wordRefused:
		if t := c.bySeq[o.ack-1]; t != nil && t.from == n {
			t.refused = true
		}
	case wordError:
		c.takeError(n, o)
	case wordNeighbor, wordEcho, wordSYN, wordUDP:
	}
}

// hangUp takes back a connection that was accepted, so that none stays half
// open.
func (c *conversation) hangUp(t *talk, o overheard) {
	for _, mac := range t.receivers() {
		l := letter{src: t.from.Want.MAC, dst: mac, from: t.source, to: t.addr}
		data, err := l.reset(t.sport, o.sport, o.ack)
		if err != nil {
			c.failed = errors.Join(c.failed, err)
			return
		}
		c.replies = append(c.replies, c.injector.packet(t.from.link, data))
	}
}

func (c *conversation) takeError(n *nic, o overheard) {
	t := c.byPort[[2]int{n.index, int(o.number)}]
	if o.protocol == layers.IPProtocolICMPv4 || o.protocol == layers.IPProtocolICMPv6 {
		t = nil
		for _, other := range c.talks {
			if other.from == n && uint16(other.number) == o.number {
				t = other
			}
		}
	}
	if t != nil {
		t.unreachable = fmt.Sprintf("%s, from %s", o.text, o.from)
		t.prohibited = t.prohibited || o.prohibited
	}
}

func (c *conversation) takeUDP(n *nic, toGuest bool, o overheard) {
	if !toGuest {
		if t := c.byPort[[2]int{n.index, int(o.sport)}]; t != nil {
			t.entered = true
		}
		return
	}
	if t := c.byPort[[2]int{n.index, int(o.dport)}]; t != nil && t.kind == talkDNS && o.from == t.addr && o.sport == dnsPort {
		t.takeDNS(o.payload)
		return
	}
	for _, t := range c.talks {
		if t.kind == talkDNS && t.to == n && t.sport == o.sport && t.addr == o.to {
			t.delivered = true
		}
	}
}

// takeDNS reads an answer of a DNS server (RFC 1035).
func (t *talk) takeDNS(b []byte) {
	var m dnsmessage.Message
	// A message that is cut short is packed well as far as it goes.
	if m.Unpack(b) != nil || !m.Response || len(m.Questions) != 1 || m.ID != t.queryID(m.Questions[0].Type) {
		return
	}
	answer := dnsAnswer{code: m.RCode}
	for _, r := range m.Answers {
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			answer.addrs = append(answer.addrs, netip.AddrFrom4(body.A))
		case *dnsmessage.AAAAResource:
			answer.addrs = append(answer.addrs, netip.AddrFrom16(body.AAAA))
		}
	}
	if t.dns == nil {
		t.dns = map[dnsmessage.Type]dnsAnswer{}
	}
	t.dns[m.Questions[0].Type] = answer
}
