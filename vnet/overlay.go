// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Overlay is what carries the frames of an OVN switch between hosts.
type Overlay struct {
	Encap Encap `json:"encap,omitempty"`
	// UnderlayMTU is the MTU of the network between the hosts. Zero is
	// [DefaultUnderlayMTU].
	UnderlayMTU int `json:"underlayMTU,omitempty"`
	// UnderlayIPv6 means that tunnels are between IPv6 addresses.
	UnderlayIPv6 bool `json:"underlayIPv6,omitempty"`
}

// DefaultUnderlayMTU is that of plain Ethernet.
const DefaultUnderlayMTU = 1500

// MTU is what is left for guests: the underlay's less the headers of the tunnel.
// Those are IP (20 bytes, or 40 for IPv6), UDP (8), the encapsulation's own
// (RFC 8926: 8 and an option of OVN, 8, that names the ports; RFC 7348: 8) and
// the guest's Ethernet header (14).
func (o Overlay) MTU() int {
	const udp, base, option, ethernet = 8, 8, 8, 14
	headers := 20 + udp + base + ethernet
	if o.UnderlayIPv6 {
		headers += 20
	}
	if o.Encap == EncapGeneve {
		headers += option
	}
	mtu := o.UnderlayMTU
	if mtu == 0 {
		mtu = DefaultUnderlayMTU
	}
	return mtu - headers
}

// Encap is how tunnels wrap frames. The zero Encap is geneve.
type Encap int

// The encapsulations.
const (
	EncapGeneve Encap = iota
	EncapVXLAN
)

var encapNames = names{"geneve", "vxlan"}

// String returns the word that OVN uses.
func (e Encap) String() string { return encapNames.name(int(e)) }

