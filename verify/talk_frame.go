// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// ports of ours start here: above those that Linux and others take for their
// own connections (ip_local_port_range).
const firstPort = 61000

// letter is the ends of a frame that a guest sends: on its link, and in IP.
type letter struct {
	src, dst vnet.MAC
	from, to netip.Addr
}

// ask is an ARP request, or a neighbour solicitation (RFC 4861), for the MAC of
// l.to. A zero l.dst asks everybody.
func (l letter) ask() ([]byte, error) {
	everybody := l.dst.IsZero()
	if l.to.Is4() {
		if everybody {
			l.dst = broadcast
		}
		return frame{
			kind: frameARPRequest, dst: l.dst, src: l.src, senderMAC: l.src, sender: l.from, target: l.to,
		}.encode(), nil
	}
	target := l.to.As16()
	if everybody {
		l.dst = vnet.MAC{0x33, 0x33, 0xff, target[13], target[14], target[15]}
	}
	// The solicited-node multicast address (RFC 4291 section 2.7.1).
	l.to = netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]})
	return l.encode(layers.IPProtocolICMPv6,
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)},
		&layers.ICMPv6NeighborSolicitation{
			TargetAddress: target[:],
			Options:       layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: l.src[:]}},
		})
}

// echo is an ICMP echo request that carries the token.
func (l letter) echo(t token) ([]byte, error) {
	mark := make(gopacket.Payload, markLength)
	t.put(mark)
	if l.to.Is4() {
		return l.encode(layers.IPProtocolICMPv4, &layers.ICMPv4{
			TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: uint16(t.from()), Seq: uint16(t.to()),
		}, mark)
	}
	return l.encode(layers.IPProtocolICMPv6,
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)},
		&layers.ICMPv6Echo{Identifier: uint16(t.from()), SeqNumber: uint16(t.to())}, mark)
}

// syn asks for a TCP connection; reset takes it back.
func (l letter) syn(from, to uint16, sequence uint32) ([]byte, error) {
	return l.tcp(&layers.TCP{
		SrcPort: layers.TCPPort(from), DstPort: layers.TCPPort(to), Seq: sequence, SYN: true, Window: 64240,
	})
}

func (l letter) reset(from, to uint16, sequence uint32) ([]byte, error) {
	return l.tcp(&layers.TCP{SrcPort: layers.TCPPort(from), DstPort: layers.TCPPort(to), Seq: sequence, RST: true})
}

func (l letter) tcp(segment *layers.TCP) ([]byte, error) {
	return l.encode(layers.IPProtocolTCP, segment)
}

// query asks a DNS server.
func (l letter) query(from uint16, question []byte) ([]byte, error) {
	return l.encode(layers.IPProtocolUDP,
		&layers.UDP{SrcPort: layers.UDPPort(from), DstPort: dnsPort}, gopacket.Payload(question))
}

// encode puts Ethernet and IP around what is above them.
func (l letter) encode(protocol layers.IPProtocol, above ...gopacket.SerializableLayer) ([]byte, error) {
	ether := &layers.Ethernet{SrcMAC: l.src[:], DstMAC: l.dst[:], EthernetType: layers.EthernetTypeIPv4}
	var ip interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	} = &layers.IPv4{
		Version: 4, TTL: 64, Protocol: protocol, Flags: layers.IPv4DontFragment, SrcIP: l.from.AsSlice(), DstIP: l.to.AsSlice(),
	}
	if l.to.Is6() {
		ether.EthernetType = layers.EthernetTypeIPv6
		// A solicitation with another hop limit is dropped (RFC 4861 7.1.1).
		ip = &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: protocol, SrcIP: l.from.AsSlice(), DstIP: l.to.AsSlice()}
	}
	for _, layer := range above {
		if sum, ok := layer.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := sum.SetNetworkLayerForChecksum(ip); err != nil {
				return nil, err
			}
		}
	}
	buffer := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		append([]gopacket.SerializableLayer{ether, ip}, above...)...)
	return buffer.Bytes(), err
}

// words is what a frame at a port says, as far as conversations go.
type words struct {
	kind wordKind
	// from and to are the ends in IP; of a wordNeighbor, from is the address
	// that has the MAC, and of a wordQuestion the one whose MAC is asked for.
	from, to netip.Addr
	mac      vnet.MAC
	// token is of an echo.
	token token
	// The ports and numbers of TCP and UDP, and what UDP carries.
	sport, dport uint16
	seq, ack     uint32
	payload      []byte
	// Of an ICMP error: what it says, whether that is a prohibition, and the
	// protocol and number (port, or identifier of an echo) that it is about.
	text       string
	prohibited bool
	protocol   layers.IPProtocol
	number     uint16
}

// wordKind is what a frame does. The zero wordKind says nothing to us.
type wordKind int

const (
	wordNeighbor  wordKind = iota + 1 // an ARP or ND answer
	wordEcho                          // an echo request
	wordEchoReply                     // its answer
	wordSYN                           // a request for a TCP connection
	wordOpen                          // its acceptance
	wordRefused                       // its refusal
	wordUDP
	wordError    // ICMP says that something did not arrive
	wordQuestion // an ARP or ND request
)

