// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/dns/dnsmessage"
)

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
	case wordQuestion:
		if !toGuest {
			c.takeQuestion(n, o)
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

// takeQuestion notes that n was seen asking for the MAC of a next hop.
func (c *conversation) takeQuestion(n *nic, o overheard) {
	if hop := c.byNext[nextHop{n.index, o.from}]; hop != nil {
		hop.entered = true
	}
}

func (c *conversation) takeNeighbor(n *nic, o overheard) {
	if hop := c.byNext[nextHop{n.index, o.from}]; hop != nil && !hop.known {
		hop.mac, hop.known = o.mac, true
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
	case wordNeighbor, wordQuestion, wordEcho, wordSYN, wordUDP:
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
		if i := int(o.number); i < len(c.talks) && c.talks[i].from == n {
			t = c.talks[i]
		}
	}
	if t != nil {
		t.unreachable = fmt.Sprintf("%s, from %s", o.text, o.from)
		t.rejected = t.rejected || o.from == t.addr
		t.prohibited = t.prohibited || o.prohibited && o.from != t.addr
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
