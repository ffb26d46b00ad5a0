// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"fmt"
	"slices"
	"strings"
)

// end is where a party may stand, and what it may be there.
type end struct {
	field string
	party Party
	// networks, hosts and gateway are allowed besides guests; hosts are
	// addresses and names.
	networks, hosts, gateway bool
	want                     string
}

const (
	wantSource  = "a guest, GUEST/NETWORK, or network NAME"
	wantAnybody = "a guest, GUEST/NETWORK, network NAME, an address, a DNS name, or gateway"
	wantMachine = "a guest, GUEST/NETWORK, an address, a DNS name, or gateway"
)

// ends are those that e has.
func (e Expectation) ends() []end {
	list := []end{
		{field: "reach", party: e.Reach, networks: true, hosts: true, gateway: true, want: wantAnybody},
		{field: "deny", party: e.Deny, networks: true, hosts: true, gateway: true, want: wantAnybody},
		{field: "tcp", party: e.TCP.Party, hosts: true, gateway: true, want: wantMachine + ", and a port"},
		{field: "to", party: e.To, hosts: true, gateway: true, want: wantMachine},
		{field: "server", party: e.Server, hosts: true, gateway: true, want: wantMachine},
	}
	return slices.DeleteFunc(list, func(d end) bool { return d.party.IsZero() })
}

// Target is who should or should not be reached: for DNS the server.
func (e Expectation) Target() Party {
	switch {
	case !e.Reach.IsZero():
		return e.Reach
	case !e.Deny.IsZero():
		return e.Deny
	case !e.TCP.IsZero():
		return e.TCP.Party
	case e.DNS != "" && e.Server.IsZero():
		return Party{Gateway: true}
	case e.DNS != "":
		return e.Server
	}
	return e.To
}

func (v *validator) expectations() {
	for i, e := range v.topology.Expect {
		o := object{v, fmt.Sprintf("expectation %d", i+1), fmt.Sprintf("expect.%d", i)}
		o.expectation(e)
		for _, other := range v.topology.Expect[:i] {
			opposed := !e.Deny.IsZero() && e.Deny == other.Reach || !e.Reach.IsZero() && e.Reach == other.Deny
			if opposed && e.From == other.From {
				o.conflict("from", e.String()+", and "+other.String(), "one of the two")
				break
			}
		}
	}
}

func (o object) expectation(e Expectation) {
	if e.From.IsZero() {
		o.missing("from", "from: "+wantSource)
	} else {
		o.party(end{field: "from", party: e.From, networks: true, want: wantSource}, e)
	}
	o.oneKind(e)
	for _, d := range e.ends() {
		o.party(d, e)
	}
	if e.DNS != "" && !isDNSName(e.DNS) {
		o.value("dns", fmt.Sprintf("the name %q", e.DNS), "a DNS name, such as www.example.org")
	}
	if e.DNS != "" && e.Server.IsZero() {
		o.hasGateway("dns", e, "server: the DNS server's address")
	}
	if !e.Server.IsZero() && e.DNS == "" {
		o.conflict("server", "server without dns", "dns: the name to ask for")
	}
	measured := e.Latency != 0 || e.Loss != 0
	switch {
	case !e.To.IsZero() && !measured:
		o.missing("limit", "latency: such as <5ms, or loss: such as <1%")
	case e.To.IsZero() && measured:
		o.missing("to", "to: who is to answer that fast")
	}
}

// isDNSName checks the lengths of RFC 1035 section 2.3.4, and that nothing is in
// it that cannot be asked for.
func isDNSName(name string) bool {
	name = strings.TrimSuffix(name, ".")
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.ContainsAny(label, " \t\n/:") {
			return false
		}
	}
	return len(name) <= 253
}

func (o object) oneKind(e Expectation) {
	var kinds []string
	for _, k := range []struct {
		name  string
		given bool
	}{{"reach", !e.Reach.IsZero()}, {"deny", !e.Deny.IsZero()}, {"tcp", !e.TCP.IsZero()}, {"dns", e.DNS != ""}, {"to", !e.To.IsZero()}} {
		if k.given {
			kinds = append(kinds, k.name)
		}
	}
	const want = "one of reach, deny, tcp, dns, or to with latency or loss"
	switch {
	case len(kinds) > 1:
		o.conflict(kinds[1], strings.Join(kinds, " and ")+" in one expectation", want)
	case len(kinds) == 0 && e.Latency == 0 && e.Loss == 0:
		o.missing("expectation", want)
	}
}

// party checks that the one at d exists and may stand there.
func (o object) party(d end, e Expectation) {
	p := d.party
	switch {
	case p.Addr.IsValid() && (p.Addr.IsUnspecified() || p.Addr.IsMulticast() || p.Addr.Zone() != "" || p.Addr.IsLinkLocalUnicast()):
		o.value(d.field, p.String(), "the address of one machine, and no link-local one")
	case !d.hosts && (p.Addr.IsValid() || p.Host != ""), !d.gateway && p.Gateway, !d.networks && p.Guest == "" && p.Network != "":
		o.value(d.field, p.String(), d.want)
	case p.Gateway:
		o.hasGateway(d.field, e, "an address, or gateway: in the network")
	case p.Guest != "":
		o.knownGuest(d.field, p)
	case p.Network != "":
		o.knownNetwork(d.field, p.Network)
	}
}

func (o object) knownNetwork(field, name string) {
	if _, ok := o.v.topology.Network(name); !ok {
		o.unknown(field, "network "+name, "one of the spec's networks: "+listOr(networkNames(o.v.topology), "none is declared"))
	}
}

func (o object) knownGuest(field string, p Party) {
	g, ok := o.v.topology.Guest(p.Guest)
	if !ok {
		names := make([]string, len(o.v.topology.Guests))
		for i, g := range o.v.topology.Guests {
			names[i] = g.Name
		}
		slices.Sort(names)
		o.unknown(field, "guest "+p.Guest, "one of the spec's guests: "+listOr(names, "none is declared"))
		return
	}
	if p.Network == "" {
		return
	}
	o.knownNetwork(field, p.Network)
	inIt := func(n NIC) bool { return n.Network == p.Network }
	if len(g.NICs) > 0 && !slices.ContainsFunc(g.NICs, inIt) {
		o.unknown(field, fmt.Sprintf("guest %s, which has no NIC in network %s", p.Guest, p.Network), "a network that it is in")
	}
}

// hasGateway checks that the network which e sends from has a gateway, where it
// is known which that is.
func (o object) hasGateway(field string, e Expectation, want string) {
	if n, ok := o.v.topology.Network(e.From.Network); ok && !n.Gateway.IsValid() {
		o.conflict(field, "the gateway of network "+n.Name+", which has none", want)
	}
}

func (v *validator) waivers() {
	for i, w := range v.topology.Waivers {
		o := object{v, fmt.Sprintf("waiver %d", i+1), fmt.Sprintf("waivers.%d", i)}
		if w.Code == "" && w.Guest == "" && w.Network == "" {
			o.missing("code, guest and network", "at least one of them: a waiver of everything hides everything")
		}
		if w.Owner == "" {
			o.missing("owner", "owner: who answers for it")
		}
		if w.Until.IsZero() {
			o.missing("until", "until: its last day, such as 2027-01-31")
		}
		if w.Guest != "" {
			o.knownGuest("guest", Party{Guest: w.Guest})
		}
		if w.Network != "" {
			o.knownNetwork("network", w.Network)
		}
	}
}