// understand reads a frame. What is not for us, broken or cut short says nothing.
func understand(b []byte) words {
	var ether layers.Ethernet
	if ether.DecodeFromBytes(b, gopacket.NilDecodeFeedback) != nil {
		return words{}
	}
	switch ether.EthernetType { //nolint:exhaustive // the others say nothing
	case layers.EthernetTypeARP:
		switch f, ok := decode(b); {
		case ok && f.kind == frameARPReply:
			return words{kind: wordNeighbor, from: f.sender, mac: f.senderMAC}
		case ok && f.kind == frameARPRequest:
			return words{kind: wordQuestion, from: f.target}
		}
	case layers.EthernetTypeIPv4:
		var ip layers.IPv4
		if ip.DecodeFromBytes(ether.Payload, gopacket.NilDecodeFeedback) == nil && ip.FragOffset == 0 {
			return understandIP(ip.Protocol, ip.SrcIP, ip.DstIP, ip.Payload)
		}
	case layers.EthernetTypeIPv6:
		var ip layers.IPv6
		if ip.DecodeFromBytes(ether.Payload, gopacket.NilDecodeFeedback) == nil {
			return understandIP(ip.NextHeader, ip.SrcIP, ip.DstIP, ip.Payload)
		}
	}
	return words{}
}

func understandIP(protocol layers.IPProtocol, src, dst, payload []byte) words {
	var w words
	switch protocol { //nolint:exhaustive // the others say nothing
	case layers.IPProtocolICMPv4:
		w = understandICMPv4(payload)
	case layers.IPProtocolICMPv6:
		w = understandICMPv6(payload)
	case layers.IPProtocolTCP:
		w = understandTCP(payload)
	case layers.IPProtocolUDP:
		var udp layers.UDP
		if udp.DecodeFromBytes(payload, gopacket.NilDecodeFeedback) == nil {
			w = words{kind: wordUDP, sport: uint16(udp.SrcPort), dport: uint16(udp.DstPort), payload: udp.Payload}
		}
	}
	to, _ := netip.AddrFromSlice(dst)
	w.to = to
	if w.kind != wordNeighbor && w.kind != wordQuestion {
		w.from, _ = netip.AddrFromSlice(src)
	}
	return w
}

func understandTCP(b []byte) words {
	var tcp layers.TCP
	if tcp.DecodeFromBytes(b, gopacket.NilDecodeFeedback) != nil {
		return words{}
	}
	w := words{sport: uint16(tcp.SrcPort), dport: uint16(tcp.DstPort), seq: tcp.Seq, ack: tcp.Ack}
	switch {
	case tcp.RST && tcp.ACK:
		w.kind = wordRefused
	case tcp.SYN && tcp.ACK:
		w.kind = wordOpen
	case tcp.SYN:
		w.kind = wordSYN
	}
	return w
}

func understandICMPv4(b []byte) words {
	var icmp layers.ICMPv4
	if icmp.DecodeFromBytes(b, gopacket.NilDecodeFeedback) != nil {
		return words{}
	}
	switch code := icmp.TypeCode; code.Type() {
	case layers.ICMPv4TypeEchoRequest:
		return words{kind: wordEcho, token: readToken(icmp.Payload)}
	case layers.ICMPv4TypeEchoReply:
		return words{kind: wordEchoReply, token: readToken(icmp.Payload)}
	case layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4TypeTimeExceeded:
		w := words{kind: wordError, text: "ICMP " + code.String()}
		if code.Type() == layers.ICMPv4TypeDestinationUnreachable {
			switch code.Code() {
			case layers.ICMPv4CodeNetAdminProhibited, layers.ICMPv4CodeHostAdminProhibited, layers.ICMPv4CodeCommAdminProhibited:
				w.prohibited = true
			}
		}
		if p := icmp.Payload; len(p) >= ipHeader && p[0]>>4 == 4 {
			w.about(layers.IPProtocol(p[9]), p[min(int(p[0]&0xf)*4, len(p)):])
		}
		return w
	}
	return words{}
}

func understandICMPv6(b []byte) words {
	var icmp layers.ICMPv6
	if icmp.DecodeFromBytes(b, gopacket.NilDecodeFeedback) != nil || len(icmp.Payload) < 4 {
		return words{}
	}
	body := icmp.Payload[4:]
	switch code := icmp.TypeCode; code.Type() {
	case layers.ICMPv6TypeEchoRequest:
		return words{kind: wordEcho, token: readToken(body)}
	case layers.ICMPv6TypeEchoReply:
		return words{kind: wordEchoReply, token: readToken(body)}
	case layers.ICMPv6TypeNeighborAdvertisement:
		return understandAdvertisement(icmp.Payload)
	case layers.ICMPv6TypeNeighborSolicitation:
		if len(body) >= net.IPv6len {
			return words{kind: wordQuestion, from: netip.AddrFrom16([net.IPv6len]byte(body))}
		}
	case layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6TypeTimeExceeded:
		w := words{kind: wordError, text: code.String()}
		w.prohibited = code.Type() == layers.ICMPv6TypeDestinationUnreachable && code.Code() == layers.ICMPv6CodeAdminProhibited
		const header = 40
		if len(body) >= header {
			w.about(layers.IPProtocol(body[6]), body[header:])
		}
		return w
	}
	return words{}
}

func understandAdvertisement(b []byte) words {
	var na layers.ICMPv6NeighborAdvertisement
	if na.DecodeFromBytes(b, gopacket.NilDecodeFeedback) != nil {
		return words{}
	}
	addr, _ := netip.AddrFromSlice(na.TargetAddress)
	for _, option := range na.Options {
		if option.Type == layers.ICMPv6OptTargetAddress && len(option.Data) >= 6 {
			return words{kind: wordNeighbor, from: addr, mac: vnet.MAC(option.Data[:6])}
		}
	}
	return words{}
}

// about notes what an ICMP error quotes: the protocol, and the source port or
// the identifier of the echo.
func (w *words) about(protocol layers.IPProtocol, quoted []byte) {
	offset := 0
	if protocol == layers.IPProtocolICMPv4 || protocol == layers.IPProtocolICMPv6 {
		offset = 4
	}
	if len(quoted) >= offset+2 {
		w.protocol, w.number = protocol, binary.BigEndian.Uint16(quoted[offset:])
	}
}
