// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Protocol constants of ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861).
const (
	protoICMPv6 = 58

	echoRequest6  = 128
	echoReply6    = 129
	solicitation  = 135
	advertisement = 136

	optionSourceMAC = 1
	optionTargetMAC = 2
	// optionNonce (RFC 3971 section 5.3.2) carries our token: who does not
	// know an option passes it over.
	optionNonce = 14

	ip6Header   = 40
	ndHeader    = icmpHeader + 16
	macOption   = 8
	nonceOption = 24 // a multiple of eight with room for the mark

	// ndHops is the hop limit that shows that no router passed the packet on.
	ndHops = 255
	// solicitedOverride are the flags of an advertisement that was asked for.
	solicitedOverride = 0x60
)

// solicitedNode is the multicast address that everybody with an address that
// ends like a listens to (RFC 4291 section 2.7.1), and its MAC (RFC 2464
// section 7).
func solicitedNode(a netip.Addr) (netip.Addr, vnet.MAC) {
	b := a.As16()
	group := [16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]}
	return netip.AddrFrom16(group), vnet.MAC{0x33, 0x33, 0xff, b[13], b[14], b[15]}
}

// linkLocal is the address that follows from a MAC (RFC 4291 appendix A).
func linkLocal(m vnet.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5],
	})
}

func (f *frame) lengthND() int {
	length := ip6Header + ndHeader
	if !f.senderMAC.IsZero() {
		length += macOption
	}
	if f.token != 0 {
		length += nonceOption
	}
	return length
}

func (f *frame) encodeND(b []byte) {
	to, about, kind := f.target, f.target, byte(optionSourceMAC)
	if f.kind == frameSolicitation {
		to, _ = solicitedNode(about)
	} else {
		about, kind = f.sender, optionTargetMAC
	}
	icmp := f.putIPv6(b, to, f.lengthND(), ndHops)
	icmp[0] = solicitation
	if f.kind == frameAdvertisement {
		icmp[0], icmp[4] = advertisement, solicitedOverride
	}
	copy(icmp[8:], ipv6(about))
	options := icmp[ndHeader:]
	if !f.senderMAC.IsZero() {
		options[0], options[1] = kind, macOption/8
		copy(options[2:], f.senderMAC[:])
		options = options[macOption:]
	}
	if f.token != 0 {
		options[0], options[1] = optionNonce, nonceOption/8
		f.token.put(options[2:])
	}
	putChecksum6(b[etherHeader:])
}

func (f *frame) encodeEcho6(b []byte) {
	icmp := f.putIPv6(b, f.target, f.packetLength(), 64)
	icmp[0] = echoReply6
	if f.kind == frameEchoRequest {
		icmp[0] = echoRequest6
	}
	f.putEcho(icmp)
	putChecksum6(b[etherHeader:])
}

// putIPv6 writes the header (RFC 8200) of a packet of that length from the
// sender, and returns the place of its ICMPv6 message.
func (f frame) putIPv6(b []byte, to netip.Addr, length int, hops byte) (icmp []byte) {
	binary.BigEndian.PutUint16(b[12:], etherIPv6)
	ip := b[etherHeader : etherHeader+length]
	ip[0] = 0x60
	binary.BigEndian.PutUint16(ip[4:], uint16(length-ip6Header))
	ip[6], ip[7] = protoICMPv6, hops
	copy(ip[8:], ipv6(f.sender))
	copy(ip[24:], ipv6(to))
	return ip[ip6Header:]
}

// putChecksum6 completes an ICMPv6 packet. The sum is over a pseudo-header too
// (RFC 8200 section 8.1).
func putChecksum6(ip []byte) {
	length := int(binary.BigEndian.Uint16(ip[4:]))
	icmp := ip[ip6Header : ip6Header+length]
	sum := uint32(length) + protoICMPv6
	for i := 8; i < ip6Header; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(icmp[2:], checksum(icmp, sum))
}

