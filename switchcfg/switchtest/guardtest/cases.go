// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guardtest

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Sample is a frame and whether a guard lets it through.
type Sample struct {
	Name   string
	Frame  []byte
	Passes bool
}

// Case is a guard and frames of the guest to try it with.
type Case struct {
	Name    string
	Guard   switchcfg.Guard
	Samples []Sample
}

// Cases returns every kind of guard.
func Cases() []Case {
	v4 := macGuard()
	v4.Addresses = []netip.Addr{guest4}
	v6 := macGuard()
	v6.Addresses = []netip.Addr{guest6}
	return []Case{
		{"full", FullGuard(), slices.Concat(
			ethernetSamples(), arpSamples(), ipv4Samples(), ipv6Samples(), neighborSamples(), fragmentSamples())},
		{"MAC", macGuard(), macSamples()},
		{"IPv4", v4, family4Samples()},
		{"IPv6", v6, family6Samples()},
		{"addresses", switchcfg.Guard{Addresses: v6.Addresses}, addressSamples()},
		{"DHCP", switchcfg.Guard{DHCP: true}, dhcpSamples()},
		{"RA", switchcfg.Guard{RA: true}, raSamples()},
	}
}

func macGuard() switchcfg.Guard { return switchcfg.Guard{MACs: []vnet.MAC{vrrpMAC, GuestMAC}} }

// FullGuard keeps the guest from all that a guard can keep it from.
func FullGuard() switchcfg.Guard {
	g := macGuard()
	g.Addresses = []netip.Addr{guest4, vrrp4, guest6, guestLL6}
	g.DHCP, g.RA = true, true
	return g
}

// Variants is a frame without and with tags. Those that have one already stay.
func Variants(s Sample) []Sample {
	list := []Sample{s}
	if kind := int(s.Frame[12])<<8 | int(s.Frame[13]); kind == unix.ETH_P_8021Q || kind == unix.ETH_P_8021AD {
		return list
	}
	for _, v := range []struct {
		name          string
		protocol, tag int
	}{
		{" in VLAN 20", unix.ETH_P_8021Q, 20},
		{" in VLAN 0, priority 7", unix.ETH_P_8021Q, 7 << 13},
		{" in service VLAN 30", unix.ETH_P_8021AD, 30},
	} {
		list = append(list, Sample{s.Name + v.name, tagged(s.Frame, v.protocol, v.tag), s.Passes})
	}
	return list
}

func macSamples() []Sample {
	return []Sample{
		{"IPv4, any", ipv4(other4, unix.IPPROTO_TCP, tcp()), true},
		{"IPv6, any", ipv6(other6, unix.IPPROTO_TCP, tcp()), true},
		{"other MAC", fromMAC(otherMAC, ipv4(other4, unix.IPPROTO_TCP, tcp())), false},
		{"ARP, any IP", arp(2, GuestMAC, other4), true},
		{"ARP, other MAC", arp(2, otherMAC, other4), false},
		{"ARP, hardware length", with(arp(2, GuestMAC, other4), 4, 8), false},
		{"DHCP server", ipv4(other4, unix.IPPROTO_UDP, udp(67, 68)), true},
		{"DHCPv6 server", ipv6(other6, unix.IPPROTO_UDP, udp(547, 546)), true},
		{"router advertisement", ipv6(guestLL6, 58, icmpv6(134)), true},
		{"redirect", ipv6(guestLL6, 58, icmpv6(137)), true},
		{"DAD, any", solicit(none6, other6), true},
		{"advertisement, any target", advertise(other6, other6, linkLayer(2, GuestMAC)), true},
		{"advertisement, other MAC", advertise(other6, other6, linkLayer(2, otherMAC)), false},
		{"two tags", tagged(tagged(arp(1, GuestMAC, guest4), unix.ETH_P_8021Q, 1), unix.ETH_P_8021Q, 2), false},
		{"header chain not in the first", ipv6(guest6, 44, bytes(fragment(60, more), options(58))), false},
	}
}

