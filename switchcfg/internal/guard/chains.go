// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard

import (
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// chains returns the chains of the table, the base chain last, as those that a
// chain leads to come before it.
//
// Every chain lets through what reaches its end. Where a rule needs something
// that may not be in the frame, it asks for what is allowed: a rule that cannot
// look at its field does not match.
func chains() []chain {
	var all []chain
	for _, some := range [][]chain{ipv6SourceChains(), neighborChains(), ipv6Chains(), ipv4Chains(), arpChains()} {
		all = append(all, some...)
	}
	return append(all,
		chain{"port", []rule{
			prioritize(),
			combine(etherSource().notAllowed(macs), from(macPorts)).drop("source MAC address"),
			etherType(unix.ETH_P_IP).to("ipv4_packet"),
			etherType(unix.ETH_P_IPV6).to("ipv6_packet"),
			etherType(unix.ETH_P_ARP).to("arp_packet"),
			etherType(unix.ETH_P_8021Q).to("hidden"),
			etherType(unix.ETH_P_8021AD).to("hidden"),
			// Bridges' own frames (IEEE 802.1D, 7.12.3), and Cisco's for each VLAN.
			// With STP on, the bridge takes the former for itself; without it would
			// pass them on.
			combine(etherType(unix.ETH_P_802_2), etherDestination().is(0x01, 0x80, 0xc2, 0, 0, 0), from(macPorts)).drop("spanning tree"),
			combine(etherType(unix.ETH_P_802_2), etherDestination().is(0x01, 0, 0x0c, 0xcc, 0xcc, 0xcd), from(macPorts)).drop("spanning tree"),
			// What guests of some systems read as if it were Ethernet II (RFC 1042,
			// IEEE 802.1H).
			combine(etherType(unix.ETH_P_802_2), network(0, 6).is(0xaa, 0xaa, 3, 0, 0, 0)).to("hidden"),
			combine(etherType(unix.ETH_P_802_2), network(0, 6).is(0xaa, 0xaa, 3, 0, 0, 0xf8)).to("hidden"),
		}},
		chain{prerouting, []rule{from(ports).through("port")}},
	)
}

// hidden is where a frame ends up that does not show what it carries.
func hidden() chain {
	const why = "hides what it carries"
	c := chain{name: "hidden"}
	for _, s := range []set{macPorts, ipv4Ports, ipv6Ports, dhcpPorts, raPorts} {
		c.rules = append(c.rules, from(s).drop(why))
	}
	return c
}

// arpChains look at ARP (RFC 826).
func arpChains() []chain {
	const (
		format = "not ARP for IPv4 over Ethernet"
		sender = "ARP sender"
	)
	senderIP, operation := network(14, 4), network(6, 2)
	return []chain{
		{"arp_address", []rule{
			senderIP.allowed(ipv4).pass(),
			notFrom(ipv4Ports).pass(),
			// A probe for an address that the guest is about to use (RFC 5227, 2.1.1).
			combine(operation.is(0, 1), senderIP.is(0, 0, 0, 0)).pass(),
			match{}.drop(sender + " IP address"),
		}},
		{"arp_sender", []rule{
			network(8, 6).allowed(macs).to("arp_address"),
			from(macPorts).drop(sender + " MAC address"),
			match{}.to("arp_address"),
		}},
		{"arp_packet", []rule{
			network(0, 6).is(0, 1, 8, 0, 6, 4).to("arp_sender"),
			from(macPorts).drop(format),
			from(ipv4Ports).drop(format),
		}},
	}
}

// ipv4Chains look at IPv4 packets.
func ipv4Chains() []chain {
	source, sport, dport := network(12, 4), transport(0, 2), transport(2, 2)
	fragmentOffset := network(6, 2)
	const offsetBits = 0x1fff
	return []chain{
		{"ipv4_source", []rule{
			source.allowed(ipv4).pass(),
			notFrom(ipv4Ports).pass(),
			match{}.drop("source IPv4 address"),
		}},
		{"ipv4_udp", []rule{
			// Servers and relays send from port 67, and only they send to port 68
			// (RFC 2131, section 4.1). Clients look at the latter only.
			combine(sport.is(0, 67), from(dhcpPorts)).drop("DHCP server"),
			combine(dport.is(0, 68), from(dhcpPorts)).drop("DHCP server"),
			// A DHCP client that has no address yet.
			combine(source.is(0, 0, 0, 0), transport(0, 4).is(0, 68, 0, 67)).pass(),
			match{}.to("ipv4_source"),
		}},
		{"ipv4_packet", []rule{
			// Some kernels take the data of later fragments for ports.
			combine(carries(unix.IPPROTO_UDP), fragmentOffset.masked(offsetBits, expr.CmpOpEq)).to("ipv4_udp"),
			match{}.to("ipv4_source"),
		}},
	}
}

// The types of ICMPv6 messages (RFC 4443, 4861, 2710, 3810).
const (
	listenerReport        = 131
	listenerDone          = 132
	routerSolicitation    = 133
	routerAdvertisement   = 134
	neighborSolicitation  = 135
	neighborAdvertisement = 136
	redirect              = 137
	listenerReport2       = 143
)

func icmpv6Type() field { return transport(0, 1) }

// ipv6Chains look at IPv6 packets.
func ipv6Chains() []chain {
	sport, dport := transport(0, 2), transport(2, 2)
	return []chain{
		hidden(),
		{"icmpv6_message", []rule{
			laterFragment().to("ipv6_source"),
			icmpv6Type().is(neighborSolicitation).to("solicitation"),
			icmpv6Type().is(neighborAdvertisement).to("advertisement"),
			combine(icmpv6Type().is(routerAdvertisement), from(raPorts)).drop("router advertisement"),
			combine(icmpv6Type().is(redirect), from(raPorts)).drop("redirect"),
			icmpv6Type().isNot(0).to("ipv6_source"), // 0 is reserved
			match{}.to("hidden"),
		}},
		{"ipv6_udp", []rule{
			laterFragment().to("ipv6_source"),
			// As with IPv4: RFC 8415, section 7.2.
			combine(sport.is(2, 0x23), from(dhcpPorts)).drop("DHCPv6 server"), // 547
			combine(dport.is(2, 0x22), from(dhcpPorts)).drop("DHCPv6 server"), // 546
			dport.isNot(0, 0).to("ipv6_source"),
			match{}.to("hidden"),
		}},
		{"ipv6_packet", []rule{
			carries(unix.IPPROTO_ICMPV6).to("icmpv6_message"),
			carries(unix.IPPROTO_UDP).to("ipv6_udp"),
			carriesNot(unix.IPPROTO_ICMPV6).to("ipv6_source"),
			// The kernel could not follow the header chain.
			laterFragment().to("ipv6_source"),
			match{}.to("hidden"),
		}},
	}
}

func ipv6Source() field { return network(8, 16) }

// ipv6SourceChains look at the source address, the last that is looked at.
func ipv6SourceChains() []chain {
	const why = "source IPv6 address"
	var none [16]byte
	return []chain{
		{"ipv6_unspecified", []rule{
			icmpv6Type().is(routerSolicitation).pass(),
			// Before a link-local address is known to be free (RFC 3590).
			icmpv6Type().is(listenerReport2).pass(),
			icmpv6Type().is(listenerReport).pass(),
			icmpv6Type().is(listenerDone).pass(),
			match{}.drop(why),
		}},
		{"ipv6_source", []rule{
			ipv6Source().allowed(ipv6).pass(),
			notFrom(ipv6Ports).pass(),
			combine(ipv6Source().is(none[:]...), carries(unix.IPPROTO_ICMPV6)).to("ipv6_unspecified"),
			match{}.drop(why),
		}},
	}
}

// neighborChains look at neighbor discovery (RFC 4861, section 4). Its messages
// come without extension headers, so their length tells what options they have:
// without, it is 24, and each that is allowed here has 8.
func neighborChains() []chain {
	const option = "neighbor discovery option"
	var none [16]byte
	target, optionHeader, linkLayer := transport(8, 16), transport(24, 2), transport(26, 6)
	lengthAndNext := network(4, 3)
	bare := lengthAndNext.is(0, 24, unix.IPPROTO_ICMPV6)
	oneOption := func(kind byte) match {
		return combine(lengthAndNext.is(0, 32, unix.IPPROTO_ICMPV6), optionHeader.is(kind, 1))
	}
	const sourceLinkLayer, targetLinkLayer, nonce = 1, 2, 14
	return []chain{
		{"solicitation_target", []rule{
			ipv6Source().isNot(none[:]...).to("ipv6_source"),
			// From nowhere it asks whether somebody has the address that the guest
			// is about to use (RFC 4862, section 5.4.2).
			target.allowed(ipv6).pass(),
			notFrom(ipv6Ports).pass(),
			match{}.drop("duplicate address detection"),
		}},
		{"solicitation", []rule{
			notFrom(macPorts).to("solicitation_target"),
			bare.to("solicitation_target"),
			combine(oneOption(sourceLinkLayer), linkLayer.allowed(macs)).to("solicitation_target"),
			oneOption(nonce).to("solicitation_target"), // RFC 7527
			match{}.drop(option),
		}},
		{"advertisement_target", []rule{
			target.allowed(ipv6).to("ipv6_source"),
			notFrom(ipv6Ports).pass(),
			match{}.drop("neighbor advertisement target"),
		}},
		{"advertisement", []rule{
			notFrom(macPorts).to("advertisement_target"),
			bare.to("advertisement_target"),
			combine(oneOption(targetLinkLayer), linkLayer.allowed(macs)).to("advertisement_target"),
			match{}.drop(option),
		}},
	}
}
