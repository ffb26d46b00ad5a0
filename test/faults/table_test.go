// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package faults

import (
	"testing"

	"github.com/virt-vnet/virt-vnet/verify"
)

// table is every fault, by where on the way of a frame it is.
func table() []fault {
	var all []fault
	for _, part := range [][]fault{ofGuests(), ofAddresses(), ofPorts(), ofVLANs(), ofSwitches(), ofServices()} {
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
			code:   verify.CodeDomainDown, subject: "guest db2", blames: []string{"db2 (blue)", "db2 (edge)", "db2 (six)"},
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
			inject: in("web1", "ip -4 addr flush dev eth1; ip addr add 10.0.10.77/24 dev eth1"),
			code:   verify.CodeNoARP, subject: "guest web1, NIC {web1/lan}", blames: []string{"web1 (lan)"},
			heal: in("web1", "ip -4 addr flush dev eth1; ip addr add 10.0.10.11/24 dev eth1"),
		},
		{
			name:   "address removed in the guest",
			inject: in("web1", "ip addr del 10.0.10.11/24 dev eth1"),
			code:   verify.CodeNoARP, subject: "guest web1, NIC {web1/lan}", blames: []string{"web1 (lan)"},
			heal: in("web1", "ip addr add 10.0.10.11/24 dev eth1"),
		},
		{
			name:   "guest ignores ICMP echo",
			inject: in("web1", "echo 1 >/proc/sys/net/ipv4/icmp_echo_ignore_all"),
			code:   verify.CodeICMPFiltered, subject: "guest web1", blames: []string{"web1 (lan)", "web1 (red)"},
			heal: in("web1", "echo 0 >/proc/sys/net/ipv4/icmp_echo_ignore_all"),
		},
	}
}

