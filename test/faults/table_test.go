// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package faults

import "github.com/virt-vnet/virt-vnet/verify"

// table is every fault, by where on the way of a frame it is.
func table() []fault {
	var all []fault
	for _, part := range [][]fault{ofGuests(), ofPorts(), ofVLANs()} {
		all = append(all, part...)
	}
	return all
}

// ofGuests are faults in a guest, or between it and its port.
func ofGuests() []fault {
	return []fault{
		{
			name:   "guest suspended",
			inject: sh("virsh -q suspend web1"),
			code:   verify.CodeDomainDown, subject: "guest web1", blames: []string{"web1 (lan)", "web1 (red)"},
			fixes: true,
		},
		{
			name:   "guest destroyed",
			inject: sh("virsh -q destroy db2"),
			code:   verify.CodeDomainDown, subject: "guest db2", blames: []string{"db2 (blue)", "db2 (edge)"},
			fixes: true, heal: up("db2"),
		},
		{
			name:   "NIC unplugged",
			inject: sh("virsh -q detach-interface db1 bridge --mac 52:54:00:00:10:12 --live"),
			code:   verify.CodeNICMissing, subject: "guest db1, NIC 52:54:00:00:10:12", blames: []string{"db1 (lan)"},
			fixes: true, heal: in("db1", "until ip link set eth1 up; do sleep 1; done; ip addr add 10.0.10.12/24 dev eth1"),
		},
		{
			name:   "link set down in libvirt",
			inject: sh("virsh -q domif-setlink db1 {db1/lan} down"),
			code:   verify.CodeLinkDown, subject: "guest db1, NIC {db1/lan}", blames: []string{"db1 (lan)"},
			fixes: true,
		},
		{
			name:   "guest's interface down inside, and not heard of",
			inject: all(in("web1", "ip link set eth1 down"), sh("ip link set {web1/lan} type bridge_slave fdb_flush")),
			code:   verify.CodeMACNotLearned, subject: "guest web1, NIC {web1/lan}", blames: []string{"web1 (lan)"},
			heal: in("web1", "ip link set eth1 up"),
		},
		{
			name:   "ARP off in the guest",
			inject: in("web1", "ip link set eth1 arp off"),
			code:   verify.CodeNoARP, subject: "guest web1, NIC {web1/lan}", blames: []string{"web1 (lan)"},
			heal: in("web1", "ip link set eth1 arp on"),
		},
		{
			name:   "another address in the guest",
			inject: in("web1", "ip addr flush dev eth1; ip addr add 10.0.10.77/24 dev eth1"),
			code:   verify.CodeNoARP, subject: "guest web1, NIC {web1/lan}", blames: []string{"web1 (lan)"},
			heal: in("web1", "ip addr flush dev eth1; ip addr add 10.0.10.11/24 dev eth1"),
		},
		{
			name:   "guest ignores ICMP echo",
			inject: in("web1", "echo 1 >/proc/sys/net/ipv4/icmp_echo_ignore_all"),
			code:   verify.CodeICMPFiltered, subject: "guest web1", blames: []string{"web1 (lan)", "web1 (red)"},
			heal: in("web1", "echo 0 >/proc/sys/net/ipv4/icmp_echo_ignore_all"),
		},
	}
}

