// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// keyAddress is the address of a guest's port, by which two with the same one
// are found.
const keyAddress = "virt-vnet-address"

// Keys of Logical_Switch_Port.options.
const (
	keyChassis    = "requested-chassis"
	keyActivation = "activation-strategy"
	// keyNext is ours: the chassis that are to have the port after the one that has
	// it, where OVN cannot be told of several.
	keyNext = "virt-vnet-next-chassis"
)

// ruleGroup is a port group (ovn-nb(5), Port_Group) with one rule, which drops
// what matches; or, without that, one that rules of ports are about.
type ruleGroup struct{ name, direction, match string }

// The guards that port security is not. Ports from which frames must have a
// source of their own may not take part in a spanning tree either. And isolated
// ports, which have a rule each (see isolation).
var (
	groupBPDU = guardGroup("virt_vnet_bpdu_guard", "eth.dst == 01:80:c2:00:00:00")
	groupDHCP = guardGroup("virt_vnet_dhcp_guard",
		"(ip4 && (udp.src == 67 || udp.dst == 68)) || (ip6 && (udp.src == 547 || udp.dst == 546))")
	// groupRA is without effect (see Capabilities), and of ports that had it
	// from former versions.
	groupRA       = guardGroup("virt_vnet_ra_guard", "icmp6.type == 134 || icmp6.type == 137")
	groupIsolated = ruleGroup{name: "virt_vnet_isolated"}
)

// Directions of rules (ovn-nb(5), ACL and QoS).
const (
	toGuest   = "to-lport"
	fromGuest = "from-lport"
)

// guardGroup keeps its ports from sending something.
func guardGroup(name, match string) ruleGroup {
	return ruleGroup{name, fromGuest, fmt.Sprintf("inport == @%s && (%s)", name, match)}
}

// ruleGroups returns all of them.
func ruleGroups() []ruleGroup { return []ruleGroup{groupBPDU, groupDHCP, groupRA, groupIsolated} }

// record is a row of any table, with the columns that were asked for.
type record struct {
	UUID        ovsdb.UUID
	Name        string
	ExternalIDs ovsdb.Dict

	Type    string // of an interface of Open vSwitch
	NextCfg int    // of Open vSwitch
	Config  int    // nb_cfg of the northbound database

	// Of a logical switch port.
	Options                 ovsdb.Dict
	Addresses, PortSecurity ovsdb.Set[string]
	DHCPv4, DHCPv6          ovsdb.Set[ovsdb.UUID]

	Ports       ovsdb.Set[ovsdb.UUID] // of a bridge, a logical switch or a port group
	OtherConfig ovsdb.Dict            // of a logical switch

	// Of a QoS rule or an ACL.
	Direction, Match, Action string
	Priority                 int
	Bandwidth                ovsdb.Numbers

	CIDR string // of options of DHCP
}

// Column implements [ovsdb.Record].
func (r *record) Column(name string) any {
	switch name {
	case "_uuid":
		return &r.UUID
	case "name":
		return &r.Name
	case "external_ids":
		return &r.ExternalIDs
	case "type":
		return &r.Type
	case "next_cfg":
		return &r.NextCfg
	case "nb_cfg":
		return &r.Config
	default:
		return r.logical(name)
	}
}

// logical is Column for those that only the northbound database has.
func (r *record) logical(name string) any {
	switch name {
	case "options":
		return &r.Options
	case "addresses":
		return &r.Addresses
	case "port_security":
		return &r.PortSecurity
	case "dhcpv4_options":
		return &r.DHCPv4
	case "dhcpv6_options":
		return &r.DHCPv6
	case "other_config":
		return &r.OtherConfig
	case "cidr":
		return &r.CIDR
	case "ports":
		return &r.Ports
	default:
		return r.rule(name)
	}
}

// rule is Column for those that only rules have.
func (r *record) rule(name string) any {
	switch name {
	case "direction":
		return &r.Direction
	case "match":
		return &r.Match
	case "action":
		return &r.Action
	case "priority":
		return &r.Priority
	case "bandwidth":
		return &r.Bandwidth
	}
	return nil
}

