// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet

import (
	"net/netip"

	"libvirt.org/go/libvirtxml"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// address is the host's own address in a network that libvirt serves, with a
// DHCP server for the rest of the subnet.
func address(n vnet.Network) libvirtxml.NetworkIP {
	gateway := n.Gateway
	first, last := hosts(n.Subnet)
	if !gateway.IsValid() {
		gateway = first
	}
	ip := libvirtxml.NetworkIP{Address: gateway.String(), Prefix: uint(n.Subnet.Bits())}
	if gateway.Is6() {
		ip.Family = "ipv6"
	}
	ranges := without(first, last, gateway)
	if len(ranges) == 0 || !dhcp(n.Subnet) {
		return ip
	}
	ip.DHCP = &libvirtxml.NetworkDHCP{}
	for _, r := range ranges {
		ip.DHCP.Ranges = append(ip.DHCP.Ranges, libvirtxml.NetworkDHCPRange{Start: r[0].String(), End: r[1].String()})
	}
	return ip
}

// dhcp reports whether dnsmasq can serve a subnet: DHCPv6 needs a prefix of 64
// bits or more (dnsmasq(8), --dhcp-range), and a point-to-point link has
// nobody to serve.
func dhcp(subnet netip.Prefix) bool {
	return subnet.Addr().Is4() && subnet.Bits() < 31 || subnet.Addr().Is6() && subnet.Bits() >= 64
}

// hosts returns the first and the last address a DHCP range of the subnet may
// have. Libvirt wants a range's ends to differ in the last 16 bits only
// (virSocketAddrGetRange), so of a larger subnet it is the beginning.
func hosts(subnet netip.Prefix) (first, last netip.Addr) {
	first = subnet.Masked().Addr()
	last = lastWithin(first, max(subnet.Bits(), first.BitLen()-16))
	if first.Is4() && subnet.Bits() >= 31 || subnet.Bits() == first.BitLen() {
		return first, last // RFC 3021: no network and broadcast address
	}
	first = first.Next()
	if first.Is4() && subnet.Bits() >= 16 {
		last = last.Prev() // the broadcast address
	}
	return first, last
}

// lastWithin returns addr with every bit behind the prefix of that length set.
func lastWithin(addr netip.Addr, bits int) netip.Addr {
	raw := addr.AsSlice()
	for bit := bits; bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(raw)
	return last
}

// without returns the ranges that remain of first to last without one address.
func without(first, last, taken netip.Addr) [][2]netip.Addr {
	if taken.Less(first) || last.Less(taken) {
		return [][2]netip.Addr{{first, last}}
	}
	var ranges [][2]netip.Addr
	if first.Less(taken) {
		ranges = append(ranges, [2]netip.Addr{first, taken.Prev()})
	}
	if taken.Less(last) {
		ranges = append(ranges, [2]netip.Addr{taken.Next(), last})
	}
	return ranges
}