func family4Samples() []Sample {
	return []Sample{
		{"IPv4, other", ipv4(other4, unix.IPPROTO_TCP, tcp()), false},
		{"ARP, other IP", arp(1, GuestMAC, other4), false},
		{"IPv6, any", ipv6(other6, unix.IPPROTO_TCP, tcp()), true},
		{"advertisement, any target", advertise(other6, other6, linkLayer(2, GuestMAC)), true},
	}
}

func family6Samples() []Sample {
	return []Sample{
		{"IPv6, other", ipv6(other6, unix.IPPROTO_TCP, tcp()), false},
		{"advertisement, other target", advertise(guest6, other6, linkLayer(2, GuestMAC)), false},
		{"IPv4, any", ipv4(other4, unix.IPPROTO_TCP, tcp()), true},
		{"ARP, any IP", arp(1, GuestMAC, other4), true},
		{"ARP, other MAC", arp(1, otherMAC, other4), false},
	}
}

// addressSamples go past a guard with an IPv6 address and no MACs.
func addressSamples() []Sample {
	return []Sample{
		{"other MAC", fromMAC(otherMAC, ipv6(guest6, unix.IPPROTO_TCP, tcp())), true},
		{"IPv6, other", ipv6(other6, unix.IPPROTO_TCP, tcp()), false},
		{"advertisement, any MAC", advertise(guest6, guest6, linkLayer(2, otherMAC)), true},
		{"advertisement, other target", advertise(guest6, other6), false},
		{"DAD, other", solicit(none6, other6), false},
		{"ARP, any", arp(1, otherMAC, other4), true},
		{"two tags", tagged(tagged(arp(1, GuestMAC, guest4), unix.ETH_P_8021Q, 1), unix.ETH_P_8021Q, 2), false},
	}
}

func dhcpSamples() []Sample {
	server := ipv4(other4, unix.IPPROTO_UDP, udp(67, 68))
	return []Sample{
		{"DHCP server", server, false},
		{"DHCP server, any MAC", fromMAC(otherMAC, server), false},
		{"DHCP server behind two tags", tagged(tagged(server, unix.ETH_P_8021Q, 0), unix.ETH_P_8021Q, 0), false},
		{"DHCP server behind SNAP", snap(server, 0), false},
		{"DHCPv6 server", ipv6(other6, unix.IPPROTO_UDP, udp(547, 546)), false},
		{"DHCP client", ipv4(none4, unix.IPPROTO_UDP, udp(68, 67)), true},
		{"any MAC", fromMAC(otherMAC, ipv4(other4, unix.IPPROTO_TCP, tcp())), true},
		{"ARP, hardware length", with(arp(2, otherMAC, other4), 4, 8), true},
		{"router advertisement", ipv6(guestLL6, 58, icmpv6(134)), true},
		{"advertisement behind options", ipv6(other6, 60, bytes(options(58), icmpv6(136, guest6.AsSlice()))), true},
	}
}

func raSamples() []Sample {
	ra := ipv6(guestLL6, 58, icmpv6(134))
	return []Sample{
		{"router advertisement", ra, false},
		{"router advertisement, any MAC", fromMAC(otherMAC, ra), false},
		{"router advertisement behind two tags", tagged(tagged(ra, unix.ETH_P_8021Q, 0), unix.ETH_P_8021Q, 0), false},
		{"router advertisement behind SNAP", snap(ra, 0), false},
		{"redirect", ipv6(guestLL6, 58, icmpv6(137)), false},
		{"ICMPv6 not in the first", ipv6(guestLL6, 44, bytes(fragment(60, more), options(58))), false},
		{"any MAC", fromMAC(otherMAC, ipv6(other6, unix.IPPROTO_TCP, tcp())), true},
		{"DHCP server", ipv4(other4, unix.IPPROTO_UDP, udp(67, 68)), true},
		{"router solicitation", ipv6(guestLL6, 58, icmpv6(133)), true},
		{"advertisement", advertise(other6, other6, linkLayer(2, otherMAC)), true},
	}
}

// Unguarded returns frames that pass where there is no guard.
func Unguarded() []Sample {
	var all []Sample
	for _, s := range slices.Concat(ethernetSamples(), arpSamples(), ipv6Samples()) {
		s.Passes = true
		all = append(all, s)
	}
	return all
}
