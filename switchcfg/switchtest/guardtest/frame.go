// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guardtest

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// GuestMAC is the MAC address of the guest.
var GuestMAC = vnet.MAC{0x52, 0x54, 0, 0, 0, 1}

// Whoever else is who: what the guest may use for VRRP, and another.
var (
	vrrpMAC   = vnet.MAC{0, 0, 0x5e, 0, 1, 0x0a}
	otherMAC  = vnet.MAC{0x52, 0x54, 0, 0, 0, 0x66}
	guest4    = netip.MustParseAddr("10.9.0.1")
	vrrp4     = netip.MustParseAddr("10.9.0.10")
	other4    = netip.MustParseAddr("10.9.0.66")
	none4     = netip.IPv4Unspecified()
	guest6    = netip.MustParseAddr("2001:db8::1")
	guestLL6  = netip.MustParseAddr("fe80::5054:ff:fe00:1")
	other6    = netip.MustParseAddr("2001:db8::66")
	none6     = netip.IPv6Unspecified()
	broadcast = vnet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

func bytes(parts ...[]byte) []byte { return slices.Concat(parts...) }

func be16(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }

// Ether is a frame to all, so that the bridge floods it wherever it has seen the
// addresses.
func Ether(source vnet.MAC, kind int, payload []byte) []byte {
	return bytes(broadcast[:], source[:], be16(kind), payload)
}

// tagged puts a VLAN tag into a frame, before those it has.
func tagged(frame []byte, protocol, tag int) []byte {
	return bytes(frame[:12], be16(protocol), be16(tag), frame[12:])
}

// llc is a frame that says its length where others say their type.
func llc(source vnet.MAC, payload ...byte) []byte { return Ether(source, len(payload), payload) }

// to sends a frame to somebody else.
func to(destination vnet.MAC, frame []byte) []byte {
	return bytes(destination[:], frame[6:])
}

// snap puts an Ethernet II frame's type behind an LLC/SNAP header.
func snap(frame []byte, last byte) []byte {
	return llc(vnet.MAC(frame[6:12]), bytes([]byte{0xaa, 0xaa, 3, 0, 0, last}, frame[12:])...)
}

func ipv4(source netip.Addr, protocol byte, payload []byte) []byte {
	return ipv4Fragment(source, protocol, 0, payload)
}

// ipv4Fragment is a packet with the given flags and offset.
func ipv4Fragment(source netip.Addr, protocol byte, fragment int, payload []byte) []byte {
	header := bytes([]byte{0x45, 0}, be16(20+len(payload)), be16(7), be16(fragment), []byte{64, protocol, 0, 0},
		source.AsSlice(), []byte{255, 255, 255, 255})
	sum := 0
	for i := 0; i < len(header); i += 2 {
		sum += int(binary.BigEndian.Uint16(header[i:]))
	}
	sum = sum>>16 + sum&0xffff
	copy(header[10:], be16(^(sum + sum>>16)))
	return Ether(GuestMAC, unix.ETH_P_IP, append(header, payload...))
}

func ipv6(source netip.Addr, next byte, payload []byte) []byte {
	all := netip.MustParseAddr("ff02::1")
	header := bytes([]byte{0x60, 0, 0, 0}, be16(len(payload)), []byte{next, 255}, source.AsSlice(), all.AsSlice())
	return Ether(GuestMAC, unix.ETH_P_IPV6, append(header, payload...))
}

// options is an extension header of 8 bytes, for hop-by-hop and destination.
func options(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }

// fragment is a fragment header.
func fragment(next byte, offsetAndMore int) []byte {
	return bytes([]byte{next, 0}, be16(offsetAndMore), []byte{0, 0, 0, 7})
}

const more = 1 // fragments follow

func udp(from, to int) []byte {
	return bytes(be16(from), be16(to), be16(16), []byte{0, 0}, make([]byte, 8))
}

func tcp() []byte { return bytes(be16(1024), be16(80), make([]byte, 16)) }

func icmpv6(kind byte, body ...[]byte) []byte {
	return bytes([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, bytes(body...))
}

// linkLayer is a neighbor discovery option, as is a nonce.
func linkLayer(kind byte, mac vnet.MAC) []byte { return bytes([]byte{kind, 1}, mac[:]) }

func solicit(source, target netip.Addr, options ...[]byte) []byte {
	return ipv6(source, unix.IPPROTO_ICMPV6, icmpv6(135, target.AsSlice(), bytes(options...)))
}

func advertise(source, target netip.Addr, options ...[]byte) []byte {
	return ipv6(source, unix.IPPROTO_ICMPV6, icmpv6(136, target.AsSlice(), bytes(options...)))
}

// arp is an ARP packet for 10.9.0.2.
func arp(operation int, senderMAC vnet.MAC, sender netip.Addr) []byte {
	return Ether(GuestMAC, unix.ETH_P_ARP, bytes([]byte{0, 1, 8, 0, 6, 4}, be16(operation),
		senderMAC[:], sender.AsSlice(), make([]byte, 6), []byte{10, 9, 0, 2}))
}

// with changes a byte behind the Ethernet header.
func with(frame []byte, at int, value byte) []byte {
	frame = slices.Clone(frame)
	frame[14+at] = value
	return frame
}

// fromMAC changes the source of a frame.
func fromMAC(mac vnet.MAC, frame []byte) []byte { return bytes(frame[:6], mac[:], frame[12:]) }