// decodeICMPv6 reads an IPv6 packet. With headers between IPv6 and ICMPv6 it is
// none of ours.
func (f *frame) decodeICMPv6(ip []byte) bool {
	if len(ip) < ip6Header+icmpHeader || ip[0]>>4 != 6 || ip[6] != protoICMPv6 {
		return false
	}
	icmp := ip[ip6Header:]
	icmp = icmp[:min(len(icmp), int(binary.BigEndian.Uint16(ip[4:])))]
	if len(icmp) < icmpHeader {
		return false
	}
	f.sender, f.target = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
	switch icmp[0] {
	case echoRequest6:
		f.kind = frameEchoRequest
	case echoReply6:
		f.kind = frameEchoReply
	case solicitation:
		f.kind = frameSolicitation
	case advertisement:
		f.kind = frameAdvertisement
	default:
		return false
	}
	if f.kind == frameEchoRequest || f.kind == frameEchoReply {
		f.token = readToken(icmp[icmpHeader:])
		return true
	}
	return ip[7] == ndHops && icmp[1] == 0 && len(icmp) >= ndHeader && f.decodeND(icmp)
}

func (f *frame) decodeND(icmp []byte) bool {
	about, kind := netip.AddrFrom16([16]byte(icmp[8:24])), byte(optionSourceMAC)
	if f.kind == frameSolicitation {
		f.target = about
	} else {
		f.sender, kind = about, optionTargetMAC
	}
	for options := icmp[ndHeader:]; len(options) >= 8; {
		length := int(options[1]) * 8
		if length == 0 {
			return false
		}
		if length > len(options) { // more than we look at
			break
		}
		switch {
		case options[0] == kind && length == macOption:
			f.senderMAC = vnet.MAC(options[2:8])
		case options[0] == optionNonce:
			f.token = readToken(options[2:length])
		}
		options = options[length:]
	}
	return true
}

// ipv6 is the bytes of an address, zero for none.
func ipv6(a netip.Addr) []byte {
	if !a.IsValid() {
		return make([]byte, 16)
	}
	b := a.As16()
	return b[:]
}

// globalIPv6 is the first IPv6 address of the NIC that others can use beyond
// the link.
func (n *nic) globalIPv6() Address {
	for _, a := range n.Addresses {
		if a.Addr.Is6() && !a.Addr.Is4In6() && a.Addr.IsGlobalUnicast() {
			return a
		}
	}
	return Address{}
}

func (n *nic) judgeND() finding {
	p := n.probe6
	switch {
	case !n.address6.Addr.IsValid():
		return skip("no IPv6 address of it is known")
	case !p.asked && n.probe.pointless:
		return skip("%s", n.probe.reason)
	case !p.asked:
		return unsure("%s", orElse(n.probe.reason, "it was not asked"))
	case p.target.arp:
		return pass(fmt.Sprintf("%s is at %s, asked from %s in %s", n.address6.Addr, n.Want.MAC, p.vantage, n.segment))
	case p.lost > 0:
		return tooBusy(p.lost)
	}
	f := finding{
		status: StatusFail, code: CodeNoND,
		want: fmt.Sprintf("an answer for %s (%s)", n.address6.Addr, n.address6.Source), got: "silence",
		evidence: []string{fmt.Sprintf("asked for %s from %s in %s: no neighbour advertisement", n.address6.Addr, p.vantage, n.segment)},
		fix:      "virsh console " + quoted(n.guest.Name) + "   # ip -6 address: has it " + n.address6.Addr.String() + "?",
	}
	if n.probe.target.arp {
		f.got = "silence, though it answers ARP"
	}
	f.evidence = append(f.evidence, n.atPort(p)...)
	if n.mute(p) {
		return n.guestSilent(f.evidence)
	}
	return f
}

// tooBusy is why silence proves nothing when frames were lost on their way to us.
func tooBusy(lost int) finding {
	return unsure("%d frames came faster than they could be read, an answer may have been among them: try again", lost)
}
