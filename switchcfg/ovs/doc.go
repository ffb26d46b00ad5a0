// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package ovs drives an Open vSwitch bridge through its database, OVSDB
// (RFC 7047; the columns are those of ovs-vswitchd.conf.db(5)).
//
// A plan is one transaction, and so all of it or nothing. The driver then waits
// until ovs-vswitchd has it in force (Open_vSwitch.cur_cfg catches up with
// next_cfg, as ovs-vsctl does), and reports what ovs-vswitchd could not do
// (Interface.error). The transaction is guarded: if anybody touched one of its
// ports since the driver looked, nothing happens and it looks again. Traffic
// that already flows follows within half a second at most, when ovs-vswitchd
// has revalidated the flows it cached (other_config:max-revalidator).
//
// A port of ours carries its mark in Port.external_ids: virt-vnet-guest,
// virt-vnet-mac and virt-vnet-network.
//
// VLANs: an access port has tag, a trunk has trunks, and vlan_mode is set only
// for a trunk with a native VLAN, just as libvirt writes them. The untagged
// port of [vnet.VLANSet] is tag=0. A port with neither tag nor trunks, the
// default of Open vSwitch, carries every VLAN and untagged frames besides: that
// is what "trunk: all" asks for. A tunnel is vlan_mode=dot1q-tunnel with tag, the
// service VLAN, and cvlans; Open vSwitch forwards frames with two tags only with
// other_config:vlan-limit at 2 or 0. What these cannot say is observed as the set's
// Extra.
//
// Guards ([switchcfg.Guard]) are OpenFlow flows with a cookie of ours,
// 0x76697274 in its upper half, in tables 240 to 243. In table 0 there is one for
// each guarded port, above whatever others have there: it sends what comes from
// the guest through those tables and then, if it may pass, back to table 0, where
// the flows of others see it as if there were no guard (but for the highest bit of
// register 15). ovs-ofctl(8) writes them, all of a plan at once or none. They
// need a bridge that tells the ports of first fragments ("ovs-ofctl set-frags
// nx-match"), which the first guard turns on. ovs-vswitchd forgets them when it
// ends; the next look tells. While it restarts the driver asks again, for a
// second. Against a Linux bridge there are these differences: a frame with an
// 802.2 header is dropped, unless it is SNAP's for an Ethernet type, which is
// looked into; so is a header chain of IPv6.
//
// A limit towards a guest is a linux-htb QoS with one queue, whose rows have
// external_ids:virt-vnet-port; one from a guest is an OpenFlow meter, 20000 and
// the port's number, which the flow in table 0 applies. The port's external_ids
// say what the limits are (virt-vnet-rates); they are observed only where the
// kernel's discipline, the flow and the meter are there.
//
// What the spec asks of the bridge itself stands in rows of Mirror, sFlow, NetFlow
// and IPFIX with external_ids:virt-vnet-switch, and in columns of the bridge. A
// guest's port gets into its mirrors in the transaction that wires it; mirrors
// refer to ports weakly, so that it leaves them when it is deleted. ERSPAN leaves
// by a port of the mirror's own. The uplink can be a bond that we make: a port with
// external_ids:virt-vnet-bond.
//
// Out of scope: making bridges, OVN, and databases on other hosts.
package ovs
