// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
)

// LoadBalancer gives the connections to one address and port to several
// backends, each to one of them.
type LoadBalancer struct {
	VIP netip.AddrPort `json:"vip"`
	// Protocol is TCP if it is zero.
	Protocol Protocol  `json:"protocol,omitempty"`
	Backends []Backend `json:"backends"`
}

// Transport is the protocol, of those that have ports.
func (l LoadBalancer) Transport() Protocol {
	if l.Protocol == 0 {
		return ProtocolTCP
	}
	return l.Protocol
}

// String returns "tcp 10.0.0.100:80".
func (l LoadBalancer) String() string { return l.Transport().String() + " " + l.VIP.String() }

// Backend is a guest, perhaps in one network, or an address, and a port of it.
type Backend struct {
	Peer Peer
	Port uint16
}

// String returns b as the spec writes it: "web1:8080", "web1/red:8080" or
// "10.0.0.12:8080".
func (b Backend) String() string { return net.JoinHostPort(b.Peer.String(), strconv.Itoa(int(b.Port))) }

// MarshalText implements [encoding.TextMarshaler].
func (b Backend) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. Whether there is such a
// guest is for [Topology.Validate] to say.
func (b *Backend) UnmarshalText(text []byte) error {
	host, port, err := net.SplitHostPort(string(text))
	number, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || host == "" || number == 0 {
		return fmt.Errorf("%q is no backend: want one such as web1:8080 or 10.0.0.12:8080", text)
	}
	b.Port = uint16(number)
	return b.Peer.UnmarshalText([]byte(host))
}

// BackendAddresses is the addresses of b that are of the family of vip.
func (t *Topology) BackendAddresses(b Backend, vip netip.Addr) []netip.AddrPort {
	var list []netip.AddrPort
	for _, p := range t.PeerPrefixes(b.Peer) {
		if p.IsSingleIP() && p.Addr().Is4() == vip.Is4() {
			list = append(list, netip.AddrPortFrom(p.Addr(), b.Port))
		}
	}
	return list
}

func (o object) balancers(r Router, t *Topology) {
	seen := map[string]int{}
	for i, l := range r.LoadBalancers {
		b := object{o.v, fmt.Sprintf("%s, load balancer %d", o.subject, i+1), fmt.Sprintf("%s.load_balancers.%d", o.path, i)}
		if l.Protocol == ProtocolICMP {
			b.value("protocol", l.Protocol.String(), "one that has ports: tcp, udp or sctp")
		}
		if len(l.Backends) == 0 {
			b.missing("backends", "backends: guests or addresses with a port, such as web1:8080")
		}
		if !l.VIP.IsValid() || l.VIP.Port() == 0 {
			b.missing("vip", "vip: an address and a port, such as 10.0.0.100:80")
			continue
		}
		if first, twice := seen[l.String()]; twice {
			b.duplicate("vip", l.String(), fmt.Sprintf("it once: load balancer %d has it", first))
		}
		seen[l.String()] = i + 1
		b.vip(l, t)
		for j, backend := range l.Backends {
			b.backend(fmt.Sprintf("backends.%d", j), backend, l, t)
		}
	}
}

// vip must be nobody's own address.
func (o object) vip(l LoadBalancer, t *Topology) {
	for _, g := range t.Guests {
		for _, nic := range g.NICs {
			if nic.Address == l.VIP.Addr() {
				o.conflict("vip", fmt.Sprintf("%s, the address of guest %s", l.VIP.Addr(), g.Name), "an address that nobody has")
			}
		}
	}
	for _, n := range t.Networks {
		if n.Gateway == l.VIP.Addr() {
			o.conflict("vip", fmt.Sprintf("%s, the gateway of network %s", l.VIP.Addr(), n.Name), "an address that nobody has")
		}
	}
}

func (o object) backend(field string, b Backend, l LoadBalancer, t *Topology) {
	one := "a guest, GUEST/NETWORK or an address, a colon and a port"
	if p := b.Peer; p.Set != "" || p.Guest == "" && !p.Prefix.IsSingleIP() {
		o.value(field, b.String(), one)
		return
	}
	problems := len(o.v.problems)
	o.peer(field, b.Peer, t)
	if len(o.v.problems) > problems {
		return
	}
	switch list := t.BackendAddresses(b, l.VIP.Addr()); {
	case len(list) == 0:
		o.conflict(field, fmt.Sprintf("%s for %s", b, l.VIP), "both of IPv4, or both of IPv6")
	case len(list) > 1:
		o.value(field, b.String()+", which has several addresses", "GUEST/NETWORK:PORT, or one of its addresses")
	case slices.Contains(list, l.VIP):
		o.value(field, b.String(), "another address than that of the load balancer itself")
	}
}