// MarshalText implements [encoding.TextMarshaler].
func (e Encap) MarshalText() ([]byte, error) { return encapNames.marshal(int(e)) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (e *Encap) UnmarshalText(text []byte) error {
	n, err := encapNames.parse("encapsulation", text)
	*e = Encap(n)
	return err
}

// Encaps returns the words [Encap] reads.
func Encaps() []string { return slices.Clone(encapNames) }

// Logical is what a network on an OVN switch has besides its ports.
type Logical struct {
	// Router is the name of the router that has the network's gateway.
	Router   string   `json:"router,omitempty"`
	Localnet Localnet `json:"localnet,omitzero"`
	DHCP     DHCP     `json:"dhcp,omitzero"`
	// ACLs are looked at in this order, unless they have priorities. What none
	// of them is about passes.
	ACLs []ACL `json:"acls,omitempty"`
}

// Localnet joins a network to a physical one. The zero Localnet does not.
type Localnet struct {
	// Physical is the name that the hosts know it by (ovn-bridge-mappings).
	Physical string `json:"physical,omitempty"`
	// VLAN is the tag of the frames there, zero for none.
	VLAN VLANID `json:"vlan,omitempty"`
}

// DHCP is what guests are told by DHCP, besides their address, the subnet's mask
// and the MTU. The zero DHCP tells nothing.
type DHCP struct {
	Serve bool `json:"serve,omitempty"`
	// LeaseTime is in whole seconds. Zero is [DefaultLeaseTime].
	LeaseTime time.Duration `json:"leaseTime,omitempty"`
	// Server is the address that DHCP answers come from. The zero Addr means the
	// gateway's.
	Server netip.Addr   `json:"server,omitzero"`
	DNS    []netip.Addr `json:"dns,omitempty"`
	Domain string       `json:"domain,omitempty"`
	Routes []Route      `json:"routes,omitempty"`
}

// DefaultLeaseTime is how long a guest may use its address.
const DefaultLeaseTime = time.Hour

// Route sends what is for To by way of Via.
type Route struct {
	To  netip.Prefix `json:"to"`
	Via netip.Addr   `json:"via"`
}

// Router is a logical router of an OVN switch.
type Router struct {
	Name   string  `json:"name"`
	Switch string  `json:"switch"`
	Uplink Uplink  `json:"uplink,omitzero"`
	Routes []Route `json:"routes,omitempty"`
	// SNAT is prefixes whose guests reach the outside from the uplink's address.
	SNAT []netip.Prefix `json:"snat,omitempty"`
	DNAT []DNAT         `json:"dnat,omitempty"`
	// LoadBalancers are reached from the router's networks, and by the uplink.
	LoadBalancers []LoadBalancer `json:"loadBalancers,omitempty"`
}

// Uplink is the way out of a router. The zero Uplink is none.
type Uplink struct {
	// Network is one that is joined to a physical network.
	Network string `json:"network,omitempty"`
	// Address is the router's own, with the length of the subnet's prefix.
	Address netip.Prefix `json:"address,omitzero"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
	// Chassis are the hosts that the traffic may leave by, best first.
	Chassis []string `json:"chassis,omitempty"`
}

// IsZero reports whether there is no uplink.
func (u Uplink) IsZero() bool { return u.Network == "" && !u.Address.IsValid() && len(u.Chassis) == 0 }

// DNAT lets what is sent to an address outside reach a guest.
type DNAT struct {
	External netip.Addr `json:"external"`
	To       netip.Addr `json:"to"`
}

// AddressSet is a name for addresses.
type AddressSet struct {
	Name      string         `json:"name"`
	Addresses []netip.Prefix `json:"addresses"`
}

// ACL lets frames to or from the guests of a network pass, or not.
type ACL struct {
	Direction Direction `json:"direction"`
	Action    Action    `json:"action"`
	// From and To say which packets it is about, by their addresses; the zero
	// Peer is anybody.
	From     Peer       `json:"from,omitzero"`
	To       Peer       `json:"to,omitzero"`
	Protocol Protocol   `json:"protocol,omitempty"`
	Ports    PortRanges `json:"ports,omitempty"` // they are sent to
	Log      bool       `json:"log,omitempty"`
	// Priority is 1 to 32767, of which the highest that matches counts. Zero
	// means by the order in the list: the first is maxACLs, the next one less.
	Priority int `json:"priority,omitempty"`
}

// String returns the ACL on one line.
func (a ACL) String() string {
	words := []string{a.Direction.String(), a.Action.String()}
	if a.Protocol != 0 {
		words = append(words, a.Protocol.String())
	}
	if len(a.Ports) > 0 {
		words = append(words, "ports "+a.Ports.String())
	}
	if !a.From.IsZero() {
		words = append(words, "from "+a.From.String())
	}
	if !a.To.IsZero() {
		words = append(words, "to "+a.To.String())
	}
	return strings.Join(words, " ")
}

// Direction is which way frames go, seen from the guest. The zero Direction is
// invalid.
type Direction int

// The directions.
const (
	DirectionIn  Direction = iota + 1 // to the guest
	DirectionOut                      // from the guest
)

var directionNames = names{"", "in", "out"}

// String returns the word the spec uses.
func (d Direction) String() string { return directionNames.name(int(d)) }

// MarshalText implements [encoding.TextMarshaler].
func (d Direction) MarshalText() ([]byte, error) { return directionNames.marshal(int(d)) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Direction) UnmarshalText(text []byte) error {
	n, err := directionNames.parse("direction", text)
	*d = Direction(n)
	return err
}

// Directions returns the words [Direction] reads.
func Directions() []string { return slices.Clone(directionNames[1:]) }

// Action is what becomes of a packet. The zero Action is invalid.
type Action int

// The actions.
const (
	ActionAllow  Action = iota + 1 // and what belongs to the same connection
	ActionDrop                     // and say nothing
	ActionReject                   // and tell the sender
)

var actionNames = names{"", "allow", "drop", "reject"}

// String returns the word the spec uses.
func (a Action) String() string { return actionNames.name(int(a)) }

// MarshalText implements [encoding.TextMarshaler].
func (a Action) MarshalText() ([]byte, error) { return actionNames.marshal(int(a)) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (a *Action) UnmarshalText(text []byte) error {
	n, err := actionNames.parse("action", text)
	*a = Action(n)
	return err
}

// Actions returns the words [Action] reads.
func Actions() []string { return slices.Clone(actionNames[1:]) }

// Protocol is one above IP. The zero Protocol is any.
type Protocol int

// The protocols. ICMP is that of IPv4 and that of IPv6.
const (
	ProtocolTCP Protocol = iota + 1
	ProtocolUDP
	ProtocolSCTP
	ProtocolICMP
)

var protocolNames = names{"", "tcp", "udp", "sctp", "icmp"}

// String returns the word the spec uses.
func (p Protocol) String() string { return protocolNames.name(int(p)) }

// MarshalText implements [encoding.TextMarshaler].
func (p Protocol) MarshalText() ([]byte, error) { return protocolNames.marshal(int(p)) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *Protocol) UnmarshalText(text []byte) error {
	n, err := protocolNames.parse("protocol", text)
	*p = Protocol(n)
	return err
}

// Protocols returns the words [Protocol] reads.
func Protocols() []string { return slices.Clone(protocolNames[1:]) }

// PortRange is ports of TCP, UDP or SCTP, with both ends.
type PortRange struct{ First, Last uint16 }

// PortRanges is a list of ports such as "22,8000-8100".
type PortRanges []PortRange

// ParsePortRanges reads ports, with commas between them.
func ParsePortRanges(text string) (PortRanges, error) {
	var list PortRanges
	for item := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(item), "-")
		if !isRange {
			last = first
		}
		a, errA := strconv.ParseUint(first, 10, 16)
		b, errB := strconv.ParseUint(last, 10, 16)
		if errA != nil || errB != nil || a == 0 || b < a {
			return nil, fmt.Errorf("%q is no port: want one such as 22 or 8000-8100", strings.TrimSpace(item))
		}
		list = append(list, PortRange{uint16(a), uint16(b)})
	}
	return list, nil
}

// MarshalText implements [encoding.TextMarshaler].
func (p PortRanges) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *PortRanges) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePortRanges(string(text))
	return err
}

// String is what ParsePortRanges reads.
func (p PortRanges) String() string {
	words := make([]string, len(p))
	for i, r := range p {
		words[i] = strconv.Itoa(int(r.First))
		if r.Last != r.First {
			words[i] += "-" + strconv.Itoa(int(r.Last))
		}
	}
	return strings.Join(words, ",")
}

// Peer is an end of what an ACL is about: at most one of a guest, a network, an
// address set and a prefix. The zero Peer is anybody.
type Peer struct {
	// Guest is the addresses that the spec has for a guest, and Network then
	// narrows it to those in one network. Network alone is its subnet.
	Guest   string
	Network string
	Set     string
	Prefix  netip.Prefix
}

const setPrefix = "set "

// IsZero reports whether p is anybody.
func (p Peer) IsZero() bool { return p == Peer{} }

// String returns p as the spec writes it: "web1", "web1/red", "network red",
// "set admins", "10.0.20.1" or "10.0.20.0/24".
func (p Peer) String() string {
	switch {
	case p.Prefix.IsSingleIP():
		return p.Prefix.Addr().String()
	case p.Prefix.IsValid():
		return p.Prefix.String()
	case p.Set != "":
		return setPrefix + p.Set
	case p.Guest == "" && p.Network == "":
		return ""
	case p.Guest == "":
		return networkPrefix + p.Network
	case p.Network != "":
		return p.Guest + "/" + p.Network
	}
	return p.Guest
}

// MarshalText implements [encoding.TextMarshaler].
func (p Peer) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. Whether there is such a
// guest, network or set is for [Topology.Validate] to say.
func (p *Peer) UnmarshalText(data []byte) error {
	text := strings.TrimSpace(string(data))
	*p = Peer{}
	if prefix, err := ParsePrefix(text); err == nil {
		p.Prefix = prefix
		return nil
	}
	if name, ok := strings.CutPrefix(text, networkPrefix); ok {
		p.Network = strings.TrimSpace(name)
	} else if name, ok := strings.CutPrefix(text, setPrefix); ok {
		p.Set = strings.TrimSpace(name)
	} else {
		p.Guest, p.Network, _ = strings.Cut(text, "/")
	}
	return nil
}

// ParsePrefix reads a prefix or an address, which is the prefix of itself alone.
func ParsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a prefix: want one such as 10.0.20.11 or 10.0.20.0/24", text)
	}
	return prefix.Masked(), nil
}

// PeerPrefixes is the addresses of p, each once, and none for anybody or for
// names that refer to nothing.
func (t *Topology) PeerPrefixes(p Peer) []netip.Prefix {
	switch {
	case p.Prefix.IsValid():
		return []netip.Prefix{p.Prefix}
	case p.Set != "":
		set, _ := t.AddressSet(p.Set)
		return set.Addresses
	case p.Guest == "":
		n, _ := t.Network(p.Network)
		if !n.Subnet.IsValid() {
			return nil
		}
		return []netip.Prefix{n.Subnet}
	}
	var list []netip.Prefix
	guest, _ := t.Guest(p.Guest)
	for _, nic := range guest.NICs {
		if (p.Network == "" || nic.Network == p.Network) && nic.Address.IsValid() {
			list = append(list, netip.PrefixFrom(nic.Address, nic.Address.BitLen()))
		}
	}
	return list
}

// MTUFor is the MTU of a network on s unless the spec says another: that of the
// overlay, or zero where frames do not go through tunnels only.
func (s Switch) MTUFor(n Network) int {
	if s.Driver != DriverOVN || n.Switch != s.Name || n.Logical.Localnet.Physical != "" {
		return 0
	}
	if mtu := s.Overlay.MTU(); mtu >= MinMTU {
		return mtu
	}
	return 0 // which is the switch's problem
}

// Complete fills in what follows from the rest: the MTU of networks that are
// carried through tunnels.
func (t *Topology) Complete() {
	for i := range t.Networks {
		n := &t.Networks[i]
		if sw, ok := t.Switch(n.Switch); ok && n.MTU == 0 {
			n.MTU = sw.MTUFor(*n)
		}
	}
}

// Router returns the router of that name.
func (t *Topology) Router(name string) (Router, bool) {
	return find(t.Routers, func(r Router) bool { return r.Name == name })
}

// AddressSet returns the address set of that name.
func (t *Topology) AddressSet(name string) (AddressSet, bool) {
	return find(t.AddressSets, func(s AddressSet) bool { return s.Name == name })
}

// maxACLs is how many ACLs a network can have without priorities.
const maxACLs = 2000

// Priorities are those of the ACLs, in their order.
func (l Logical) Priorities() []int {
	list := make([]int, len(l.ACLs))
	for i, acl := range l.ACLs {
		list[i] = acl.Priority
		if list[i] == 0 {
			list[i] = maxACLs - i
		}
	}
	return list
}

// GroupName is the name of the port group of a network's guests in OVN, whose
// names are letters, digits and _.
func GroupName(network string) string {
	return "pg_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, network)
}
