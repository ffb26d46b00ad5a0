// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// The tables of a guard, and the one that every frame comes to first, which is
// not ours. A frame goes through them upwards.
const (
	tableFirst    = 0
	tableSource   = 240 // source MAC address
	tableProtocol = 241 // what it carries
	tableTarget   = 242 // whom an advertisement of IPv6 speaks for
	tableAddress  = 243 // source IP address
)

// priorityFirst is that of our flows in the first table: above all that others
// can have there.
const priorityFirst = 65535

// What becomes of a frame. One that passes comes to the first table once more,
// with a bit set by which our flow there knows it, and so to whatever flows
// others have, which see no other difference.
const (
	notSeen = "reg15=0/0x80000000"
	pass    = "load:1->NXM_NX_REG15[31],resubmit(,0)"
	drop    = "drop"
)

func next(table int) string { return fmt.Sprintf("resubmit(,%d)", table) }

// Our cookies: the upper half says whose the flow is, the lower which port it
// goes for.
const (
	cookieMark = 0x76697274 << 32 // "virt"
	cookieMask = 0xffffffff << 32
)

func cookieOf(port int) uint64 { return cookieMark | uint64(port) }

// flow is one flow of a guard. The match says nothing of the port, which is in
// all of them.
type flow struct {
	table, priority int
	match           string
	actions         string
}

// filter is what our flows do with what comes from a port: they keep it to a
// guard, and meter it.
type filter struct {
	guard    switchcfg.Guard
	outbound vnet.Rate
}

func (f filter) isZero() bool { return f.equal(filter{}) }

func (f filter) equal(other filter) bool {
	return f.guard.Equal(other.guard) && f.outbound == other.outbound
}

// filterFlows are the flows that make up a filter of a port.
func filterFlows(port int, f filter) []flow {
	flows := guardFlows(f.guard)
	if f.outbound.Bits == 0 {
		return flows
	}
	meter := fmt.Sprintf("meter:%d,", meterOf(port))
	if len(flows) == 0 {
		return []flow{{tableFirst, priorityFirst, notSeen, meter + pass}}
	}
	flows[0].actions = meter + flows[0].actions
	return flows
}

// guardFlows are the flows that make up a guard, that of the first table first. What Open vSwitch cannot look
// into it drops: a second tag (with other_config:vlan-limit=2 it can), and any
// frame with an 802.2 header but SNAP's with an Ethernet type, which it reads
// as what they carry.
func guardFlows(g switchcfg.Guard) []flow {
	if g.IsZero() {
		return nil
	}
	w := guardWriter{Guard: g, any4: true, any6: true}
	for _, a := range g.Addresses {
		w.any4 = w.any4 && !a.Is4()
		w.any6 = w.any6 && !a.Is6()
	}
	w.add(tableFirst, priorityFirst, notSeen, next(tableSource))
	w.source()
	w.arp()
	w.ipv4()
	w.ipv6()
	w.neighbors()
	w.addresses()
	return w.flows
}

// guardWriter writes the flows of a guard. any4 and any6 say that the guest may
// use any address of that kind.
type guardWriter struct {
	switchcfg.Guard
	any4, any6 bool
	flows      []flow
}

func (w *guardWriter) add(table, priority int, match, actions string) {
	w.flows = append(w.flows, flow{table, priority, match, actions})
}

// The priorities: exceptions come before what is allowed, and what is allowed
// before the rest.
const (
	priorityException = 60
	priorityHidden    = 50
	priorityAllowed   = 40
	priorityOther     = 20
	priorityRest      = 10
)

// to is next, or pass where there is nothing more to look at.
func (w *guardWriter) to(table int, nothing bool) string {
	if nothing {
		return pass
	}
	return next(table)
}

func (w *guardWriter) source() {
	const notEthernetType = "dl_type=0x05ff"
	for _, hidden := range []string{"dl_type=0x8100", "dl_type=0x88a8", notEthernetType} {
		w.add(tableSource, priorityHidden, hidden, drop)
	}
	for _, mac := range w.MACs {
		w.add(tableSource, priorityAllowed, "dl_src="+mac.String(), next(tableProtocol))
	}
	if len(w.MACs) == 0 {
		w.add(tableSource, priorityRest, "", next(tableProtocol))
	} else {
		w.add(tableSource, priorityRest, "", drop)
	}
	w.add(tableProtocol, priorityRest, "", pass)
}

