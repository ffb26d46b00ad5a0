// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Guard is what the guest behind a port is kept from sending. It means the same
// on every switch. The zero Guard keeps it from nothing.
//
// With MACs, frames from other source addresses are dropped, ARP (RFC 826),
// neighbour solicitations and advertisements (RFC 4861) that speak for others,
// and spanning tree frames. With IPv4 addresses, so is what comes from other
// IPv4 addresses; with IPv6 addresses, IPv6 likewise. All of that goes for frames
// with a VLAN tag, too. Any guard drops what hides its contents: frames with two
// tags, IP and ARP behind LLC/SNAP headers.
type Guard struct {
	// MACs and Addresses are what the guest may use as a source, sorted.
	MACs      []vnet.MAC   `json:"macs,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// DHCP drops what only a DHCP server sends (RFC 2131, RFC 8415).
	DHCP bool `json:"dhcp,omitempty"`
	// RA drops router advertisements (RFC 6105) and redirects.
	RA bool `json:"ra,omitempty"`
}

// IsZero reports whether the guest may send whatever it likes.
func (g Guard) IsZero() bool { return g.Equal(Guard{}) }

// Equal reports whether both mean the same.
func (g Guard) Equal(other Guard) bool {
	return g.DHCP == other.DHCP && g.RA == other.RA &&
		slices.Equal(g.MACs, other.MACs) && slices.Equal(g.Addresses, other.Addresses)
}

// sources says whose frames may pass.
func (g Guard) sources() string {
	if len(g.MACs) == 0 {
		return "any"
	}
	words := make([]string, 0, len(g.MACs)+len(g.Addresses))
	for _, mac := range g.MACs {
		words = append(words, mac.String())
	}
	for _, addr := range g.Addresses {
		words = append(words, addr.String())
	}
	return strings.Join(words, " ")
}

// guardOf is the guard that a port asks for.
func guardOf(p vnet.Port) *Guard {
	antiSpoof, dhcp, ra := p.Policy.Guards()
	g := &Guard{DHCP: dhcp, RA: ra}
	if !antiSpoof {
		return g
	}
	g.MACs = slices.Concat([]vnet.MAC{p.MAC}, p.Policy.Allow.MACs, p.Own.MACs)
	slices.SortFunc(g.MACs, func(a, b vnet.MAC) int { return slices.Compare(a[:], b[:]) })
	g.MACs = slices.Compact(g.MACs)
	g.Addresses = slices.Concat(
		sources(p, netip.Addr.Is4, nil),
		sources(p, netip.Addr.Is6, g.MACs))
	return g
}

// sources are the addresses of one family that a guest may use, sorted; none
// when the spec does not have the guest's own, for then any will do. With macs
// the link-local address is among them that every machine forms of its MAC
// address (RFC 4291, appendix A), without which it could not resolve anybody.
func sources(p vnet.Port, family func(netip.Addr) bool, macs []vnet.MAC) []netip.Addr {
	other := func(a netip.Addr) bool { return !family(a) }
	own := slices.DeleteFunc(slices.Clone(p.Own.Addresses), other)
	if len(own) == 0 {
		return nil
	}
	own = append(own, slices.DeleteFunc(slices.Clone(p.Policy.Allow.Addresses), other)...)
	for _, mac := range macs {
		own = append(own, linkLocal(mac))
	}
	slices.SortFunc(own, netip.Addr.Compare)
	return slices.Compact(own)
}

func linkLocal(m vnet.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

// sameGuard and sameQoS take "no such setting" for a setting of its own.
func sameGuard(a, b *Guard) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}

func sameQoS(a, b *vnet.QoS) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// qosOf is the limits that a port asks for, as they can be.
func qosOf(p vnet.Port) *vnet.QoS {
	q := p.Policy.QoS.Exact()
	return &q
}

// rateText says what a limit is.
func rateText(r vnet.Rate) string {
	if r.Bits == 0 {
		return "none"
	}
	return r.Bits.String() + " burst " + r.Burst.String()
}

// given is the value of a pointer, or zero.
func given[T any](p *T) T {
	var zero T
	return *cmp.Or(p, &zero)
}
