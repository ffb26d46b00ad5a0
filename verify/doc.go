// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package verify finds out whether guests really have the network they were
// given, and says why not.
//
// [Run] takes an [Inventory], which the caller has collected once from libvirt
// and the switches, and walks a ladder for every NIC: is the guest running, its
// link up, its port on the right switch and VLAN, its MAC learned there, does
// it answer ARP, neighbour discovery and ICMP, does its gateway, do frames of
// full length pass. The first broken rung is the diagnosis; deeper rungs are not
// reached and count as no further failures.
// Then it lets guests speak to each other, without anything running in them,
// and proves that networks which must be apart are: the frame was seen entering
// the source's port, the target hears others, and nothing arrived there. What the
// spec expects besides is tried in the same way: ICMP echo, TCP and DNS with the
// guest's own addresses.
//
// Probes are raw frames (packet(7)). They never go through the host's IP stack,
// whose neighbour table is too small for many guests; they go to the MAC of the
// domain XML alone, so that no other guest hears them; and their source is a
// device in the guest's own VLAN.
//
// [Wait] does the same for guests that are booting: it first waits until all
// are up.
//
// What verify changes while it runs, and takes back in the end: a vantage per
// segment, which the switch's driver lends; for macvtap networks a macvlan
// beside the guests; one tap to inject frames with; and, while somebody stays
// silent, a table of nftables that makes the kernel tell which rule drops its
// frames. Probes refresh the rows of the guests under test in the switches'
// forwarding databases.
//
// Out of scope: collecting the inventory (cmd/virt-vnet does), repairing,
// history, what guests send into tagged VLANs, pairs of guests over IPv6 that no
// expectation names, and TLS, HTTP and what else is above TCP.
package verify
