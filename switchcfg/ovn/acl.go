// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// maxACLName is the limit of ACL.name.
const maxACLName = 63

// acl is one of the port group of the network's guests, so that the uplink and
// the router do not fall under it.
func (all objects) acl(t *vnet.Topology, n vnet.Network, a vnet.ACL, priority int) {
	for _, p := range []vnet.Peer{a.From, a.To} {
		if set, ok := t.AddressSet(p.Set); ok {
			all.addressSet(set)
		}
	}
	name := a.String()
	if len(name) > maxACLName {
		name = name[:maxACLName]
	}
	severity := ovsdb.Set[string]{}
	if a.Log {
		severity = unordered("info")
	}
	direction, action := "to-lport", a.Action.String()
	if a.Direction == vnet.DirectionOut {
		direction = "from-lport"
	}
	if a.Action == vnet.ActionAllow {
		action = "allow-related"
	}
	all.add(&object{table: tableACL, network: n.Name, columns: map[string]any{
		"direction": direction, "action": action, "match": match(t, n, a),
		"priority": priority, "log": a.Log, "severity": severity, "name": unordered(name),
	}})
}

// match is the ACL as an expression (ovn-sb(5), Logical_Flow, match).
func match(t *vnet.Topology, n vnet.Network, a vnet.ACL) string {
	port := "outport"
	if a.Direction == vnet.DirectionOut {
		port = "inport"
	}
	terms := []string{fmt.Sprintf("%s == @%s", port, vnet.GroupName(n.Name))}
	from, to := ends(t, "src", a.From), ends(t, "dst", a.To)
	if text := between(from, to); text != "" {
		terms = append(terms, text)
	} else if a.Protocol == 0 {
		terms = append(terms, "ip")
	}
	if a.Protocol != 0 {
		terms = append(terms, a.Protocol.String())
	}
	if len(a.Ports) > 0 {
		terms = append(terms, ports(a))
	}
	if a.Action != vnet.ActionAllow && a.Protocol == 0 && from.mayBe("ip6") && to.mayBe("ip6") {
		// Without neighbours there is no IPv6 at all, not even what is allowed.
		terms = append(terms, "!nd && !nd_rs && !nd_ra")
	}
	return strings.Join(terms, " && ")
}

// between is what packets between the two ends are like, and nothing for those
// between anybody and anybody.
func between(from, to terms) string {
	switch {
	case from == nil && to == nil:
		return ""
	case from == nil:
		return anyOf(to.list())
	case to == nil:
		return anyOf(from.list())
	}
	var both []string
	for _, version := range versions {
		if from[version] != "" && to[version] != "" {
			both = append(both, from[version]+" && "+to[version])
		}
	}
	return anyOf(both)
}

var versions = []string{"ip4", "ip6"}

// terms is what an end is like, by version of IP.
type terms map[string]string

func (t terms) list() []string {
	var list []string
	for _, version := range versions {
		if t[version] != "" {
			list = append(list, t[version])
		}
	}
	return list
}

// mayBe reports whether the end has addresses of that version.
func (t terms) mayBe(version string) bool { return t == nil || t[version] != "" }

// ends is nil for anybody.
func ends(t *vnet.Topology, field string, p vnet.Peer) terms {
	if p.IsZero() {
		return nil
	}
	byVersion := split(t.PeerPrefixes(p))
	result := terms{}
	for version, list := range byVersion {
		value := list[0]
		if len(list) > 1 {
			value = braces(list)
		}
		if p.Set != "" {
			value = "$" + setName(p.Set, version)
		}
		result[version] = fmt.Sprintf("%s.%s == %s", version, field, value)
	}
	return result
}

// split is prefixes as OVN writes them, by version of IP.
func split(prefixes []netip.Prefix) map[string][]string {
	all := map[string][]string{}
	for _, p := range prefixes {
		version, text := versions[0], p.String()
		if p.Addr().Is6() {
			version = versions[1]
		}
		if p.IsSingleIP() {
			text = p.Addr().String()
		}
		all[version] = append(all[version], text)
	}
	return all
}

func anyOf(list []string) string {
	if len(list) == 1 {
		return list[0]
	}
	return "(" + strings.Join(list, " || ") + ")"
}

func ports(a vnet.ACL) string {
	field := a.Protocol.String() + ".dst"
	var list []string
	for _, r := range a.Ports {
		if r.First == r.Last {
			list = append(list, fmt.Sprintf("%s == %d", field, r.First))
			continue
		}
		list = append(list, fmt.Sprintf("%d <= %s <= %d", r.First, field, r.Last))
	}
	return anyOf(list)
}

// addressSet is one for each version of IP, as OVN wants it, with the names that
// it gives to those of port groups.
func (all objects) addressSet(s vnet.AddressSet) {
	for version, list := range split(s.Addresses) {
		all.add(&object{table: tableAddressSet, set: s.Name, columns: map[string]any{
			"name": setName(s.Name, version), "addresses": unordered(list...),
		}})
	}
}

func setName(set, version string) string { return set + "_" + version }
