// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// EtherTypes (IEEE 802 numbers) and protocol constants of RFC 826, 791, 792.
// Those of IPv6 are in nd.go.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100
	etherQinQ = 0x88a8

	arpRequest  = 1
	arpReply    = 2
	echoRequest = 8
	echoReply   = 0

	protoICMP = 1

	etherHeader = 14
	arpLength   = 28
	ipHeader    = 20
	icmpHeader  = 8
	minFrame    = 60 // without the checksum
)

// magic marks our frames, with a token behind it: in the padding that an ARP
// frame needs anyway, and in the payload of an ICMP echo, which comes back.
var magic = [8]byte{'v', 'i', 'r', 't', 'v', 'n', 'e', 't'}

const markLength = 16 // the magic and eight bytes of token

// broadcast is the address of everybody (IEEE 802).
var broadcast = vnet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// frameKind is what a frame does. The zero frameKind is none of ours.
type frameKind int

const (
	frameARPRequest frameKind = iota + 1
	frameARPReply
	frameEchoRequest
	frameEchoReply
	frameSolicitation
	frameAdvertisement
)

// frame is an ARP, neighbour discovery or ICMP echo frame over Ethernet. An
// echo is IPv6 when its target is.
type frame struct {
	kind     frameKind
	dst, src vnet.MAC
	// sender and target are the protocol addresses of ARP, or source and
	// destination of IP. An invalid one is sent as all zero. In neighbour
	// discovery they mean what they do in ARP: the target of a solicitation is
	// the address it asks for, the sender of an advertisement the one it is for.
	sender, target netip.Addr
	// senderMAC and targetMAC are the hardware addresses inside ARP, senderMAC
	// also the one in neighbour discovery, which may lack it.
	senderMAC, targetMAC vnet.MAC
	// token is the mark of our frames, zero for those of others.
	token token
	// length is how long the IP packet of an echo is made, when that is more
	// than it needs. It is not read from frames.
	length int
}

// encode returns the frame's bytes, padded to the least that Ethernet carries.
func (f frame) encode() []byte {
	b := make([]byte, f.size())
	f.put(b)
	return b
}

// size is how many bytes the frame has.
func (f *frame) size() int { return max(minFrame, etherHeader+f.packetLength()) }

// put writes the frame into b, which has its size and is all zero.
func (f *frame) put(b []byte) {
	copy(b[0:], f.dst[:])
	copy(b[6:], f.src[:])
	switch {
	case f.kind == frameARPRequest || f.kind == frameARPReply:
		f.encodeARP(b)
	case f.kind == frameSolicitation || f.kind == frameAdvertisement:
		f.encodeND(b)
	case f.target.Is6():
		f.encodeEcho6(b)
	default:
		f.encodeEcho(b)
	}
}

// packetLength is how long the IP packet in the frame is.
func (f *frame) packetLength() int {
	switch {
	case f.kind == frameARPRequest || f.kind == frameARPReply:
		return 0
	case f.kind == frameSolicitation || f.kind == frameAdvertisement:
		return f.lengthND()
	case f.target.Is6():
		return max(f.length, ip6Header+icmpHeader+markLength)
	}
	return max(f.length, ipHeader+icmpHeader+markLength)
}

func (f *frame) encodeARP(b []byte) {
	binary.BigEndian.PutUint16(b[12:], etherARP)
	arp := b[etherHeader:]
	copy(arp, []byte{0, 1, etherIPv4 >> 8, etherIPv4 & 0xff, 6, 4, 0, arpRequest})
	if f.kind == frameARPReply {
		arp[7] = arpReply
	}
	copy(arp[8:], f.senderMAC[:])
	copy(arp[14:], ipv4(f.sender))
	copy(arp[18:], f.targetMAC[:])
	copy(arp[24:], ipv4(f.target))
	f.token.put(arp[arpLength:])
}

func (f *frame) encodeEcho(b []byte) {
	length := f.packetLength()
	binary.BigEndian.PutUint16(b[12:], etherIPv4)
	ip := b[etherHeader : etherHeader+length]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(length))
	binary.BigEndian.PutUint16(ip[6:], 0x4000) // do not fragment
	ip[8], ip[9] = 64, protoICMP
	copy(ip[12:], ipv4(f.sender))
	copy(ip[16:], ipv4(f.target))
	binary.BigEndian.PutUint16(ip[10:], checksum(ip[:ipHeader], 0))
	icmp := ip[ipHeader:]
	if f.kind == frameEchoRequest {
		icmp[0] = echoRequest
	}
	f.putEcho(icmp)
	binary.BigEndian.PutUint16(icmp[2:], checksum(icmp, 0))
}

// putEcho fills in what echoes of both versions of IP have alike.
func (f *frame) putEcho(icmp []byte) {
	binary.BigEndian.PutUint16(icmp[4:], uint16(f.token>>48))
	binary.BigEndian.PutUint16(icmp[6:], uint16(f.token))
	f.token.put(icmp[icmpHeader:])
}

// decode reads a frame as a packet socket delivers it. It reports false for
// everything that is not ARP, neighbour discovery or ICMP echo, or is cut
// short. An 802.1Q tag that is still in the frame is passed over.
func decode(b []byte) (frame, bool) {
	if len(b) < etherHeader {
		return frame{}, false
	}
	f := frame{dst: vnet.MAC(b[0:6]), src: vnet.MAC(b[6:12])}
	kind, body := binary.BigEndian.Uint16(b[12:]), b[etherHeader:]
	if (kind == etherVLAN || kind == etherQinQ) && len(body) >= 4 {
		kind, body = binary.BigEndian.Uint16(body[2:]), body[4:]
	}
	switch kind {
	case etherARP:
		return f, f.decodeARP(body)
	case etherIPv4:
		return f, f.decodeEcho(body)
	case etherIPv6:
		return f, f.decodeICMPv6(body)
	}
	return frame{}, false
}

func (f *frame) decodeARP(arp []byte) bool {
	if len(arp) < arpLength || !bytes.Equal(arp[:7], []byte{0, 1, etherIPv4 >> 8, etherIPv4 & 0xff, 6, 4, 0}) {
		return false
	}
	switch arp[7] {
	case arpRequest:
		f.kind = frameARPRequest
	case arpReply:
		f.kind = frameARPReply
	default:
		return false
	}
	f.senderMAC, f.targetMAC = vnet.MAC(arp[8:14]), vnet.MAC(arp[18:24])
	f.sender, f.target = netip.AddrFrom4([4]byte(arp[14:18])), netip.AddrFrom4([4]byte(arp[24:28]))
	f.token = readToken(arp[arpLength:])
	return true
}

func (f *frame) decodeEcho(ip []byte) bool {
	if len(ip) < ipHeader || ip[0]>>4 != 4 || ip[9] != protoICMP {
		return false
	}
	header := int(ip[0]&0xf) * 4
	later := binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 // a fragment without the header
	if header < ipHeader || len(ip) < header+icmpHeader || later {
		return false
	}
	icmp := ip[header:]
	switch icmp[0] {
	case echoRequest:
		f.kind = frameEchoRequest
	case echoReply:
		f.kind = frameEchoReply
	default:
		return false
	}
	f.sender, f.target = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	f.token = readToken(icmp[icmpHeader:])
	return true
}

func ipv4(a netip.Addr) []byte {
	if !a.Is4() {
		return make([]byte, 4)
	}
	b := a.As4()
	return b[:]
}

// checksum is the Internet checksum (RFC 1071) of b, on top of the sum of what
// goes before it.
func checksum(b []byte, sum uint32) uint16 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