// ofPorts are faults of a guest's port that is no member of VLANs.
func ofPorts() []fault {
	return []fault{
		{
			name:   "tap taken off the bridge",
			inject: sh("ip link set {web1/lan} nomaster"),
			code:   verify.CodeWrongBridge, subject: "guest web1, NIC {web1/lan}", blames: []string{"web1 (lan)"},
			fixes: true,
		},
		{
			name:   "tap moved to another bridge",
			inject: sh("ip link set {web1/lan} master br3"),
			code:   verify.CodeWrongBridge, subject: "guest web1, NIC {web1/lan}", blames: []string{"web1 (lan)"},
			leaks: true, fixes: true,
		},
		{
			name:   "tap taken off Open vSwitch",
			inject: sh("ovs-vsctl del-port {web2/red}"),
			code:   verify.CodeWrongBridge, subject: "guest web2, NIC {web2/red}", blames: []string{"web2 (red)"},
			fixes: true,
		},
		{
			name:   "macvtap in another mode",
			inject: sh("ip link set {web2/edge} type macvtap mode vepa"),
			code:   verify.CodeWrongBridge, subject: "guest web2, NIC {web2/edge}", blames: []string{"web2 (edge)"},
			heal: sh("ip link set {web2/edge} type macvtap mode bridge"),
		},
		{
			name:   "tap set down",
			inject: sh("ip link set {web1/lan} down"),
			code:   verify.CodeLinkDown, subject: "guest web1, NIC {web1/lan}", blames: []string{"web1 (lan)"},
			fixes: true,
		},
		{
			name:   "isolated flag missing",
			inject: sh("bridge link set dev {app1/apart} isolated off"),
			code:   verify.CodeWrongIsolation, subject: "guest app1, NIC {app1/apart}", blames: []string{"app1 (apart)"},
			leaks: true, fixes: true,
		},
		{
			name:   "isolated flag where none should be",
			inject: sh("bridge link set dev {web1/lan} isolated on"),
			code:   verify.CodeWrongIsolation, subject: "guest web1, NIC {web1/lan}", blames: []string{"web1 (lan)"},
			fixes: true,
		},
		{
			name:   "MAC pinned to another port",
			inject: sh("bridge fdb replace 52:54:00:00:10:11 dev to-rogue master static sticky"),
			code:   verify.CodeMACOnWrongPort, subject: "guest web1, NIC {web1/lan}", blames: []string{"web1 (lan)"},
			heal: sh("bridge fdb del 52:54:00:00:10:11 dev to-rogue master"),
		},
		{
			name: "another machine sends from the guest's MAC",
			inject: sh("ip -n rogue link set eth0 down", "ip -n rogue link set eth0 address 52:54:00:00:10:11 up",
				"ip -n rogue addr add 10.0.10.66/24 dev eth0", "ip -n rogue neigh add 10.0.10.67 lladdr 52:54:00:00:10:67 dev eth0",
				"ip netns exec rogue busybox ping -i 0.02 10.0.10.67 >/dev/null 2>&1 & echo $! >/run/faults-rogue.pid"),
			code: verify.CodeMACOnWrongPort, subject: "guest web1, NIC {web1/lan}", blames: []string{"web1 (lan)"},
			heal: sh("kill $(cat /run/faults-rogue.pid)", "ip -n rogue addr flush dev eth0", "ip -n rogue link set eth0 down",
				"ip -n rogue link set eth0 address 52:54:00:ba:db:ad up"),
		},
		{
			name:   "two NICs with one MAC",
			inject: sh("virsh -q attach-interface app1 network lan --mac 52:54:00:00:10:11 --model virtio --live"),
			code:   verify.CodeMACDuplicate, subject: "MAC 52:54:00:00:10:11", blames: []string{"app1 (lan)", "web1 (lan)"},
			heal: sh("virsh -q detach-interface app1 bridge --mac 52:54:00:00:10:11 --live"),
		},
	}
}

// ofVLANs are faults of VLAN membership.
func ofVLANs() []fault {
	return []fault{
		{
			name:   "tag of a VLAN that nobody uses",
			inject: sh("ovs-vsctl set port {web1/red} tag=99"),
			code:   verify.CodeWrongVLAN, subject: "guest web1, NIC {web1/red}", blames: []string{"web1 (red)"},
			fixes: true,
		},
		{
			name:   "tag of another network's VLAN",
			inject: sh("ovs-vsctl set port {web1/red} tag=30"),
			code:   verify.CodeWrongVLAN, subject: "guest web1, NIC {web1/red}", blames: []string{"web1 (red)"},
			leaks: true, fixes: true,
		},
		{
			name:   "trunk without one of its VLANs",
			inject: sh("ovs-vsctl set port {app2/both} trunks=20,40"),
			code:   verify.CodeWrongVLAN, subject: "guest app2, NIC {app2/both}", blames: []string{"app2 (both)"},
			fixes: true,
		},
		{
			name:   "access port instead of a trunk",
			inject: sh("ovs-vsctl set port {app2/both} vlan_mode=access trunks=[]"),
			code:   verify.CodeWrongVLAN, subject: "guest app2, NIC {app2/both}", blames: []string{"app2 (both)"},
			fixes: true,
		},
		{
			name:   "native and tagged VLAN swapped",
			inject: sh("ovs-vsctl set port {app2/both} tag=30 trunks=20,40"),
			code:   verify.CodeWrongVLAN, subject: "guest app2, NIC {app2/both}", blames: []string{"app2 (both)"},
			leaks: true, fixes: true,
		},
		{
			name: "flow that forwards into another VLAN",
			inject: sh("ovs-ofctl add-flow ovs0 priority=9,in_port=$(ovs-vsctl get interface {web1/red} ofport)," +
				"actions=NORMAL,output:$(ovs-vsctl get interface {db1/blue} ofport)"),
			code: verify.CodeLeak, subject: "network red to network blue", blames: []string{"db1 (blue)", "web1 (red)"},
			leaks: true, heal: sh("ovs-ofctl --strict del-flows ovs0 priority=9,in_port=$(ovs-vsctl get interface {web1/red} ofport)"),
		},
		{
			name:   "gateway dead",
			inject: sh("ip -n gw-red link set eth0 down"),
			code:   verify.CodeGatewayUnreachable, subject: "network red", blames: []string{"web1 (red)", "web2 (red)"},
			heal: sh("ip -n gw-red link set eth0 up"),
		},
	}
}
