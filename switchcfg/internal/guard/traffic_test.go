// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard_test

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/guard"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// sample is a frame and whether a guard lets it through.
type sample struct {
	name   string
	frame  []byte
	passes bool
}

// The guards of the tests.
func macGuard() switchcfg.Guard { return switchcfg.Guard{MACs: []vnet.MAC{vrrpMAC, guestMAC}} }

func fullGuard() switchcfg.Guard {
	g := macGuard()
	g.Addresses = []netip.Addr{guest4, vrrp4, guest6, guestLL6}
	g.DHCP, g.RA = true, true
	return g
}

// TestTraffic sends each frame without a tag and with one of either kind, first
// past no guard, so that the probe is known to see what must not be, and then
// past the guard.
func TestTraffic(t *testing.T) {
	w := newWire(t)
	c := open(t)
	v4 := macGuard()
	v4.Addresses = []netip.Addr{guest4}
	v6 := macGuard()
	v6.Addresses = []netip.Addr{guest6}
	for _, tt := range []struct {
		name    string
		port    guard.Port
		samples []sample
	}{
		{"full", guard.Port{Guard: fullGuard()}, slices.Concat(
			ethernetSamples(), arpSamples(), ipv4Samples(), ipv6Samples(), neighborSamples(), fragmentSamples())},
		{"MAC", guard.Port{Guard: macGuard()}, macSamples()},
		{"IPv4", guard.Port{Guard: v4}, family4Samples()},
		{"IPv6", guard.Port{Guard: v6}, family6Samples()},
		{"addresses", guard.Port{Guard: switchcfg.Guard{Addresses: v6.Addresses}}, addressSamples()},
		{"DHCP", guard.Port{Guard: switchcfg.Guard{DHCP: true}}, dhcpSamples()},
		{"RA", guard.Port{Guard: switchcfg.Guard{RA: true}}, raSamples()},
		{"priority", guard.Port{Priority: 5}, prioritySamples()},
	} {
		tt.port.Index = w.index
		t.Run(tt.name, func(t *testing.T) {
			for _, s := range tt.samples {
				set(t, c, guard.Port{Index: w.index})
				for _, v := range variants(s) {
					if !w.passes(t, v.frame) {
						t.Errorf("%s: does not pass without a guard", v.name)
					}
				}
				set(t, c, tt.port)
				for _, v := range variants(s) {
					if got := w.passes(t, v.frame); got != v.passes {
						t.Errorf("%s: passes: %t, want %t", v.name, got, v.passes)
					}
				}
			}
		})
	}
}

// variants is a frame without and with tags. Those that have one already stay.
func variants(s sample) []sample {
	list := []sample{s}
	if kind := int(s.frame[12])<<8 | int(s.frame[13]); kind == unix.ETH_P_8021Q || kind == unix.ETH_P_8021AD {
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
		list = append(list, sample{s.name + v.name, tagged(s.frame, v.protocol, v.tag), s.passes})
	}
	return list
}

func macSamples() []sample {
	return []sample{
		{"IPv4, any", ipv4(other4, unix.IPPROTO_TCP, tcp()), true},
		{"IPv6, any", ipv6(other6, unix.IPPROTO_TCP, tcp()), true},
		{"other MAC", fromMAC(otherMAC, ipv4(other4, unix.IPPROTO_TCP, tcp())), false},
		{"ARP, any IP", arp(2, guestMAC, other4), true},
		{"ARP, other MAC", arp(2, otherMAC, other4), false},
		{"ARP, hardware length", with(arp(2, guestMAC, other4), 4, 8), false},
		{"DHCP server", ipv4(other4, unix.IPPROTO_UDP, udp(67, 68)), true},
		{"DHCPv6 server", ipv6(other6, unix.IPPROTO_UDP, udp(547, 546)), true},
		{"router advertisement", ipv6(guestLL6, 58, icmpv6(134)), true},
		{"redirect", ipv6(guestLL6, 58, icmpv6(137)), true},
		{"DAD, any", solicit(none6, other6), true},
		{"advertisement, any target", advertise(other6, other6, linkLayer(2, guestMAC)), true},
		{"advertisement, other MAC", advertise(other6, other6, linkLayer(2, otherMAC)), false},
		{"two tags", tagged(tagged(arp(1, guestMAC, guest4), unix.ETH_P_8021Q, 1), unix.ETH_P_8021Q, 2), false},
		{"header chain not in the first", ipv6(guest6, 44, bytes(fragment(60, more), options(58))), false},
	}
}

func family4Samples() []sample {
	return []sample{
		{"IPv4, other", ipv4(other4, unix.IPPROTO_TCP, tcp()), false},
		{"ARP, other IP", arp(1, guestMAC, other4), false},
		{"IPv6, any", ipv6(other6, unix.IPPROTO_TCP, tcp()), true},
		{"advertisement, any target", advertise(other6, other6, linkLayer(2, guestMAC)), true},
	}
}

func family6Samples() []sample {
	return []sample{
		{"IPv6, other", ipv6(other6, unix.IPPROTO_TCP, tcp()), false},
		{"advertisement, other target", advertise(guest6, other6, linkLayer(2, guestMAC)), false},
		{"IPv4, any", ipv4(other4, unix.IPPROTO_TCP, tcp()), true},
		{"ARP, any IP", arp(1, guestMAC, other4), true},
		{"ARP, other MAC", arp(1, otherMAC, other4), false},
	}
}

// addressSamples go past a guard with an IPv6 address and no MACs.
func addressSamples() []sample {
	return []sample{
		{"other MAC", fromMAC(otherMAC, ipv6(guest6, unix.IPPROTO_TCP, tcp())), true},
		{"IPv6, other", ipv6(other6, unix.IPPROTO_TCP, tcp()), false},
		{"advertisement, any MAC", advertise(guest6, guest6, linkLayer(2, otherMAC)), true},
		{"advertisement, other target", advertise(guest6, other6), false},
		{"DAD, other", solicit(none6, other6), false},
		{"ARP, any", arp(1, otherMAC, other4), true},
		{"two tags", tagged(tagged(arp(1, guestMAC, guest4), unix.ETH_P_8021Q, 1), unix.ETH_P_8021Q, 2), false},
	}
}

func dhcpSamples() []sample {
	server := ipv4(other4, unix.IPPROTO_UDP, udp(67, 68))
	return []sample{
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

func raSamples() []sample {
	ra := ipv6(guestLL6, 58, icmpv6(134))
	return []sample{
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

func prioritySamples() []sample {
	var all []sample
	for _, s := range slices.Concat(ethernetSamples(), arpSamples(), ipv6Samples()) {
		s.passes = true
		all = append(all, s)
	}
	return all
}