// arp looks at ARP (RFC 826). Of what is no ARP for IPv4 over Ethernet all
// fields are zero.
func (w *guardWriter) arp() {
	switch {
	case len(w.MACs) > 0:
		for _, mac := range w.MACs {
			w.add(tableProtocol, priorityAllowed, "arp,arp_sha="+mac.String(), w.to(tableAddress, w.any4))
		}
		w.add(tableProtocol, priorityOther, "arp", drop)
	case !w.any4:
		w.add(tableProtocol, priorityOther, "arp", next(tableAddress))
	}
}

// ipv4 looks at IPv4. The ports of fragments behind the first are zero.
func (w *guardWriter) ipv4() {
	if w.DHCP {
		// Servers and relays send from port 67, and only they send to port 68
		// (RFC 2131, section 4.1).
		w.add(tableProtocol, priorityHidden, "udp,tp_src=67", drop)
		w.add(tableProtocol, priorityHidden, "udp,tp_dst=68", drop)
		// Were the bridge not to tell the ports of first fragments.
		w.add(tableProtocol, priorityHidden, "udp,ip_frag=first,tp_dst=0", drop)
	}
	if !w.any4 {
		w.add(tableProtocol, priorityOther, "ip", next(tableAddress))
	}
}

// ipv6 looks at IPv6. Where Open vSwitch could not follow the header chain, or
// the first fragment does not have it all, numbers are zero that never are.
func (w *guardWriter) ipv6() {
	w.add(tableProtocol, priorityException, "ipv6,ip_frag=later", w.to(tableAddress, w.any6))
	for _, hidden := range []string{"ipv6,nw_proto=0", "icmp6,icmp_type=0", "udp6,tp_dst=0"} {
		w.add(tableProtocol, priorityHidden, hidden, drop)
	}
	if w.DHCP {
		// RFC 8415, section 7.2.
		w.add(tableProtocol, priorityHidden, "udp6,tp_src=547", drop)
		w.add(tableProtocol, priorityHidden, "udp6,tp_dst=546", drop)
	}
	if w.RA {
		w.add(tableProtocol, priorityHidden, "icmp6,icmp_type=134", drop) // advertisement
		w.add(tableProtocol, priorityHidden, "icmp6,icmp_type=137", drop) // redirect
	}
	if !w.any6 {
		w.add(tableProtocol, priorityOther, "ipv6", next(tableAddress))
	}
}

const (
	solicitation  = "icmp6,icmp_type=135,icmp_code=0"
	advertisement = "icmp6,icmp_type=136,icmp_code=0"
	noTarget      = ",nd_target=::"
	noMAC         = "00:00:00:00:00:00"
)

// neighbors looks at neighbor discovery (RFC 4861, section 4). Of a message that
// is malformed, or has an option twice, the target is zero.
func (w *guardWriter) neighbors() {
	afterAdvertisement := w.to(tableTarget, w.any6)
	if len(w.MACs) > 0 {
		for _, message := range []struct{ kind, match, option, then string }{
			{"icmp6,icmp_type=135", solicitation, ",nd_sll=", w.to(tableAddress, w.any6)},
			{"icmp6,icmp_type=136", advertisement, ",nd_tll=", afterAdvertisement},
		} {
			w.add(tableProtocol, priorityException, message.match+noTarget, drop)
			for _, mac := range w.MACs {
				w.add(tableProtocol, priorityHidden, message.match+message.option+mac.String(), message.then)
			}
			w.add(tableProtocol, priorityHidden, message.match+message.option+noMAC, message.then)
			w.add(tableProtocol, priorityAllowed, message.kind, drop)
		}
	} else if !w.any6 {
		w.add(tableProtocol, priorityAllowed, "icmp6,icmp_type=136", afterAdvertisement)
	}
	if w.any6 {
		return
	}
	for _, a := range w.Addresses {
		if a.Is6() {
			w.add(tableTarget, priorityAllowed, advertisement+",nd_target="+a.String(), next(tableAddress))
		}
	}
	w.add(tableTarget, priorityRest, "", drop)
}

// addresses looks at the source address, the last that is looked at.
func (w *guardWriter) addresses() {
	if w.any4 && w.any6 {
		return
	}
	for _, a := range w.Addresses {
		if a.Is4() {
			w.add(tableAddress, priorityAllowed, "ip,nw_src="+a.String(), pass)
			w.add(tableAddress, priorityAllowed, "arp,arp_spa="+a.String(), pass)
			continue
		}
		w.add(tableAddress, priorityAllowed, "ipv6,ipv6_src="+a.String(), pass)
		// From nowhere it asks whether somebody has the address that the guest is
		// about to use (RFC 4862, section 5.4.2).
		w.add(tableAddress, priorityAllowed, solicitation+",ipv6_src=::,nd_target="+a.String(), pass)
	}
	if !w.any4 {
		// A DHCP client without an address, and a probe for the address that the
		// guest is about to use (RFC 5227, section 2.1.1).
		w.add(tableAddress, priorityAllowed, "udp,nw_src=0.0.0.0,tp_src=68,tp_dst=67", pass)
		w.add(tableAddress, priorityAllowed, "arp,arp_op=1,arp_spa=0.0.0.0", pass)
	}
	if !w.any6 {
		// Before a link-local address is known to be free: router solicitations
		// (RFC 4861), and reports of multicast listeners (RFC 3590).
		for _, kind := range []int{133, 143, 131, 132} {
			w.add(tableAddress, priorityAllowed, fmt.Sprintf("icmp6,ipv6_src=::,icmp_type=%d", kind), pass)
		}
	}
	w.add(tableAddress, priorityRest, "", drop)
}

