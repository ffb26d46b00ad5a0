// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

// take notes what one frame at one port means.
func (m *matrix) take(s *seen) {
	n := m.byDevice[s.device]
	switch {
	case n == nil:
	case (s.kind == frameARPReply || s.kind == frameAdvertisement) && n.link.toGuest(*s):
		m.takeAnswer(n, s)
	case s.token.run() != m.id || s.token == 0:
	case s.kind == frameEchoReply:
		if p := m.byEnds[[2]int{s.token.from(), s.token.to()}]; p != nil && p.from == n && n.link.toGuest(*s) {
			m.answered(&p.icmp)
		}
	case n.link.toGuest(*s):
		m.takeDelivery(n, s)
	default:
		m.takeEntry(n, s.token)
	}
}

// takeAnswer notes that an answer of ARP or neighbour discovery arrived at n's
// port. One of a guest comes from the MAC that it says.
func (m *matrix) takeAnswer(n *nic, s *seen) {
	sender, addr := s.senderMAC, s.sender
	if addr == n.network.Gateway && n.gateway.asGuest {
		n.gateway.heard = true
		if n.gatewayDead() {
			n.segment.gateway.mac = sender // the others need not ask everybody
		}
	}
	for _, other := range m.byMAC[sender] {
		p := m.byEnds[[2]int{n.index, other.index}]
		switch {
		case p == nil || addr != other.address.Addr:
		case s.src != sender:
			other.sawRival(s.src, addr)
		default:
			m.answered(&p.arp)
		}
	}
}

// answered notes the first answer of a kind.
func (m *matrix) answered(kind *bool) {
	if !*kind {
		*kind = true
		m.owed--
	}
}

// takeEntry notes that a frame was seen entering the switch at n's port, if it
// is one that is sent as n.
func (m *matrix) takeEntry(n *nic, t token) {
	if t.from() != n.index {
		return
	}
	switch t.purpose() {
	case purposeUnicast:
		if p := m.byEnds[[2]int{t.from(), t.to()}]; p != nil {
			p.entered = true
		}
	case purposeGateway:
		n.gateway.entered = true
	default:
	}
}

// takeDelivery notes that a frame arrived at n's port, whether it was for n or
// not.
func (m *matrix) takeDelivery(n *nic, s *seen) {
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
