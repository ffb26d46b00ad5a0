// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/vnet"
)

const (
	protoUDP       = 17
	udpHeader      = 8
	portDHCPServer = 67
	portDHCPClient = 68

	// dhcpSnap is as much as a DHCP packet has.
	dhcpSnap = 1600
	// patience is how long a guest must have waited for an offer that does not
	// come: a server may take three seconds to see whether the address is free.
	patience = 4 * time.Second
	// grace is how long a guest may take to accept an offer.
	grace = time.Second
)

// dhcpSeen is what passed a NIC's port of DHCP.
type dhcpSeen struct {
	// asked is how many DHCPDISCOVER the guest sent, the first of them then, and
	// trying how long it had tried by the last, as it says itself.
	asked      int
	firstAsk   time.Time
	trying     time.Duration
	offers     int
	firstOffer time.Time
	// offer is the last, for people, and sum what is wrong with its checksum.
	offer, sum string
	// again is whether it went on discovering long after an offer, and taken
	// whether it requested an address.
	again, taken bool
	// from and until are when we looked.
	from, until time.Time
}

// dhcpPort is a NIC while its DHCP is watched: what is seen becomes the NIC's
// when the run has stopped looking at that.
type dhcpPort struct {
	nic  *nic
	seen *dhcpSeen
}

// dhcpProbe is our own question in a segment.
type dhcpProbe struct {
	asked int
	id    dhcpv4.TransactionID
	offer string
}

// addressless reports whether the guest could do with DHCP.
func (n *nic) addressless() bool {
	return n.segment != nil && n.segment.prober != nil && !n.address.Addr.IsValid()
}

// dhcpFilter lets in UDP over IPv4 to the ports of DHCP.
func dhcpFilter() []unix.SockFilter {
	const (
		headerLength = unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH
		loadIndexed  = unix.BPF_LD | unix.BPF_H | unix.BPF_IND
	)
	return []unix.SockFilter{
		{Code: loadHalf, K: 12},
		{Code: ifEqual, K: etherIPv4, Jf: 6},
		{Code: loadByte, K: etherHeader + 9},
		{Code: ifEqual, K: protoUDP, Jf: 4},
		{Code: headerLength, K: etherHeader},
		{Code: loadIndexed, K: etherHeader + 2},
		{Code: ifEqual, K: portDHCPServer, Jt: 2},
		{Code: ifEqual, K: portDHCPClient, Jt: 1},
		{Code: result, K: 0},
		{Code: result, K: dhcpSnap},
	}
}

// lookAtDHCP watches the DHCP of guests that have no address while f runs, and
// then asks for an offer itself, where that is wanted.
func (r *run) lookAtDHCP(ctx context.Context, f func(context.Context) error) error {
	byDevice := map[int]*dhcpPort{}
	bySegment := map[int]*segment{}
	for _, n := range r.nics {
		if n.addressless() {
			byDevice[n.link.index] = &dhcpPort{nic: n, seen: &dhcpSeen{from: time.Now()}}
			bySegment[n.segment.prober.device] = n.segment
		}
	}
	if len(byDevice) == 0 {
		return f(ctx)
	}
	watch, err := listen(listening{filter: dhcpFilter(), snap: dhcpSnap, raw: true})
	if err != nil {
		r.limit("DHCP is not watched", err)
		return f(ctx)
	}
	take := func(frames []seen) bool {
		for _, f := range frames {
			takeDHCP(f, byDevice[f.device], bySegment[f.device])
		}
		return true
	}
	watching, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	var broken error
	done.Go(func() { broken = watch.receive(watching, time.Time{}, take) })
	err = f(ctx)
	stop()
	done.Wait()
	if errors.Is(broken, context.Canceled) {
		broken = nil
	}
	for _, port := range byDevice {
		port.nic.dhcp = port.seen
	}
	read := func(until time.Time) error { return watch.receive(ctx, until, take) }
	if err = errors.Join(err, broken); err == nil && r.opts.DHCP {
		err = r.discoverAll(ctx, bySegment, read)
	}
	if err == nil {
		err = r.awaitOffers(ctx, byDevice, read)
	}
	for _, port := range byDevice {
		port.seen.until = time.Now()
	}
	return errors.Join(err, watch.close())
}

