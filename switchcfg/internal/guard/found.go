// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard

import (
	"net/netip"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// found is the elements of one port that the table really has.
type found map[key]element

// has reports whether there is an element about the port itself.
func (f found) has(s set, index int) bool {
	_, ok := f[key{set: s, port: index}]
	return ok
}

func (f found) list() []element {
	list := make([]element, 0, len(f))
	for _, e := range f {
		list = append(list, e)
	}
	return list
}

// whole reports whether nobody took away or added an element, as far as the
// summary tells.
func (f found) whole(index int) bool {
	if len(f) == 0 {
		return true
	}
	e, ok := f[key{set: ports, port: index}]
	return ok && e.comment == summary(f.list())
}

// port says what the elements make the kernel do. A port that is bound to a
// family of which it may use nothing has the zero address of that family, which
// nobody asks for.
func (f found) port(index int) Port {
	p := Port{Index: index}
	if !f.has(ports, index) {
		return p // the rules do not look at the others
	}
	p.Guard.DHCP, p.Guard.RA = f.has(dhcpPorts, index), f.has(raPorts, index)
	p.Priority = int(f[key{set: priorities, port: index}].priority)
	members := map[set][]key{}
	for k := range f {
		members[k.set] = append(members[k.set], k)
	}
	if f.has(macPorts, index) {
		for _, k := range members[macs] {
			p.Guard.MACs = append(p.Guard.MACs, k.mac())
		}
		if len(p.Guard.MACs) == 0 {
			p.Guard.MACs = []vnet.MAC{{}}
		}
	}
	addresses := func(family set, none netip.Addr) {
		for _, k := range members[family] {
			p.Guard.Addresses = append(p.Guard.Addresses, k.addr())
		}
		if len(members[family]) == 0 {
			p.Guard.Addresses = append(p.Guard.Addresses, none)
		}
	}
	if f.has(ipv4Ports, index) {
		addresses(ipv4, netip.IPv4Unspecified())
	}
	if f.has(ipv6Ports, index) {
		addresses(ipv6, netip.IPv6Unspecified())
	}
	p.sort()
	return p
}