// mark is external_ids of a port with the mark of o in place of any other.
func mark(ids ovsdb.Dict, o switchcfg.Owner, address netip.Addr) ovsdb.Dict {
	all := maps.Clone(ids)
	if all == nil {
		all = ovsdb.Dict{}
	}
	delete(all, keyAddress)
	all[keyGuest], all[keyMAC], all[keyNetwork] = o.Guest, o.MAC.String(), o.Network
	if address.IsValid() {
		all[keyAddress] = address.String()
	}
	return all
}

// addresses is the column of that name (ovn-nb(5), Logical_Switch_Port). Where
// the network gives addresses out, a port that has none is given one.
func addresses(mac vnet.MAC, l switchcfg.LogicalPort, gives bool) ovsdb.Set[string] {
	own := mac.String()
	switch {
	case l.Address.IsValid():
		own += " " + l.Address.String()
	case gives:
		own += " dynamic"
	}
	all := ovsdb.Set[string]{own}
	if l.Promiscuous {
		all = append(all, "unknown")
	}
	return all
}

// security is the column port_security. An entry with addresses of one family
// only would keep the port from using the other at all.
func security(g *switchcfg.Guard) ovsdb.Set[string] {
	all := ovsdb.Set[string]{}
	if g == nil {
		return all
	}
	var words []string
	is4, is6 := false, false
	for _, a := range g.Addresses {
		words = append(words, a.String())
		is4, is6 = is4 || a.Is4(), is6 || a.Is6()
	}
	switch {
	case is4 && !is6:
		words = append(words, any6)
	case is6 && !is4:
		words = append(words, any4)
	}
	for _, mac := range g.MACs {
		all = append(all, strings.Join(append([]string{mac.String()}, words...), " "))
	}
	return all
}

const (
	any4 = "0.0.0.0/0"
	any6 = "::/0"
)

// guard reads what security writes, and in which groups the port is. Port
// security without all that goes with it is none.
func guard(security []string, groups []string) *switchcfg.Guard {
	g := &switchcfg.Guard{
		DHCP: slices.Contains(groups, groupDHCP.name),
		RA:   slices.Contains(groups, groupRA.name),
	}
	if !slices.Contains(groups, groupBPDU.name) {
		return g
	}
	for _, entry := range security {
		for i, word := range strings.Fields(entry) {
			if mac, err := vnet.ParseMAC(word); i == 0 && err == nil {
				g.MACs = append(g.MACs, mac)
			}
			if a, err := netip.ParseAddr(word); err == nil {
				g.Addresses = append(g.Addresses, a)
			}
		}
	}
	slices.SortFunc(g.MACs, func(a, b vnet.MAC) int { return slices.Compare(a[:], b[:]) })
	slices.SortFunc(g.Addresses, netip.Addr.Compare)
	g.Addresses = slices.Compact(g.Addresses)
	return g
}

// wantedGroups are the rule groups that the port is to be in.
func wantedGroups(s switchcfg.Settings) map[string]bool {
	in := map[string]bool{groupIsolated.name: s.Flags[switchcfg.FlagIsolated] == vnet.ToggleOn}
	if g := s.Guard; g != nil {
		in[groupBPDU.name], in[groupDHCP.name], in[groupRA.name] = len(g.MACs) > 0, g.DHCP, g.RA
	}
	return in
}

// chassisOf is who may have the port.
func chassisOf(options ovsdb.Dict) []string {
	return strings.FieldsFunc(options[keyChassis]+","+options[keyNext], func(r rune) bool { return r == ',' || r == ' ' })
}

// request is the options of a port with these chassis. The first has it until the
// guest is heard from another (ovn-nb(5), activation-strategy). An OVN of one
// chassis for a port has no strategy: there the first has it until it gives it up.
func request(options ovsdb.Dict, chassis []string, several bool) ovsdb.Dict {
	all := maps.Clone(options)
	if all == nil {
		all = ovsdb.Dict{}
	}
	delete(all, keyActivation)
	delete(all, keyNext)
	all[keyChassis] = strings.Join(chassis, ",")
	switch {
	case len(chassis) < 2:
	case several:
		all[keyActivation] = "rarp"
	default:
		all[keyChassis], all[keyNext] = chassis[0], strings.Join(chassis[1:], ",")
	}
	return all
}
