// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"net/netip"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// take notes what one frame at one port means.
func (m *matrix) take(s seen) {
	n := m.byDevice[s.device]
	switch {
	case n == nil:
	case s.kind == frameARPReply && n.link.toGuest(s):
		m.takeAnswer(n, s.senderMAC, s.sender)
	case s.token.run() != m.id || s.token == 0:
	case s.kind == frameEchoReply:
		if p := m.byEnds[[2]int{s.token.from(), s.token.to()}]; p != nil && p.from == n && n.link.toGuest(s) {
			p.icmp = true
		}
	case n.link.toGuest(s):
		m.takeDelivery(n, s)
	default:
		m.takeEntry(n, s.token)
	}
}

// takeAnswer notes that an ARP answer arrived at n's port.
func (m *matrix) takeAnswer(n *nic, sender vnet.MAC, addr netip.Addr) {
	if addr == n.network.Gateway && n.gateway.asGuest {
		n.gateway.heard = true
	}
	for _, other := range m.byMAC[sender] {
		if p := m.byEnds[[2]int{n.index, other.index}]; p != nil && addr == other.address.Addr {
			p.arp = true
		}
	}
}

func (m *matrix) takeEntry(n *nic, t token) {
	if p := m.byEnds[[2]int{t.from(), t.to()}]; p != nil && t.purpose() == purposeUnicast && t.from() == n.index {
		p.entered = true
	}
}

// takeDelivery notes that a frame arrived at n's port, whether it was for n or
// not.
func (m *matrix) takeDelivery(n *nic, s seen) {
	from, to := s.token.from(), s.token.to()
	if s.token.purpose() == purposeProbe {
		if to == n.index {
			n.probe.delivered++
		}
		return
	}
	if from == n.index || from >= len(m.nics) {
		return
	}
	p := m.byEnds[[2]int{from, n.index}]
	if p == nil {
		p = m.stray(m.nics[from], n)
	}
	switch {
	case p == nil:
	case s.dst == broadcast:
		p.broadcast = true
	default:
		p.unicast = true
	}
}

// stray adds a pair that was not chosen, when what arrived is a leak.
func (m *matrix) stray(from, to *nic) *pair {
	unexpected := expect(from, to) == ExpectIsolation && !m.overruled(from, to, ExpectIsolation)
	if !unexpected || !from.selected && !to.selected {
		return nil
	}
	p := &pair{from: from, to: to, expect: ExpectIsolation, entered: true}
	m.byEnds[[2]int{from.index, to.index}] = p
	m.pairs = append(m.pairs, p)
	return p
}
