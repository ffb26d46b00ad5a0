// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package linux drives the Linux kernel bridge over rtnetlink.
//
// What is read of a port comes from one RTM_GETLINK message, because the
// kernel puts the bridge's port attributes (IFLA_BRPORT_*, ip-link(8) and
// bridge(8)) into IFLA_INFO_SLAVE_DATA there; its VLANs come from one
// RTM_GETVLAN. What is written takes two messages, three where VLANs are
// removed.
//
// VLANs need a kernel with CONFIG_BRIDGE_VLAN_FILTERING, Linux 5.6 or later
// (RTM_GETVLAN), and a bridge with vlan_filtering on; [Driver.Capabilities]
// says which of them is missing.
//
// A port of ours carries a mark as its interface alias:
// "virt-vnet guest=UUID mac=MAC network=NAME". A port with another alias is
// somebody else's, and is never changed. The words "guarded" and "shaped" in the
// mark say that there is more of the port elsewhere: its guard and priority in
// nftables (package guard), its rates in its queueing disciplines. Most ports
// have neither, and cost no look there.
//
// [Properties] lists what the driver can make a port do, and what each needs of
// the kernel. What only an attempt can tell is tried in a network namespace of
// its own.
//
// Out of scope: making bridges, their MTU, VLAN tunnels and per-VLAN options.
package linux