// awaitOffers goes on looking at guests that have no address: until they ask for
// one, as clients pause, and then until it is clear what comes of that or they
// have waited long enough.
func (r *run) awaitOffers(ctx context.Context, ports map[int]*dhcpPort, read func(time.Time) error) error {
	told := false
	for ctx.Err() == nil {
		var until time.Time
		for _, port := range ports {
			if enough := port.enough(r.opts.Timing.Discover); enough.After(until) {
				until = enough
			}
		}
		if !time.Now().Before(until) {
			return nil
		}
		if !told {
			r.opts.Progress("waiting for guests that ask for an address over DHCP")
			told = true
		}
		if err := read(time.Now().Add(paceTick * batch)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// enough is when we need look no longer: the zero Time where it is known already
// what is to be said of the guest. A guest that does not ask is waited for no
// longer than discover.
func (p *dhcpPort) enough(discover time.Duration) time.Time {
	switch {
	case p.seen.undecided():
		return p.seen.firstAsk.Add(patience + grace)
	case p.seen.asked == 0 && p.nic.selected && p.nic.brokenAt(RungAddress):
		return p.seen.from.Add(discover)
	}
	return time.Time{}
}

// discoverAll asks in every segment until it has an offer and it is clear what
// the guests make of theirs, or the time is over.
func (r *run) discoverAll(ctx context.Context, segments map[int]*segment, read func(time.Time) error) error {
	r.opts.Progress("asking for addresses")
	for range asks {
		for _, s := range segments {
			if s.dhcp.offer != "" {
				continue
			}
			if err := s.discoverDHCP(); err != nil {
				return err
			}
		}
		until := time.Now().Add(r.opts.Timing.DHCP / asks)
		for waitsForDHCP(segments) && ctx.Err() == nil && time.Now().Before(until) {
			if err := read(time.Now().Add(paceTick * batch)); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func waitsForDHCP(segments map[int]*segment) bool {
	for _, s := range segments {
		open := func(n *nic) bool { return n.seenDHCP().undecided() }
		if s.dhcp.offer == "" || slices.ContainsFunc(s.nics, open) {
			return true
		}
	}
	return false
}

// discoverDHCP sends a DHCPDISCOVER. The offer is asked to be broadcast, since
// no machine has our MAC.
func (s *segment) discoverDHCP() error {
	p := s.prober
	m, err := dhcpv4.NewDiscovery(p.mac.HardwareAddr(), dhcpv4.WithBroadcast(true))
	if err != nil {
		return fmt.Errorf("DHCPDISCOVER: %w", err)
	}
	if s.dhcp.asked == 0 {
		s.dhcp.id = m.TransactionID
	}
	m.TransactionID = s.dhcp.id
	s.dhcp.asked++
	return p.socket.send([]packet{{device: p.device, data: encodeDHCP(p.mac, m)}})
}

// encodeDHCP is a client's message to all servers.
func encodeDHCP(from vnet.MAC, m *dhcpv4.DHCPv4) []byte {
	payload := m.ToBytes()
	b := make([]byte, etherHeader+ipHeader+udpHeader, etherHeader+ipHeader+udpHeader+len(payload))
	copy(b, broadcast[:])
	copy(b[6:], from[:])
	binary.BigEndian.PutUint16(b[12:], etherIPv4)
	ip := b[etherHeader:]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(ipHeader+udpHeader+len(payload)))
	ip[8], ip[9] = 64, protoUDP
	copy(ip[16:], []byte{255, 255, 255, 255})
	binary.BigEndian.PutUint16(ip[10:], checksum(ip[:ipHeader], 0))
	udp := ip[ipHeader:]
	binary.BigEndian.PutUint16(udp[0:], portDHCPClient)
	binary.BigEndian.PutUint16(udp[2:], portDHCPServer)
	binary.BigEndian.PutUint16(udp[4:], uint16(udpHeader+len(payload)))
	b = append(b, payload...)
	ip = b[etherHeader:]
	binary.BigEndian.PutUint16(ip[ipHeader+6:], checksum(ip[ipHeader:], pseudoUDP(ip)))
	return b
}

// pseudoUDP is the sum of the pseudo-header of a UDP datagram (RFC 768).
func pseudoUDP(ip []byte) uint32 {
	sum := uint32(protoUDP) + uint32(binary.BigEndian.Uint16(ip[int(ip[0]&0xf)*4+4:]))
	for i := 12; i < ipHeader; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	return sum
}

// decodeDHCP reads a DHCP message, and says what is wrong with its checksum, if
// anything.
func decodeDHCP(b []byte) (m *dhcpv4.DHCPv4, sum string, ok bool) {
	if len(b) < etherHeader+ipHeader {
		return nil, "", false
	}
	ip := b[etherHeader:]
	header := int(ip[0]&0xf) * 4
	if header < ipHeader || len(ip) < header+udpHeader {
		return nil, "", false
	}
	length := int(binary.BigEndian.Uint16(ip[header+4:]))
	if length < udpHeader || len(ip) < header+length {
		return nil, "", false
	}
	udp := ip[header : header+length]
	m, err := dhcpv4.FromBytes(udp[udpHeader:])
	if err != nil {
		return nil, "", false
	}
	have, pseudo := binary.BigEndian.Uint16(udp[6:]), pseudoUDP(ip)
	switch {
	case have == 0 || checksum(udp, pseudo) == 0:
	case have == ^checksum(nil, pseudo):
		sum = "its UDP checksum was left to hardware that is not there"
	default:
		sum = fmt.Sprintf("its UDP checksum %#04x is wrong", have)
	}
	return m, sum, true
}

// takeDHCP notes a message at a port, or at the vantage of s.
func takeDHCP(f seen, port *dhcpPort, s *segment) {
	m, sum, ok := decodeDHCP(f.raw)
	switch {
	case !ok:
	case port != nil && bytes.Equal(m.ClientHWAddr, port.nic.Want.MAC[:]):
		toGuest := port.nic.link.toGuest(f)
		port.seen.take(m.MessageType(), toGuest, f.at)
		switch {
		case toGuest && m.MessageType() == dhcpv4.MessageTypeOffer:
			port.seen.offer, port.seen.sum = offerText(m), sum
		case !toGuest && m.MessageType() == dhcpv4.MessageTypeDiscover:
			port.seen.trying = time.Duration(m.NumSeconds) * time.Second
		}
	case s != nil && !f.outgoing && s.dhcp.asked > 0 && m.TransactionID == s.dhcp.id && m.MessageType() == dhcpv4.MessageTypeOffer:
		s.dhcp.offer = offerText(m)
	}
}

func (d *dhcpSeen) take(kind dhcpv4.MessageType, toGuest bool, at time.Time) {
	switch {
	case !toGuest && kind == dhcpv4.MessageTypeDiscover:
		if d.asked++; d.asked == 1 {
			d.firstAsk = at
		}
		d.again = d.again || d.offers > 0 && at.Sub(d.firstOffer) > grace
	case !toGuest && kind == dhcpv4.MessageTypeRequest:
		d.taken = true
	case toGuest && kind == dhcpv4.MessageTypeOffer:
		if d.offers++; d.offers == 1 {
			d.firstOffer = at
		}
	}
}

func offerText(m *dhcpv4.DHCPv4) string {
	server := m.ServerIPAddr
	if id := m.ServerIdentifier(); id != nil {
		server = id
	}
	return fmt.Sprintf("%s by %s", m.YourIPAddr, server)
}

// undecided reports whether the guest asked and may yet take what it is offered.
func (d dhcpSeen) undecided() bool { return d.asked > 0 && !d.again && !d.taken }

// seenDHCP is what was seen of the NIC's DHCP, as far as we looked.
func (n *nic) seenDHCP() dhcpSeen {
	if n.dhcp == nil {
		return dhcpSeen{}
	}
	return *n.dhcp
}

// judgeDHCP says why a guest without an address has none, as far as DHCP goes.
func (n *nic) judgeDHCP() (finding, bool) {
	d := n.seenDHCP()
	var own dhcpProbe
	if n.segment != nil {
		own = n.segment.dhcp
	}
	switch {
	case d.offers > 0 && d.again && !d.taken:
		return n.notTaken(), true
	case d.offers > 0 || d.taken:
		return finding{}, false
	case own.asked > 0 && own.offer == "" && (d.asked > 0 || n.selfAssigned().IsValid()):
		f := n.noOffer()
		f.network, f.got = true, "nobody offers one"
		return f, true
	case d.asked > 0 && d.until.Sub(d.firstAsk) > patience:
		f := n.noOffer()
		if own.offer != "" {
			return f, true
		}
		f.network, f.got = true, "guests ask, and no offer is delivered to them"
		return f, true
	}
	return finding{}, false
}

func (n *nic) noOffer() finding {
	return finding{
		status: StatusFail, code: CodeNoDHCPOffer,
		want: "an address over DHCP", got: "no offer is delivered to " + n.Want.Device,
		evidence: n.dhcpEvidence(),
		fix:      "virt-vnet show network " + quoted(n.Want.Network) + "   # is the DHCP server up, and in this VLAN?",
	}
}

func (n *nic) notTaken() finding {
	f := finding{
		status: StatusFail, code: CodeDHCPNotTaken,
		want: "the guest takes what it is offered", got: "it goes on asking",
		evidence: n.dhcpEvidence(),
		fix:      "virsh console " + quoted(n.guest.Name) + "   # does a firewall drop UDP to port 68?",
	}
	if n.seenDHCP().sum != "" {
		f.fix = "ethtool -K DEVICE tx off   # DEVICE: the DHCP server's"
	}
	return f
}

// dhcpEvidence is what was seen of DHCP at the NIC's port.
func (n *nic) dhcpEvidence() []string {
	d := n.seenDHCP()
	var lines []string
	if a := n.selfAssigned(); a.IsValid() {
		lines = append(lines, fmt.Sprintf("%s gave itself %s (RFC 3927)", n.guest.Name, a))
	}
	switch {
	case d.asked > 0 && d.trying > 0:
		lines = append(lines, fmt.Sprintf("%s sent %d DHCPDISCOVER at %s, and says that it has tried for %v", n.guest.Name, d.asked, n.Want.Device, d.trying))
	case d.asked > 0:
		lines = append(lines, fmt.Sprintf("%s sent %d DHCPDISCOVER at %s", n.guest.Name, d.asked, n.Want.Device))
	case !d.until.IsZero() && !d.taken:
		lines = append(lines, fmt.Sprintf("%s sent no DHCPDISCOVER at %s within %v", n.guest.Name, n.Want.Device, d.until.Sub(d.from).Round(time.Second)))
	}
	if d.offers > 0 {
		lines = append(lines, fmt.Sprintf("%d offers were delivered to %s: %s", d.offers, n.Want.Device, d.offer))
	}
	if d.sum != "" {
		lines = append(lines, d.sum)
	}
	if n.segment == nil {
		return lines
	}
	switch own := n.segment.dhcp; {
	case own.offer != "":
		lines = append(lines, fmt.Sprintf("%s was offered %s, in the same VLAN", n.segment.device, own.offer))
	case own.asked > 0:
		lines = append(lines, fmt.Sprintf("asked %d times from %s in %s: no offer", own.asked, n.segment.device, n.segment))
	}
	return lines
}

// selfAssigned is the address that the guest gave itself, if it did.
func (n *nic) selfAssigned() netip.Addr {
	for _, a := range n.Addresses {
		if a.Addr.Is4() && a.Addr.IsLinkLocalUnicast() {
			return a.Addr
		}
	}
	return netip.Addr{}
}