// ofAddresses are faults that have to do with addresses.
func ofAddresses() []fault {
	return []fault{
		{
			name:   "guest hung",
			inject: sh("kill -STOP $(cat /run/libvirt/qemu/web1.pid)"),
			code:   verify.CodeGuestSilent, subject: "guest web1", blames: []string{"web1 (lan)", "web1 (red)"},
			heal: sh("kill -CONT $(cat /run/libvirt/qemu/web1.pid)"),
		},
		{
			name:   "guest's interface down inside",
			inject: in("web1", "ip link set eth1 down"),
			code:   verify.CodeGuestSilent, subject: "guest web1, NIC {web1/lan}", blames: []string{"web1 (lan)"},
			heal: in("web1", "ip link set eth1 up"),
		},
		{
			name:   "address given twice",
			inject: sh("ip -n rogue addr add 10.0.10.11/24 dev eth0"),
			code:   verify.CodeAddressConflict, subject: "network lan, address 10.0.10.11", blames: []string{"web1 (lan)"},
			heal: sh("ip -n rogue addr flush dev eth0"),
		},
		{
			name:   "another machine answers for a silent guest",
			inject: all(in("web1", "ip link set eth1 down"), sh("ip -n rogue addr add 10.0.10.11/24 dev eth0")),
			code:   verify.CodeAddressConflict, subject: "network lan, address 10.0.10.11", blames: []string{"web1 (lan)"},
			heal: all(in("web1", "ip link set eth1 up"), sh("ip -n rogue addr flush dev eth0")),
		},
		{
			name: "gateway answers for everybody",
			inject: sh("ip netns exec gw-lan sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.eth0.proxy_arp_pvlan=1" +
				" net.ipv4.neigh.eth0.proxy_delay=0"),
			code: verify.CodeAddressConflict, subject: "network lan", blames: []string{"db1 (lan)", "web1 (lan)"},
			heal: sh("ip netns exec gw-lan sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.eth0.proxy_arp_pvlan=0"),
		},
		{
			name:   "IPv6 address missing in the guest",
			inject: in("web2", "ip -6 addr del fd00:60::12/64 dev eth2"),
			code:   verify.CodeNoND, subject: "guest web2, NIC {web2/six}", blames: []string{"web2 (six)"},
			heal: in("web2", "ip -6 addr add fd00:60::12/64 dev eth2"),
		},
		{
			name:   "DHCP server dead",
			inject: all(sh(stopDHCP), in("app1", askDHCP)),
			code:   verify.CodeNoDHCPOffer, subject: "network pool", blames: []string{"app1 (pool)"},
			heal: all(sh(startDHCP), in("app1", hasDHCP)),
		},
		{
			name: "DHCP offers with a bad checksum",
			inject: all(sh("ip netns exec gw-pool nft 'add table ip bad; add chain ip bad out { type filter hook output priority 0; };"+
				" add rule ip bad out udp sport 67 udp checksum set 0xbad'"), in("app1", askDHCP)),
			code: verify.CodeDHCPNotTaken, subject: "guest app1, NIC {app1/pool}", blames: []string{"app1 (pool)"},
			heal: all(sh("ip netns exec gw-pool nft delete table ip bad"), in("app1", hasDHCP)),
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
			name:   "port that Open vSwitch does not take up",
			inject: sh("ovs-vsctl --no-wait set interface {web2/red} type=bogus; ovs-vsctl --timeout=5 wait-until interface {web2/red} ofport=-1"),
			code:   verify.CodePortRefused, subject: "guest web2, NIC {web2/red}", blames: []string{"web2 (red)"},
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
			inject: sh("virsh -q attach-interface app1 network lan --mac 52:54:00:00:10:11 --model virtio --live", "virt-vnet repair app1 >/dev/null"),
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
		{
			name:   "gateway answers nobody",
			inject: sh("ip netns exec gw-honest sysctl -qw net.ipv4.conf.eth0.arp_ignore=8"),
			code:   verify.CodeGatewayUnreachable, subject: "network honest", blames: []string{"app1 (honest)", "app2 (honest)"},
			heal: sh("ip netns exec gw-honest sysctl -qw net.ipv4.conf.eth0.arp_ignore=0"),
		},
	}
}

// ofSwitches are faults of a switch as a whole, of its way out, and of the path.
func ofSwitches() []fault {
	lan, apart := []string{"db1 (lan)", "web1 (lan)"}, []string{"app1 (apart)", "app2 (apart)"}
	ovs := []string{"app2 (both)", "db1 (blue)", "db2 (blue)", "web1 (red)", "web2 (red)"}
	return []fault{
		{
			name:   "bridge down",
			inject: sh("ip link set br1 down"),
			code:   verify.CodeSwitchDown, subject: "switch br1", blames: apart,
			fixes: true,
		},
		{
			name:   "Open vSwitch does not run",
			inject: killOVS,
			code:   verify.CodeSwitchDown, subject: "switch ovs0", blames: ovs,
			heal: startOVS,
		},
		{
			name:   "port not yet let through by spanning tree",
			inject: sh("ip link set br1 type bridge forward_delay 300 stp_state 1", "ip link set {app1/apart} down; ip link set {app1/apart} up"),
			code:   verify.CodeSTPBlocked, subject: "guest app1, NIC {app1/apart}", blames: []string{"app1 (apart)"},
			fixes: true, heal: sh("ip link set br1 type bridge stp_state 0"),
		},
		{
			name:   "uplink down",
			inject: sh("ip link set up0 down"),
			code:   verify.CodeUplinkDown, subject: "uplink up0", blames: lan,
			fixes: true,
		},
		{
			name:   "uplink taken off the bridge",
			inject: sh("ip link set up0 nomaster"),
			code:   verify.CodeUplinkDown, subject: "uplink up0", blames: lan,
			fixes: true,
		},
		{
			name:   "uplink of Open vSwitch down",
			inject: sh("ip link set up1 down"),
			code:   verify.CodeUplinkDown, subject: "uplink up1", blames: ovs,
			fixes: true,
		},
		{
			name:   "uplink taken off Open vSwitch",
			inject: sh("ovs-vsctl del-port up1"),
			code:   verify.CodeUplinkDown, subject: "uplink up1", blames: ovs,
			fixes: true,
		},
		{
			name:   "uplink without a VLAN",
			inject: sh("ovs-vsctl set port up1 trunks=20,40"),
			code:   verify.CodeUplinkVLAN, subject: "uplink up1", blames: []string{"app2 (both)", "db1 (blue)", "db2 (blue)"},
			fixes: true, heal: sh("ovs-vsctl clear port up1 trunks"),
		},
		{
			name:   "MTU of the tap too small",
			inject: sh("ip link set {web1/lan} mtu 1400"),
			code:   verify.CodeMTUMismatch, subject: "guest web1, NIC {web1/lan}", blames: []string{"web1 (lan)"},
			fixes: true,
		},
		{
			name:   "MTU of the bridge too small",
			inject: sh("ip link set br1 mtu 1400"),
			code:   verify.CodeMTUMismatch, subject: "switch br1", blames: apart,
			fixes: true,
		},
		{
			name:   "MTU of the uplink too small",
			inject: sh("ip link set up0 mtu 1400"),
			code:   verify.CodeMTUMismatch, subject: "uplink up0", blames: lan,
			fixes: true,
		},
		{
			name:   "path swallows long frames",
			inject: sh("ip -n gw-red link set eth0 mtu 1400"),
			code:   verify.CodePathMTU, subject: "network red", blames: []string{"web1 (red)", "web2 (red)"},
			heal: sh("ip -n gw-red link set eth0 mtu 1500"),
		},
		{
			name:   "guards flushed",
			inject: sh("nft delete table bridge virt_vnet"),
			code:   verify.CodeWrongSettings, subject: "switch br2", blames: []string{"app1 (honest)", "app2 (honest)"},
			fixes: true,
		},
		{
			name:   "rate limit removed",
			inject: sh("tc qdisc del dev {app1/honest} root"),
			code:   verify.CodeWrongSettings, subject: "guest app1, NIC {app1/honest}", blames: []string{"app1 (honest)"},
			fixes: true,
		},
		{
			name:   "BPDU guard off",
			inject: sh("bridge link set dev {web1/lan} guard off"),
			code:   verify.CodeWrongSettings, subject: "guest web1, NIC {web1/lan}", blames: []string{"web1 (lan)"},
			fixes: true,
		},
		{
			name:   "host's rule drops ARP",
			inject: sh("nft 'add table bridge evil; add chain bridge evil f { type filter hook forward priority 0; }; add rule bridge evil f arp daddr ip 10.0.10.11 counter drop'"),
			code:   verify.CodeFiltered, subject: "table bridge evil, chain f, rule 2", blames: []string{"web1 (lan)"},
			fixes: true, heal: sh("nft delete table bridge evil"),
		},
		{
			name:   "host's rule drops ICMP",
			inject: sh("nft 'add table bridge evil; add chain bridge evil f { type filter hook forward priority 0; }; add rule bridge evil f ip daddr 10.0.10.11 ip protocol icmp counter drop'"),
			code:   verify.CodeFiltered, subject: "table bridge evil, chain f, rule 2", blames: []string{"web1 (lan)"},
			fixes: true, heal: sh("nft delete table bridge evil"),
		},
		{
			name:   "bridged IP goes through the host's firewall",
			inject: sh("nft 'add table ip evil; add chain ip evil f { type filter hook forward priority 0; policy accept; }; add rule ip evil f ip daddr 10.0.10.0/24 counter drop'"),
			code:   verify.CodeBridgeNetfilter, subject: "br_netfilter", blames: lan,
			fixes: true, heal: sh("nft delete table ip evil", "sysctl -qw net.bridge.bridge-nf-call-iptables=1"),
		},
		{
			name:   "guest sends from an address that is not its own",
			inject: in("app1", "ip addr flush dev eth0; ip addr add 10.0.12.77/24 dev eth0"),
			code:   verify.CodeGuardDrops, subject: "guest app1, NIC {app1/honest}", blames: []string{"app1 (honest)"},
			heal: in("app1", "ip addr flush dev eth0; ip addr add 10.0.12.11/24 dev eth0"),
		},
	}
}

func killOVS(t *testing.T, s *site) {
	t.Helper()
	if err := s.Vswitchd().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func startOVS(t *testing.T, s *site) {
	t.Helper()
	if err := s.Vswitchd().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// ofServices are faults that only what the spec expects can show.
func ofServices() []fault {
	return []fault{
		{
			name:   "TCP service not running",
			inject: in("db1", "killall httpd"),
			code:   verify.CodeTCPRefused, subject: "web1/lan tcp db1/lan:80", blames: []string{"db1 (lan)", "web1 (lan)"},
			heal: in("db1", startHTTP),
		},
		{
			name:   "host's rule drops TCP",
			inject: sh("nft 'add table bridge evil; add chain bridge evil f { type filter hook forward priority 0; }; add rule bridge evil f tcp dport 80 counter drop'"),
			code:   verify.CodeTCPFiltered, subject: "web1/lan tcp db1/lan:80", blames: []string{"db1 (lan)", "web1 (lan)"},
			heal: sh("nft delete table bridge evil"),
		},
		{
			name:   "address beyond the uplink gone",
			inject: sh("ip -n gw-lan addr del 10.0.10.2/24 dev eth0"),
			code:   verify.CodeUnreachable, subject: "web1/lan reach 10.0.10.2", blames: []string{"web1 (lan)"},
			heal: sh("ip -n gw-lan addr add 10.0.10.2/24 dev eth0"),
		},
		{
			name:   "host's address on the device below a macvtap",
			inject: sh("ip link del eth1-host", "ip addr add 10.0.50.9/24 dev eth1"),
			code:   verify.CodeMacvtapHost, subject: "db2/edge reach 10.0.50.9", blames: []string{"db2 (edge)"},
			fixes: true, heal: sh("ip addr del 10.0.50.9/24 dev eth1", besideMacvtap),
		},
		{
			name: "router between networks that must not meet",
			inject: sh("ip link add way netns gw-red type veth peer name way netns gw-blue",
				"ip -n gw-red addr add 10.0.99.1/30 dev way; ip -n gw-red link set way up",
				"ip -n gw-blue addr add 10.0.99.2/30 dev way; ip -n gw-blue link set way up",
				"ip -n gw-red route add 10.0.30.0/24 via 10.0.99.2",
				"for gw in red blue; do ip netns exec gw-$gw sysctl -qw net.ipv4.ip_forward=1; done"),
			code: verify.CodeReachable, subject: "web1/red deny db1/blue", blames: []string{"db1 (blue)", "web1 (red)"},
			leaks: true,
			heal:  sh("ip -n gw-red link del way; for gw in red blue; do ip netns exec gw-$gw sysctl -qw net.ipv4.ip_forward=0; done"),
		},
		{
			name:   "DNS server dead",
			inject: sh(stopDNS),
			code:   verify.CodeDNSFailed, subject: "network red dns www.example.org", blames: []string{"web1 (red)", "web2 (red)"},
			heal: sh(startDNS),
		},
		{
			name: "lossy way to the gateway",
			inject: sh("ip netns exec gw-honest nft 'add table ip bad; add chain ip bad in { type filter hook input priority 0; };" +
				" add rule ip bad in ip protocol icmp numgen inc mod 2 0 drop'"),
			code: verify.CodeLossy, subject: "app1/honest to gateway latency <200ms loss <20%", blames: []string{"app1 (honest)"},
			heal: sh("ip netns exec gw-honest nft delete table ip bad"),
		},
		{
			name:   "gateway answers late",
			inject: slowGateway,
			code:   verify.CodeSlow, subject: "app1/honest to gateway latency <200ms loss <20%", blames: []string{"app1 (honest)"},
			heal: quickGateway,
		},
	}
}