// text is the flow, for a port, as ovs-ofctl(8) reads it.
func (f flow) text(port int) string {
	match := f.match
	if match != "" {
		match += ","
	}
	return fmt.Sprintf("add cookie=%#x,table=%d,priority=%d,in_port=%d,%sactions=%s",
		cookieOf(port), f.table, f.priority, port, match, f.actions)
}

// dumped is a flow of ours as it is in the switch.
type dumped struct {
	port, table, priority int
	fields                map[string]string // of the match
	drops                 bool
	meter                 int // or zero
}

// parseFlows reads what "ovs-ofctl dump-flows" prints. Lines that are no flows
// of ours are skipped.
func parseFlows(text string) []dumped {
	var all []dumped
	for line := range strings.Lines(text) {
		match, actions, isFlow := strings.Cut(strings.TrimSpace(line), " actions=")
		if !isFlow {
			continue
		}
		f := dumped{fields: map[string]string{}, drops: actions == drop}
		if rest, metered := strings.CutPrefix(actions, "meter:"); metered {
			number, _, _ := strings.Cut(rest, ",")
			f.meter, _ = strconv.Atoi(number)
		}
		for word := range strings.FieldsFuncSeq(match, func(r rune) bool { return r == ',' || r == ' ' }) {
			key, value, _ := strings.Cut(word, "=")
			f.fields[key] = value
		}
		cookie, err := strconv.ParseUint(f.fields["cookie"], 0, 64)
		if err != nil || cookie&cookieMask != cookieMark {
			continue
		}
		f.port = int(cookie &^ cookieMask)
		// Missing numbers are zero, as is the first table.
		f.table, _ = strconv.Atoi(f.fields["table"])
		f.priority, _ = strconv.Atoi(f.fields["priority"])
		if f.fields["in_port"] == strconv.Itoa(f.port) {
			all = append(all, f)
		}
	}
	return all
}

// guardIn is the guard that the flows of one port make up. Flows that make up
// none, because some are missing or others were added, are no guard.
func guardIn(flows []dumped) switchcfg.Guard {
	var g switchcfg.Guard
	for _, f := range flows {
		mac, err := vnet.ParseMAC(f.fields["dl_src"])
		if f.table == tableSource && err == nil {
			g.MACs = append(g.MACs, mac)
		}
		for _, key := range []string{"nw_src", "ipv6_src"} {
			a, err := netip.ParseAddr(f.fields[key])
			if f.table == tableAddress && err == nil && !a.IsUnspecified() {
				g.Addresses = append(g.Addresses, a)
			}
		}
		if f.table == tableProtocol && f.drops {
			g.DHCP = g.DHCP || f.fields["tp_src"] == "67"
			g.RA = g.RA || f.fields["icmp_type"] == "134"
		}
	}
	slices.SortFunc(g.MACs, func(a, b vnet.MAC) int { return slices.Compare(a[:], b[:]) })
	slices.SortFunc(g.Addresses, netip.Addr.Compare)
	whole := guardFlows(g)
	if len(whole) == 0 && slices.ContainsFunc(flows, func(f dumped) bool { return f.meter != 0 }) {
		return g
	}
	if !slices.Equal(shapes(whole, flow.shape), shapes(flows, dumped.shape)) {
		return switchcfg.Guard{}
	}
	return g
}

// shape is what tells whether flows are the ones that were put there, whatever
// way the version that runs has to write a match.
type shape struct {
	table, priority int
	drops           bool
}

func (f flow) shape() shape   { return shape{f.table, f.priority, f.actions == drop} }
func (f dumped) shape() shape { return shape{f.table, f.priority, f.drops} }

// shapes are sorted.
func shapes[F any](flows []F, of func(F) shape) []shape {
	all := make([]shape, len(flows))
	for i, f := range flows {
		all[i] = of(f)
	}
	slices.SortFunc(all, func(a, b shape) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return all
}
