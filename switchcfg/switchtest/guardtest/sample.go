// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guardtest

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/vnet"
)

func ethernetSamples() []Sample {
	own, q, ad := ipv4(guest4, unix.IPPROTO_TCP, tcp()), unix.ETH_P_8021Q, unix.ETH_P_8021AD
	return []Sample{
		{"some protocol", Ether(GuestMAC, 0x88b6, []byte{1, 2, 3}), true},
		{"some protocol, other MAC", Ether(otherMAC, 0x88b6, []byte{1, 2, 3}), false},
		{"other MAC", fromMAC(otherMAC, own), false},
		{"VRRP", fromMAC(vrrpMAC, ipv4(vrrp4, 112, make([]byte, 8))), true},
		{"two tags", tagged(tagged(own, q, 20), q, 30), false},
		{"service tag and tag", tagged(tagged(own, q, 20), ad, 30), false},
		{"tag and service tag", tagged(tagged(own, ad, 20), q, 30), false},
		{"empty tag and tag", tagged(tagged(own, q, 20), q, 0), false},
		{"tag and empty tag", tagged(tagged(own, q, 0), q, 20), false},
		{"three tags", tagged(tagged(tagged(own, q, 1), q, 2), q, 3), false},
		{"LLC", llc(GuestMAC, 0x42, 0x42, 3, 0, 0, 0), true},
		{"spanning tree", to(vnet.MAC{0x01, 0x80, 0xc2}, llc(GuestMAC, 0x42, 0x42, 3, 0, 0, 0)), false},
		{"spanning tree for each VLAN", to(vnet.MAC{0x01, 0, 0x0c, 0xcc, 0xcc, 0xcd}, llc(GuestMAC, 0xaa, 0xaa, 3, 0, 0, 0x0c, 1, 0x0b)), false},
		{"SNAP of a vendor", llc(GuestMAC, 0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0), true},
		{"SNAP", snap(own, 0), false},
		{"SNAP for bridge tunnels", snap(own, 0xf8), false},
	}
}

func arpSamples() []Sample {
	const request, reply = 1, 2
	own := arp(request, GuestMAC, guest4)
	return []Sample{
		{"ARP request", own, true},
		{"ARP reply", arp(reply, GuestMAC, guest4), true},
		{"ARP, trailer", bytes(own, make([]byte, 18)), true},
		{"ARP for VRRP", fromMAC(vrrpMAC, arp(request, vrrpMAC, vrrp4)), true},
		{"ARP probe", arp(request, GuestMAC, none4), true},
		{"ARP reply from nobody", arp(reply, GuestMAC, none4), false},
		{"ARP, other IP", arp(request, GuestMAC, other4), false},
		{"ARP reply, other IP", arp(reply, GuestMAC, other4), false},
		{"ARP, other MAC", arp(request, otherMAC, guest4), false},
		{"ARP reply, other MAC", arp(reply, otherMAC, guest4), false},
		{"ARP, hardware type", with(own, 1, 6), false},
		{"ARP, protocol type", with(own, 3, 1), false},
		{"ARP, hardware length", with(own, 4, 8), false},
		{"ARP, protocol length", with(own, 5, 16), false},
		{"ARP, header only", own[:14+8], false},
		{"ARP, half a sender", own[:14+12], false},
	}
}

func ipv4Samples() []Sample {
	const dhcpClient, dhcpServer = 68, 67
	return []Sample{
		{"IPv4", ipv4(guest4, unix.IPPROTO_TCP, tcp()), true},
		{"IPv4, other", ipv4(other4, unix.IPPROTO_TCP, tcp()), false},
		{"IPv4, other, UDP", ipv4(other4, unix.IPPROTO_UDP, udp(1000, 53)), false},
		{"IPv4, nobody", ipv4(none4, unix.IPPROTO_TCP, tcp()), false},
		{"DHCP client", ipv4(none4, unix.IPPROTO_UDP, udp(dhcpClient, dhcpServer)), true},
		{"DHCP client renews", ipv4(guest4, unix.IPPROTO_UDP, udp(dhcpClient, dhcpServer)), true},
		{"from nobody to a DHCP server", ipv4(none4, unix.IPPROTO_UDP, udp(1068, dhcpServer)), false},
		{"from nobody's DHCP client", ipv4(none4, unix.IPPROTO_UDP, udp(dhcpClient, 53)), false},
		{"DHCP server", ipv4(guest4, unix.IPPROTO_UDP, udp(dhcpServer, dhcpClient)), false},
		{"DHCP server, other port", ipv4(guest4, unix.IPPROTO_UDP, udp(1067, dhcpClient)), false},
		{"DHCP relay", ipv4(guest4, unix.IPPROTO_UDP, udp(dhcpServer, dhcpServer)), false},
		{"TCP port 67", ipv4(guest4, unix.IPPROTO_TCP, bytes(be16(67), be16(68), make([]byte, 16))), true},
	}
}

