// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package ovn drives OVN through its northbound database (ovn-nb(5)), and looks
// at this host's chassis through OVSDB (RFC 7047).
//
// A network is the logical switch of its name, with external_ids
// virt-vnet-network. A guest NIC is a logical switch port that is called by the
// NIC's interfaceid, which libvirt writes to the device's interface (iface-id), by
// which ovn-controller finds it. The port carries the mark virt-vnet-guest,
// virt-vnet-mac and virt-vnet-network.
//
// A plan is one transaction, and so all of it or nothing. The transaction is
// guarded: if anybody touched one of its ports since the driver looked, nothing
// happens and it looks again. The driver then waits until ovn-controller of this
// host has the port bound and its flows in (ovn-installed), and never for other
// hosts.
//
// A port asks for the chassis that it is to be on (requested-chassis). While a
// guest moves it asks for both, and is active on the second once the guest is
// heard from there (activation-strategy=rarp, from OVN 22.09). Whoever stops
// running the guest takes itself off; the last one removes the port.
//
// Anti-spoofing is port_security, and what that leaves open is closed for all
// ports of a port group by one rule each: virt_vnet_bpdu_guard and
// virt_vnet_dhcp_guard. Router advertisements pass before any rule, so that there
// is no guard for them. An isolated port is in virt_vnet_isolated and has an ACL
// of the logical switch, and limits are QoS rules there, both with virt-vnet-port.
//
// [Networks] makes the networks themselves, from any machine: the logical switch,
// its port group, DHCP options and ACLs, its port to a physical network, and
// routers with their load balancers. All of that carries virt-vnet-part=network
// besides whose it is (virt-vnet-network, virt-vnet-router,
// virt-vnet-address-set). It is compared as rows; rows without the mark, and keys
// of others in ours, stay as they are.
//
// Out of scope: making the integration bridge, and the southbound database, which
// is ovn-controller's.
package ovn
