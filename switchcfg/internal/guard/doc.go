// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package guard keeps guests behind the ports of Linux bridges from sending what
// they may not, as [switchcfg.Guard] says it, and gives their frames a priority.
// It does so with one nftables table of the bridge family, virt_vnet, for all
// bridges of the network namespace.
//
// A port is known by its interface index, because the kernel reuses names such
// as vnet0 at once and indices hardly ever. There is no chain or rule per port:
// a port is some elements of hash sets, so that a frame's way through the table
// is equally long with one port and with thousands. A frame from a port that is
// not in the table costs one look into one set.
//
// The table is the kernel's state and not to be saved: what "nft list ruleset"
// prints of it names ports that do not exist at the next boot, and nft has no
// syntax for all of its rules.
//
// What a guarded port cannot send, beyond what [switchcfg.Guard] names: frames
// with a second VLAN tag, and IP or ARP behind an LLC/SNAP header (RFC 1042),
// with which guards of other makes are passed by (CERT/CC VU#855201), and IPv6
// packets whose header chain does not end in their first fragment (RFC 7112).
// Fragments behind the first pass if their source may: without the first,
// which was looked at, nobody can put them together.
//
// Out of scope: which guard a port is to have (package switchcfg), frames that
// do not come from a guest, tunnels, PPPoE, MPLS and 802.1X inside frames, ICMPv4
// redirects, routed networks.
package guard
