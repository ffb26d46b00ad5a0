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
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// conversation is talks that are held at the same time.
type conversation struct {
	*run

	talks     []*talk
	neighbors []*neighbor
	byNext    map[nextHop]*neighbor
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

// nextHop is a neighbour as one guest sees it.
type nextHop struct {
	from int // its index
	addr netip.Addr
}

// What talks that are held at the same time can be told apart by: the ports of
// each guest, and the identifier of echoes (RFC 792).
const (
	manyPorts = 1<<16 - firstPort
	manyTalks = 1 << 16
)

// usesPort reports whether the talk has a port of its guest.
func (t *talk) usesPort() bool { return t.kind != talkEcho }

// atOnce splits the talks into those that can be held at the same time.
func atOnce(talks []*talk) [][]*talk {
	var list [][]*talk
	first, ports := 0, map[*nic]int{}
	for i, t := range talks {
		if i-first == manyTalks || t.usesPort() && ports[t.from] == manyPorts {
			list = append(list, talks[first:i])
			first = i
			clear(ports)
		}
		if t.usesPort() {
			ports[t.from]++
		}
	}
	return append(list, talks[first:])
}

// converse holds the talks, all of which can be held at the same time, and notes in each what was
// seen. It reports whether frames went by unseen.
func (r *run) converse(ctx context.Context, talks []*talk) (blind bool, err error) {
	c := &conversation{
		run: r, talks: talks,
		byDevice: map[int]*nic{}, bySeq: map[uint32]*talk{}, byPort: map[[2]int]*talk{}, byNext: map[nextHop]*neighbor{},
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
	if err == nil {
		err = c.noteVanished()
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
	seq, port := binary.BigEndian.Uint32(random[:]), int(binary.BigEndian.Uint16(random[4:]))
	used := map[*nic]int{}
	for i, t := range c.talks {
		// Far enough apart that no acceptance is taken for another's.
		t.number, t.seq = i, seq+uint32(i)<<12
		c.bySeq[t.seq] = t
		if t.usesPort() {
			t.sport = uint16(firstPort + (port+used[t.from])%manyPorts)
			used[t.from]++
			c.byPort[[2]int{t.from.index, int(t.sport)}] = t
		}
		if t.next().IsValid() {
			key := nextHop{t.from.index, t.next()}
			if c.byNext[key] == nil {
				c.byNext[key] = &neighbor{from: t.from, addr: t.next(), mac: t.nextMAC(), dead: t.nextDead()}
				c.neighbors = append(c.neighbors, c.byNext[key])
			}
			t.hop = c.byNext[key]
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

// nextDead reports whether the next hop is a gateway that does not answer.
func (t *talk) nextDead() bool {
	return t.from.broken() == RungGateway && t.next() == t.from.network.Gateway
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
// a window, and slowly once more unless they are dead.
func (c *conversation) resolve(ctx context.Context) error {
	owed := func() bool {
		return slices.ContainsFunc(c.neighbors, func(n *neighbor) bool { return !n.known && !n.dead })
	}
	dead := slices.ContainsFunc(c.neighbors, func(n *neighbor) bool { return n.dead })
	return c.rounds(ctx, owed, dead, func(int) ([]packet, error) {
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
			for _, port := range t.denyPorts() {
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

func (c *conversation) token(t *talk, frame int) token {
	return newToken(c.id, purposeTalk, t.number, frame)
}
