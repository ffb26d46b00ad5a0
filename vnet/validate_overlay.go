// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	maxPriority = 32767
	// maxLease is what four bytes of DHCP option 51 hold (RFC 2132), in a signed
	// number.
	maxLease = (1<<31 - 1) * time.Second
)

// ovnName is what OVN reads as a name in a match (ovn-sb(5), Logical_Flow).
var ovnName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z_0-9]*$`)

func (o object) overlay(s Switch) {
	if s.Driver != DriverOVN {
		for _, key := range []struct {
			name  string
			given bool
		}{
			{"encap", s.Overlay.Encap != EncapGeneve},
			{"underlay_mtu", s.Overlay.UnderlayMTU != 0},
			{"underlay_ipv6", s.Overlay.UnderlayIPv6},
		} {
			if key.given {
				o.conflict(key.name, fmt.Sprintf("%s with driver: %s", key.name, s.Driver), "driver: ovn")
			}
		}
		return
	}
	if s.Overlay.UnderlayMTU != 0 && (s.Overlay.MTU() < MinMTU || s.Overlay.UnderlayMTU > MaxMTU) {
		o.value("underlay_mtu", fmt.Sprintf("MTU %d", s.Overlay.UnderlayMTU),
			fmt.Sprintf("%d to %d", MinMTU+s.Overlay.UnderlayMTU-s.Overlay.MTU(), MaxMTU))
	}
}

// logical checks what only networks on an OVN switch have.
func (o object) logical(n Network, t *Topology) {
	l := n.Logical
	sw, known := t.Switch(n.Switch)
	if sw.Driver != DriverOVN {
		var given []string
		for _, key := range []struct {
			name  string
			given bool
		}{
			{"router", l.Router != ""},
			{"localnet", l.Localnet != Localnet{}},
			{"dhcp", l.DHCP.Serve},
			{"acls", len(l.ACLs) > 0},
		} {
			if key.given {
				given = append(given, key.name)
			}
		}
		if len(given) > 0 && (known || n.Switch == "") {
			o.conflict(given[0], strings.Join(given, ", ")+" in a network that is not on an OVN switch", "a switch with driver: ovn")
		}
		return
	}
	tagged := func(p Policy) bool { return !p.VLAN.IsZero() }
	if slices.ContainsFunc(n.Policies(), tagged) {
		o.conflict("vlan", "a VLAN in a network on an OVN switch", "localnet.vlan: the VLAN of the physical network")
	}
	for _, other := range t.Networks {
		if other.Name < n.Name && other.Switch == n.Switch && GroupName(other.Name) == GroupName(n.Name) {
			o.duplicate("name", fmt.Sprintf("%s, which is %s to OVN as network %s is", n.Name, GroupName(n.Name), other.Name),
				"names that differ in letters and digits")
		}
	}
	o.localnet(l.Localnet)
	o.dhcp(n)
	o.attach(n, t)
	o.acls(n, t)
}

func (o object) localnet(l Localnet) {
	if l == (Localnet{}) {
		return
	}
	if l.Physical == "" {
		o.missing("localnet.physical", "localnet.physical: the name that the hosts' ovn-bridge-mappings have")
	}
	if l.VLAN != 0 && !l.VLAN.Valid() {
		o.value("localnet.vlan", fmt.Sprintf("VLAN %d", l.VLAN), "1 to 4094")
	}
}

func (o object) dhcp(n Network) {
	d := n.Logical.DHCP
	if !d.Serve {
		return
	}
	switch {
	case !n.Subnet.IsValid():
		o.conflict("dhcp", "dhcp without subnet", "subnet: the prefix that guests have addresses of")
		return
	case !n.Subnet.Addr().Is4():
		o.conflict("dhcp", "dhcp in the IPv6 subnet "+n.Subnet.String(), "an IPv4 subnet")
		return
	case !n.Gateway.IsValid() && !d.Server.IsValid():
		o.missing("dhcp.server", "gateway: the router, or dhcp.server: an address of "+n.Subnet.String()+" that no guest has")
	case d.Server.IsValid():
		o.inSubnet("dhcp.server", d.Server, n)
	}
	if d.LeaseTime < 0 || d.LeaseTime > maxLease {
		o.value("dhcp.lease_time", fmt.Sprintf("%.0f seconds", d.LeaseTime.Seconds()), fmt.Sprintf("1 to %.0f seconds", maxLease.Seconds()))
	}
	for _, addr := range d.DNS {
		if !addr.Is4() {
			o.value("dhcp.dns", addr.String(), "an IPv4 address")
		}
	}
	if strings.ContainsAny(d.Domain, "\" \t\n\\") {
		o.value("dhcp.domain", fmt.Sprintf("%q", d.Domain), "a domain, such as example.org")
	}
	for i, r := range d.Routes {
		o.route(fmt.Sprintf("dhcp.routes.%d", i), r)
	}
}

// route checks one of a list.
func (o object) route(field string, r Route) {
	switch {
	case !r.To.IsValid():
		o.missing(field+".to", "to: a prefix")
	case !r.Via.IsValid():
		o.missing(field+".via", "via: an address")
	case r.To.Addr().Is4() != r.Via.Is4():
		o.conflict(field, fmt.Sprintf("%s via %s", r.To, r.Via), "both of IPv4, or both of IPv6")
	}
}

// attach checks that a network's router has what it takes.
func (o object) attach(n Network, t *Topology) {
	name := n.Logical.Router
	if name == "" {
		return
	}
	r, ok := t.Router(name)
	switch {
	case !ok:
		o.unknown("router", "router "+name, "one of the spec's routers: "+listOr(routerNames(t), "none is declared"))
	case r.Switch != n.Switch:
		o.conflict("router", fmt.Sprintf("router %s of switch %s in a network on switch %s", name, r.Switch, n.Switch), "both of the same switch")
	case r.Uplink.Network == n.Name:
		o.conflict("router", fmt.Sprintf("router %s, whose uplink is this network", name), "no router")
	case !n.Subnet.IsValid() || !n.Gateway.IsValid():
		o.missing("gateway", "subnet and gateway: the address that the router has in this network")
	}
}

func (o object) acls(n Network, t *Topology) {
	if len(n.Logical.ACLs) > maxACLs {
		o.value("acls", fmt.Sprintf("%d ACLs", len(n.Logical.ACLs)), fmt.Sprintf("at most %d", maxACLs))
	}
	seen := map[string]int{}
	for i, acl := range n.Logical.ACLs {
		a := object{o.v, fmt.Sprintf("%s, ACL %d", o.subject, i+1), fmt.Sprintf("%s.acls.%d", o.path, i)}
		a.acl(acl, t)
		if first, twice := seen[acl.String()]; twice {
			a.v.add(CodeSpecDuplicate, a.subject, a.path, acl.String(), fmt.Sprintf("it once: ACL %d is the same", first))
		}
		seen[acl.String()] = i + 1
	}
}

func (o object) acl(a ACL, t *Topology) {
	if a.Direction == 0 {
		o.missing("direction", "direction: in, to the guests, or out, from them")
	}
	if a.Action == 0 {
		o.missing("action", "action: one of "+strings.Join(Actions(), ", "))
	}
	if len(a.Ports) > 0 && (a.Protocol == 0 || a.Protocol == ProtocolICMP) {
		o.conflict("ports", "ports "+a.Ports.String()+" without a protocol that has ports", "protocol: tcp, udp or sctp")
	}
	if a.Priority < 0 || a.Priority > maxPriority {
		o.value("priority", fmt.Sprint(a.Priority), fmt.Sprintf("1 to %d", maxPriority))
	}
	from, to := o.peer("from", a.From, t), o.peer("to", a.To, t)
	if from&to == 0 {
		o.conflict("to", fmt.Sprintf("from %s to %s", a.From, a.To), "both of IPv4, or both of IPv6: no packet has one of each")
	}
}

// families is versions of IP.
type families int

const (
	familyIPv4 families = 1 << iota
	familyIPv6
	familyAny = familyIPv4 | familyIPv6
)

func familiesOf(prefixes []netip.Prefix) (f families) {
	for _, p := range prefixes {
		if p.Addr().Is4() {
			f |= familyIPv4
		} else {
			f |= familyIPv6
		}
	}
	return f
}

// peer checks one end and returns what addresses it has. Of one that is wrong it
// says any, as that is problem enough.
func (o object) peer(field string, p Peer, t *Topology) families {
	if p.IsZero() {
		return familyAny
	}
	_, guest := t.Guest(p.Guest)
	n, network := t.Network(p.Network)
	set, isSet := t.AddressSet(p.Set)
	switch {
	case p.Guest != "" && !guest:
		o.unknown(field, "guest "+p.Guest, "a guest of the spec, network NAME, set NAME, an address or a prefix")
	case p.Network != "" && !network:
		o.unknown(field, "network "+p.Network, "one of the spec's networks: "+listOr(networkNames(t), "none is declared"))
	case p.Set != "" && !isSet:
		o.unknown(field, "address set "+p.Set, "one of the spec's address_sets")
	case isSet && len(set.Addresses) == 0:
		// that is the set's problem
	case p.Guest == "" && network && !n.Subnet.IsValid():
		o.missing(field, "subnet: of network "+p.Network+", whose addresses are meant")
	case len(t.PeerPrefixes(p)) == 0:
		o.missing(field, "address: of guest "+p.String()+", in its nics")
	default:
		return familiesOf(t.PeerPrefixes(p))
	}
	return familyAny
}

func (v *validator) routers() {
	t := v.topology
	for _, r := range t.Routers {
		o := object{v, "router " + r.Name, "routers." + r.Name}
		if r.Name == "" || strings.ContainsAny(r.Name, "/\n\t ") {
			o.value("name", fmt.Sprintf("the name %q", r.Name), "a name without spaces and slashes")
		}
		sw, ok := t.Switch(r.Switch)
		switch {
		case r.Switch == "":
			o.missing("switch", "switch: an OVN switch")
		case !ok:
			o.unknown("switch", "switch "+r.Switch, "one of the spec's switches: "+listOr(switchNames(t), "none is declared"))
		case sw.Driver != DriverOVN:
			o.conflict("switch", fmt.Sprintf("a router on switch %s with driver: %s", r.Switch, sw.Driver), "a switch with driver: ovn")
		}
		for i, route := range r.Routes {
			o.route(fmt.Sprintf("routes.%d", i), route)
		}
		o.uplink(r, t)
		o.nat(r)
		o.balancers(r, t)
	}
}

func (o object) uplink(r Router, t *Topology) {
	u := r.Uplink
	if u.IsZero() {
		if u.Gateway.IsValid() {
			o.missing("uplink.network", "uplink.network: a network with localnet")
		}
		return
	}
	n, ok := t.Network(u.Network)
	switch {
	case u.Network == "":
		o.missing("uplink.network", "uplink.network: a network with localnet")
	case !ok:
		o.unknown("uplink.network", "network "+u.Network, "one of the spec's networks: "+strings.Join(networkNames(t), ", "))
	case n.Logical.Localnet.Physical == "" || n.Switch != r.Switch:
		o.conflict("uplink.network", "network "+u.Network, fmt.Sprintf("a network on switch %s with localnet", r.Switch))
	}
	switch {
	case !u.Address.IsValid():
		o.missing("uplink.address", "uplink.address: the router's own, such as 203.0.113.10/24")
	case u.Gateway.IsValid() && (!u.Address.Contains(u.Gateway) || u.Gateway == u.Address.Addr()):
		o.value("uplink.gateway", u.Gateway.String(), "another address in "+u.Address.Masked().String())
	}
	if len(u.Chassis) == 0 {
		o.missing("uplink.chassis", "uplink.chassis: the system-ids of the hosts that traffic may leave by")
	}
	seen := map[string]bool{}
	for _, c := range u.Chassis {
		if seen[c] || c == "" {
			o.value("uplink.chassis", fmt.Sprintf("%q", c), "the name of each host once")
		}
		seen[c] = true
	}
}

func (o object) nat(r Router) {
	key := "snat"
	if len(r.SNAT) == 0 {
		key = "dnat"
	}
	if len(r.SNAT)+len(r.DNAT) > 0 && r.Uplink.IsZero() {
		o.conflict(key, key+" without an uplink", "uplink: the way out")
		return
	}
	own := r.Uplink.Address.Addr()
	for _, p := range r.SNAT {
		if own.IsValid() && p.Addr().Is4() != own.Is4() {
			o.conflict("snat", fmt.Sprintf("%s from the uplink's address %s", p, own), "both of IPv4, or both of IPv6")
		}
	}
	for i, d := range r.DNAT {
		field := fmt.Sprintf("dnat.%d", i)
		switch {
		case !d.External.IsValid() || !d.To.IsValid():
			o.missing(field, "external: an address outside, and to: a guest's address")
		case d.External.Is4() != d.To.Is4():
			o.conflict(field, fmt.Sprintf("%s to %s", d.External, d.To), "both of IPv4, or both of IPv6")
		}
	}
}

func (v *validator) addressSets() {
	for _, s := range v.topology.AddressSets {
		o := object{v, "address set " + s.Name, "address_sets." + s.Name}
		if !ovnName.MatchString(s.Name) {
			o.value("name", fmt.Sprintf("the name %q", s.Name), "letters, digits and _, as OVN wants it")
		}
		if len(s.Addresses) == 0 {
			o.missing("addresses", "addresses or prefixes")
		}
	}
}

func routerNames(t *Topology) []string {
	list := make([]string, len(t.Routers))
	for i, r := range t.Routers {
		list[i] = cmp.Or(r.Name, "?")
	}
	return list
}