func ipv6Samples() []Sample {
	const routerSolicit, echo, query, report, done, report2 = 133, 128, 130, 131, 132, 143
	message := func(source netip.Addr, kind byte) []byte {
		return ipv6(source, unix.IPPROTO_ICMPV6, icmpv6(kind, make([]byte, 16)))
	}
	return []Sample{
		{"IPv6", ipv6(guest6, unix.IPPROTO_TCP, tcp()), true},
		{"IPv6, link-local", ipv6(guestLL6, unix.IPPROTO_TCP, tcp()), true},
		{"IPv6, other", ipv6(other6, unix.IPPROTO_TCP, tcp()), false},
		{"IPv6, nobody", ipv6(none6, unix.IPPROTO_TCP, tcp()), false},
		{"IPv6, no next header", ipv6(guest6, unix.IPPROTO_NONE, nil), true},
		{"IPv6, ESP", ipv6(guest6, unix.IPPROTO_ESP, make([]byte, 16)), true},
		{"ping", message(guest6, echo), true},
		{"ping, other", message(other6, echo), false},
		{"ping from nobody", message(none6, echo), false},
		{"router solicitation", message(guestLL6, routerSolicit), true},
		{"router solicitation from nobody", message(none6, routerSolicit), true},
		{"router solicitation, other", message(other6, routerSolicit), false},
		{"MLD report", ipv6(guestLL6, 0, bytes(options(58), icmpv6(report2))), true},
		{"MLD report from nobody", ipv6(none6, 0, bytes(options(58), icmpv6(report2))), true},
		{"MLD report of version 1 from nobody", ipv6(none6, 0, bytes(options(58), icmpv6(report))), true},
		{"MLD done from nobody", ipv6(none6, 0, bytes(options(58), icmpv6(done))), true},
		{"MLD query from nobody", ipv6(none6, 0, bytes(options(58), icmpv6(query))), false},
		{"DHCPv6 client", ipv6(guestLL6, unix.IPPROTO_UDP, udp(546, 547)), true},
		{"DHCPv6 server", ipv6(guestLL6, unix.IPPROTO_UDP, udp(547, 546)), false},
		{"DHCPv6 server, other port", ipv6(guestLL6, unix.IPPROTO_UDP, udp(1547, 546)), false},
		{"DHCPv6 relay", ipv6(guestLL6, unix.IPPROTO_UDP, udp(547, 547)), false},
		{"DHCPv6 server behind options", ipv6(guestLL6, 60, bytes(options(17), udp(547, 546))), false},
		{"router advertisement", message(guestLL6, 134), false},
		{"router advertisement behind options", ipv6(guestLL6, 60, bytes(options(58), icmpv6(134))), false},
		{"router advertisement behind two", ipv6(guestLL6, 0, bytes(options(60), options(58), icmpv6(134))), false},
		{"redirect", message(guestLL6, 137), false},
		{"redirect behind options", ipv6(guestLL6, 60, bytes(options(58), icmpv6(137))), false},
	}
}

func neighborSamples() []Sample {
	const source, target, nonce = 1, 2, 14
	return []Sample{
		{"solicitation", solicit(guest6, other6, linkLayer(source, GuestMAC)), true},
		{"solicitation for VRRP", solicit(guest6, other6, linkLayer(source, vrrpMAC)), true},
		{"solicitation, bare", solicit(guest6, other6), true},
		{"solicitation, other MAC", solicit(guest6, other6, linkLayer(source, otherMAC)), false},
		{"solicitation, other IP", solicit(other6, guest6, linkLayer(source, GuestMAC)), false},
		{"solicitation, other MAC second", solicit(guest6, other6, linkLayer(nonce, GuestMAC), linkLayer(source, otherMAC)), false},
		{"solicitation, long option", solicit(guest6, other6, bytes([]byte{source, 2}, GuestMAC[:], make([]byte, 8))), false},
		{"DAD", solicit(none6, guest6), true},
		{"DAD with nonce", solicit(none6, guest6, linkLayer(nonce, otherMAC)), true},
		{"DAD, other", solicit(none6, other6), false},
		{"DAD, other, with nonce", solicit(none6, other6, linkLayer(nonce, otherMAC)), false},
		{"advertisement", advertise(guest6, guest6, linkLayer(target, GuestMAC)), true},
		{"advertisement from link-local", advertise(guestLL6, guest6, linkLayer(target, GuestMAC)), true},
		{"advertisement, bare", advertise(guest6, guest6), true},
		{"advertisement, other target", advertise(guest6, other6, linkLayer(target, GuestMAC)), false},
		{"advertisement, other target, bare", advertise(guest6, other6), false},
		{"advertisement, other IP", advertise(other6, guest6, linkLayer(target, GuestMAC)), false},
		{"advertisement, other MAC", advertise(guest6, guest6, linkLayer(target, otherMAC)), false},
		{"advertisement, two options", advertise(guest6, guest6, linkLayer(target, GuestMAC), linkLayer(target, otherMAC)), false},
		{"advertisement, source option", advertise(guest6, guest6, linkLayer(source, GuestMAC)), false},
		{"advertisement, half a target", ipv6(guest6, 58, icmpv6(136, guest6.AsSlice()[:4])), false},
		{"advertisement behind options", ipv6(guest6, 60, bytes(options(58), icmpv6(136, guest6.AsSlice()))), false},
		{"advertisement behind a fragment header", ipv6(guest6, 44, bytes(fragment(58, 0), icmpv6(136, guest6.AsSlice()))), false},
	}
}

func fragmentSamples() []Sample {
	const moreOf4, dstOptions = 0x2000, 60
	rest := make([]byte, 16)
	v6 := func(source netip.Addr, next byte, offsetAndMore int, payload []byte) []byte {
		return ipv6(source, 44, bytes(fragment(next, offsetAndMore), payload))
	}
	return []Sample{
		{"IPv4, first", ipv4Fragment(guest4, unix.IPPROTO_UDP, moreOf4, udp(1000, 53)), true},
		{"IPv4, later", ipv4Fragment(guest4, unix.IPPROTO_UDP, 100, rest), true},
		{"IPv4, later, other", ipv4Fragment(other4, unix.IPPROTO_UDP, 100, rest), false},
		{"IPv4, later, like a DHCP client", ipv4Fragment(none4, unix.IPPROTO_UDP, 100, udp(68, 67)), false},
		{"DHCP server, first", ipv4Fragment(guest4, unix.IPPROTO_UDP, moreOf4, udp(67, 68)), false},
		{"IPv4, later, like a DHCP server", ipv4Fragment(guest4, unix.IPPROTO_UDP, 100, udp(67, 68)), true},
		{"IPv6, first", v6(guest6, unix.IPPROTO_TCP, more, tcp()), true},
		{"IPv6, later", v6(guest6, unix.IPPROTO_TCP, 100<<3, rest), true},
		{"IPv6, later, other", v6(other6, unix.IPPROTO_TCP, 100<<3, rest), false},
		{"ping, first", v6(guest6, 58, more, icmpv6(128, rest)), true},
		{"ping, later", v6(guest6, 58, 100<<3|more, rest), true},
		{"UDP, later", v6(guest6, unix.IPPROTO_UDP, 100<<3, rest), true},
		{"ping, later, like a router advertisement", v6(guest6, 58, 100<<3, icmpv6(134)), true},
		{"ping, later, like an advertisement", v6(guest6, 58, 100<<3, icmpv6(136, rest)), true},
		{"UDP, later, like a DHCPv6 server", v6(guest6, unix.IPPROTO_UDP, 100<<3, udp(547, 546)), true},
		{"later, behind options", v6(guest6, dstOptions, 100<<3, rest), true},
		{"DHCPv6 server, first", v6(guest6, unix.IPPROTO_UDP, more, udp(547, 546)), false},
		{"router advertisement, first", v6(guestLL6, 58, more, icmpv6(134, rest)), false},
		{"router advertisement, only", v6(guestLL6, 58, 0, icmpv6(134, rest)), false},
		{"ICMPv6 not in the first", v6(guestLL6, dstOptions, more, options(58)), false},
		{"UDP not in the first", v6(guestLL6, dstOptions, more, options(17)), false},
		{"header chain not in the first", v6(guestLL6, dstOptions, more, []byte{58, 3, 1, 4, 0, 0, 0, 0}), false},
	}
}
