// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// healthy is a NIC in network red for which everything was found to be fine.
func healthy() *nic {
	n := &nic{
		NIC: &NIC{
			Want: vnet.Port{
				Device: "vnet0", Switch: "ovs0", MAC: macA, Network: "red",
				Policy: vnet.Policy{VLAN: vnet.VLANSet{Access: 20}},
			},
			Port: &Port{
				Switch: "ovs0", VLAN: &vnet.VLANSet{Access: 20}, Isolated: vnet.ToggleOff,
				Forwarding: Forwarding{State: stateForwarding},
			},
			Addresses: []Address{{ipA, AddressSpec}, {ip6A, AddressAgent}},
		},
		guest: vnet.GuestRef{Name: "web1", UUID: "u1"}, running: true, state: "running",
		network: &vnet.Network{
			Name: "red", Mode: vnet.ModeBridge, Switch: "ovs0",
			Subnet: netip.MustParsePrefix("10.0.20.0/24"), Gateway: netip.MustParseAddr("10.0.20.1"),
		},
		sw: &Switch{
			Switch:     vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS, Uplink: "eth0"},
			UplinkPort: &UplinkPort{Device: "eth0", VLAN: &vnet.VLANSet{Trunk: vnet.AllVLANs()}, Forwarding: Forwarding{State: stateForwarding}},
		},
		host: links{
			"eth0": {index: 3, up: true, carrier: true, mtu: 1500},
			"eth1": {index: 4, up: true, carrier: true, mtu: 1500},
		},
		link: link{index: 7, kind: "tun", up: true, carrier: true, mtu: 1500}, hasLink: true,
		segment: &segment{
			segmentKey: segmentKey{sw: "ovs0", vlan: 20}, device: "vv1",
			prober: &prober{source: netip.MustParseAddr("10.0.20.254"), heard: map[vnet.MAC]netip.Addr{}},
		},
		address: Address{ipA, AddressSpec}, address6: Address{ip6A, AddressAgent},
		fdb:     fdb{before: []Learned{{macA, 20, "vnet0"}}},
		gateway: gatewayProbe{asked: true, answered: true, icmp: true, asGuest: true, entered: true, heard: true},
	}
	n.probe = probe{asked: true, vantage: "vv1", target: target{addr: ipA, arp: true, icmp: true, rtt: time.Millisecond}}
	n.length = lengthProbe{want: 1500, passed: true}
	n.counted, n.in, n.out = true, flow{passed: 12}, flow{passed: 20, dropped: mostLost - 1}
	n.segment.gatewayLength = lengthProbe{want: 1500, passed: true}
	n.probe6 = probe{asked: true, vantage: "vv1", target: target{addr: ip6A, arp: true, icmp: true, rtt: time.Millisecond}}
	return n
}

// macvtapNIC is a healthy NIC on a macvtap.
func macvtapNIC() *nic {
	n := healthy()
	n.Want.Switch, n.Want.Policy, n.Port, n.sw = "", vnet.Policy{}, nil, nil
	n.network.Mode, n.network.Switch, n.network.Device = vnet.ModeMacvtap, "", "eth1"
	n.link = link{index: 8, kind: "macvtap", up: true, carrier: true, mtu: 1500, lower: 4}
	n.lower = "eth1"
	n.segment.segmentKey = segmentKey{lower: "eth1"}
	return n
}

func silent(n *nic) {
	n.fdb = fdb{again: true}
	n.probe.target, n.probe6.target = target{addr: ipA}, target{addr: ip6A}
	n.gateway = gatewayProbe{}
}

// hung makes n a guest that was heard before and is silent now, though frames
// are delivered to it.
func hung(n *nic) {
	n.probe.target, n.probe6.target = target{addr: ipA}, target{addr: ip6A}
	n.probe.watched, n.probe.delivered = true, 6
	n.probe6.watched, n.probe6.delivered = true, 6
}

// only6 leaves n its IPv6 address alone.
func only6(n *nic) {
	n.address, n.probe = Address{}, probe{}
	n.Addresses = n.Addresses[1:]
}

func TestLadderBrokenRung(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(*nic)
		start func() *nic
		rung  RungName
		code  string
		text  string // part of what was found, the evidence or the fix
	}{
		{"shut off", func(n *nic) { n.running, n.state = false, "shut off" }, healthy, RungDomain, CodeDomainDown, "virsh start web1"},
		{
			"libvirt does not know it", func(n *nic) { n.running, n.state, n.guest.UUID = false, "not defined", "" }, healthy,
			RungDomain, CodeDomainDown, "virsh list --all",
		},
		{"no state", func(n *nic) { n.running, n.state = false, "" }, healthy, RungDomain, CodeDomainDown, "not running"},
		{
			"guest's name has a space", func(n *nic) { n.running, n.guest.Name = false, "my web's" }, healthy,
			RungDomain, CodeDomainDown, `virsh start 'my web'\''s'`,
		},
		{
			"spec's NIC is missing", func(n *nic) { n.Want.Device, n.hasLink = "", false }, healthy,
			RungNIC, CodeNICMissing, "virt-vnet define interface web1 --network red",
		},
		{"device gone", func(n *nic) { n.hasLink = false }, healthy, RungNIC, CodeNICMissing, "no such device"},
		{"libvirt link down", func(n *nic) { n.LinkDown = true }, healthy, RungLink, CodeLinkDown, "virsh domif-setlink web1 vnet0 up"},
		{"device down", func(n *nic) { n.link.up = false }, healthy, RungLink, CodeLinkDown, "ip link set vnet0 up"},
		{"no carrier", func(n *nic) { n.link.carrier = false }, healthy, RungLink, CodeLinkDown, "nothing is at the guest's end"},
		{
			"device below a macvtap is down", func(n *nic) { n.link.carrier, n.host = false, links{"eth1": {}} }, macvtapNIC,
			RungLink, CodeLinkDown, "ip link set eth1 up",
		},
		{
			"macvtap without carrier", func(n *nic) { n.link.carrier, n.host = false, links{"eth1": {up: true}} }, macvtapNIC,
			RungLink, CodeLinkDown, "ethtool eth1",
		},
		{"other switch", func(n *nic) { n.Port.Switch = "br7" }, healthy, RungSwitch, CodeWrongBridge, "on switch br7"},
		{"no switch", func(n *nic) { n.Port.Switch = "" }, healthy, RungSwitch, CodeWrongBridge, "on no switch"},
		{"macvtap elsewhere", func(n *nic) { n.lower = "eth2" }, macvtapNIC, RungSwitch, CodeWrongBridge, "macvtap on eth2 in mode bridge"},
		{"macvtap mode", func(n *nic) { n.link.mode = vnet.MacvtapVEPA }, macvtapNIC, RungSwitch, CodeWrongBridge, "mode vepa"},
		{"tap for macvtap", func(n *nic) { n.link.kind = "tun" }, macvtapNIC, RungSwitch, CodeWrongBridge, "no macvtap"},
		{"other VLAN", func(n *nic) { n.Port.VLAN.Access = 30 }, healthy, RungVLAN, CodeWrongVLAN, "access 30"},
		{"no VLAN", func(n *nic) { n.Port.VLAN.Access = 0 }, healthy, RungVLAN, CodeWrongVLAN, "untagged"},
		{"switch without VLANs", func(n *nic) { n.Port.VLAN = nil }, healthy, RungVLAN, CodeWrongVLAN, "this switch has no VLANs"},
		{
			"trunk for access", func(n *nic) { *n.Port.VLAN = vnet.VLANSet{Trunk: vnet.AllVLANs()} }, healthy,
			RungVLAN, CodeWrongVLAN, "trunk 1-4094",
		},
		{
			"VLAN where none is wanted", func(n *nic) { n.Want.Policy.VLAN = vnet.VLANSet{} }, healthy,
			RungVLAN, CodeWrongVLAN, "access 20",
		},
		{"not isolated", func(n *nic) { n.Want.Policy.Isolated = true }, healthy, RungIsolated, CodeWrongIsolation, "isolated: off"},
		{
			"isolated without being asked", func(n *nic) { n.Port.Isolated = vnet.ToggleOn }, healthy,
			RungIsolated, CodeWrongIsolation, "isolated: on",
		},
		{
			"switch cannot isolate", func(n *nic) { n.Want.Policy.Isolated, n.Port.Isolated = true, vnet.ToggleLeave }, healthy,
			RungIsolated, CodeWrongIsolation, "isolated: off",
		},
		{"MAC twice in the inventory", func(n *nic) { n.twins = []string{"guest x, NIC vnet9 has it"} }, healthy, RungMAC, CodeMACDuplicate, "guest x"},
		{
			"MAC twice on the switch", func(n *nic) { n.fdb.before = append(n.fdb.before, Learned{macA, 20, "eth0"}) }, healthy,
			RungMAC, CodeMACDuplicate, "learned on vnet0 and eth0",
		},
		{
			"MAC elsewhere", func(n *nic) { n.fdb = fdb{before: []Learned{{macA, 20, "eth0"}}} }, healthy,
			RungMAC, CodeMACOnWrongPort, "learned on eth0",
		},
		{
			"MAC went away", func(n *nic) {
				n.fdb.again, n.fdb.after = true, []Learned{{macA, 20, "eth0"}}
			}, healthy, RungMAC, CodeMACOnWrongPort, "ovs-appctl fdb/show ovs0",
		},
		{"never spoke", silent, healthy, RungMAC, CodeMACNotLearned, "virsh console web1"},
		{
			"never spoke, though it was delivered", func(n *nic) { silent(n); n.probe.watched, n.probe.delivered = true, 6 }, healthy,
			RungMAC, CodeMACNotLearned, "6 requests were delivered to vnet0: the guest itself is silent",
		},
		{
			"nothing gets to it", func(n *nic) { silent(n); n.probe.watched = true }, healthy,
			RungMAC, CodeMACNotLearned, "no request was delivered to vnet0",
		},
		{
			"self-given address", func(n *nic) {
				n.address, n.address6 = Address{}, Address{}
				n.Addresses = []Address{{netip.MustParseAddr("169.254.7.7"), AddressAgent}}
			}, healthy, RungAddress, CodeNoAddress, "nobody served DHCP",
		},
		{
			"answers at no address", func(n *nic) { n.address, n.address6, n.Addresses, n.swept = Address{}, Address{}, nil, true }, healthy,
			RungAddress, CodeNoAddress, "it answers ARP at no address of 10.0.20.0/24",
		},
		{
			"learned before, asked everywhere, silent", func(n *nic) { n.probe.target.arp, n.swept = false, true }, healthy,
			RungARP, CodeNoARP, "asked for every address of 10.0.20.0/24",
		},
		{"no ARP", func(n *nic) { n.probe.target.arp = false }, healthy, RungARP, CodeNoARP, "no ARP answer"},
		{
			"other address", func(n *nic) { n.probe.target.arp = false; n.segment.prober.heard[macA] = ipB }, healthy,
			RungARP, CodeNoARP, "it uses 10.0.20.12",
		},
		{"hangs", hung, healthy, RungARP, CodeGuestSilent, "6 requests were delivered to vnet0"},
		{"macvtap hangs", hung, macvtapNIC, RungARP, CodeGuestSilent, "6 requests were delivered to vnet0"},
		{"hangs, IPv6 only", func(n *nic) { hung(n); only6(n) }, healthy, RungND, CodeGuestSilent, "6 requests were delivered to vnet0"},
		{
			"speaks, but not ARP", func(n *nic) {
				hung(n)
				n.sent = traffic{count: 3, kinds: []string{"neighbour advertisement for fe80::1"}}
			}, healthy, RungARP, CodeNoARP, "sent 3 frames meanwhile: neighbour advertisement for fe80::1",
		},
		{
			"speaks and is not learned", func(n *nic) { silent(n); n.sent.count = 3 }, healthy,
			RungMAC, CodeMACNotLearned, "the guest sends frames, of which ovs0 learns nothing",
		},
		{"no ND", func(n *nic) { n.probe6.target.arp = false }, healthy, RungND, CodeNoND, "though it answers ARP"},
		{"no ICMP", func(n *nic) { n.probe.target.icmp = false }, healthy, RungICMP, CodeICMPFiltered, "10.0.20.254"},
		{"no ICMPv6", func(n *nic) { n.probe6.target.icmp = false }, healthy, RungICMP, CodeICMPFiltered, "though it answers neighbour discovery"},
		{
			"gateway dead", func(n *nic) { n.gateway = gatewayProbe{asked: true} }, healthy,
			RungGateway, CodeGatewayUnreachable, "nobody in VLAN 20 of ovs0",
		},
		{
			"gateway silent to the guest alone", func(n *nic) { n.gateway.heard = false }, healthy,
			RungGateway, CodeGatewayUnreachable, "but not the guest on vnet0",
		},
		{
			"long frames do not pass", func(n *nic) { n.length = lengthProbe{want: 1500, longest: 1450, watched: true, target: &target{}} }, healthy,
			RungPathMTU, CodePathMTU, "none was delivered to vnet0",
		},
		{
			"the guest takes no frames of the stated length", func(n *nic) {
				n.length = lengthProbe{want: 9000, longest: 1500, stated: true, watched: true, delivered: 6, target: &n.probe.target}
			}, healthy, RungPathMTU, CodePathMTU, "ip link set mtu 9000",
		},
		{
			"long frames do not reach the gateway", func(n *nic) { n.segment.gatewayLength = lengthProbe{want: 1500, longest: 1450} }, healthy,
			RungPathMTU, CodePathMTU, "no more than 1450 do",
		},
		{
			"macvtap private, gateway silent", func(n *nic) { n.gateway = gatewayProbe{asGuest: true, entered: true} }, macvtapNIC,
			RungGateway, CodeGatewayUnreachable, "nobody in the macvtap network of eth1",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := test.start()
			test.spoil(n)
			n.climbAll()
			if n.problem == nil {
				t.Fatalf("no problem; rungs %+v", n.rungs)
			}
			if n.broken() != test.rung || n.problem.Code != test.code {
				t.Errorf("got %s at %s, want %s at %s", n.problem.Code, n.broken(), test.code, test.rung)
			}
			all := strings.Join(append([]string{n.problem.Want, n.problem.Got, n.problem.Fix}, n.problem.Evidence...), "\n")
			if !strings.Contains(all, test.text) {
				t.Errorf("nothing says %q:\n%s", test.text, all)
			}
			if n.problem.Fix == "" || n.problem.Want == "" || n.problem.Got == "" {
				t.Errorf("half a diagnosis: %+v", n.problem.Problem)
			}
			below := n.rungs[slices.IndexFunc(n.rungs, func(r *Rung) bool { return r.Name == test.rung })+1:]
			for _, r := range below {
				if r.Status != StatusNotReached {
					t.Errorf("rung %s below the broken one is %s, want not-reached", r.Name, r.Status)
				}
			}
			if n.status() != StatusFail {
				t.Errorf("status %s, want fail", n.status())
			}
		})
	}
}

func TestLadderNoFailure(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*nic)
		start  func() *nic
		rung   RungName
		status Status
		text   string
	}{
		{"switch not observed", func(n *nic) { n.sw.Err = errors.New("gone") }, healthy, RungSwitch, StatusInconclusive, "gone"},
		{
			"paused by libvirt", func(n *nic) { hung(n); n.running, n.state, n.held = false, "paused", "a migration" }, healthy,
			RungDomain, StatusInconclusive, "paused web1 for a migration",
		},
		{"port not observed", func(n *nic) { n.Port = nil }, healthy, RungVLAN, StatusInconclusive, "not observed"},
		{"FDB not known", func(n *nic) { n.fdb = fdb{err: errors.New("no dump")} }, healthy, RungMAC, StatusInconclusive, "no dump"},
		{
			"silent and not asked", func(n *nic) { silent(n); n.probe, n.probe6 = probe{reason: "no vantage"}, probe{} }, healthy,
			RungMAC, StatusInconclusive, "no vantage",
		},
		{
			"address not known", func(n *nic) { n.address, n.address6, n.Addresses = Address{}, Address{}, nil }, healthy,
			RungAddress, StatusInconclusive, "qemu-guest-agent",
		},
		{"not asked", func(n *nic) { n.probe = probe{reason: "no vantage"} }, healthy, RungARP, StatusInconclusive, "no vantage"},
		{
			"gateway not asked", func(n *nic) { n.gateway = gatewayProbe{} }, healthy,
			RungGateway, StatusInconclusive, "could not be asked",
		},
		{
			"question to the gateway not seen entering", func(n *nic) { n.gateway.entered, n.gateway.heard = false, false }, healthy,
			RungGateway, StatusInconclusive, "not seen entering the port",
		},
		{
			"question to the gateway not seen entering, and no vantage", func(n *nic) { n.gateway = gatewayProbe{asGuest: true} }, macvtapNIC,
			RungGateway, StatusInconclusive, "not seen entering the port",
		},
		{
			"too busy to see the gateway's answer", func(n *nic) { n.gateway.heard, n.gateway.blind = false, true }, healthy,
			RungGateway, StatusInconclusive, "not every frame",
		},
		{
			"too busy to hear the gateway", func(n *nic) { n.gateway, n.probe.lost = gatewayProbe{asked: true}, 9 }, healthy,
			RungGateway, StatusInconclusive, "9 frames",
		},
		{
			"trunk without native", func(n *nic) { n.probe = probe{reason: "tagged", pointless: true} }, healthy,
			RungARP, StatusSkip, "tagged",
		},
		{
			"no subnet", func(n *nic) { n.probe.noICMP, n.address6 = "no subnet", Address{} }, healthy,
			RungICMP, StatusSkip, "no subnet",
		},
		{"no gateway", func(n *nic) { n.network.Gateway = netip.Addr{} }, healthy, RungGateway, StatusSkip, "no gateway in the spec"},
		{"is the gateway", func(n *nic) { n.network.Gateway = ipA }, healthy, RungGateway, StatusSkip, "it is the gateway"},
		{"learning off", func(n *nic) { n.Want.Policy.Learning = vnet.ToggleOff }, healthy, RungMAC, StatusSkip, "learning is off"},
		{
			"answers and is not learned", func(n *nic) { n.fdb = fdb{again: true} }, healthy,
			RungMAC, StatusSkip, "learns nothing",
		},
		{"IPv6 only", only6, healthy, RungAddress, StatusPass, ""},
		{"IPv6 only has no ARP", only6, healthy, RungARP, StatusSkip, "no IPv4 address"},
		{"IPv6 only has ICMP", only6, healthy, RungICMP, StatusPass, ""},
		{
			"IPv4 only", func(n *nic) { n.address6, n.probe6 = Address{}, probe{} }, healthy,
			RungND, StatusSkip, "no IPv6 address",
		},
		{
			"too busy to hear ARP", func(n *nic) { n.probe.target.arp, n.probe.lost = false, 9 }, healthy,
			RungARP, StatusInconclusive, "9 frames",
		},
		{
			"too busy to hear anything", func(n *nic) { silent(n); n.probe.lost, n.probe6.lost = 9, 9 }, healthy,
			RungMAC, StatusInconclusive, "9 frames",
		},
		{
			"vantage cannot send long frames", func(n *nic) { n.length = lengthProbe{reason: "its MTU is 1500"} }, healthy,
			RungPathMTU, StatusSkip, "its MTU is 1500",
		},
		{
			"firewall drops long echoes", func(n *nic) { n.length = lengthProbe{want: 1500, longest: 1028} }, healthy,
			RungPathMTU, StatusSkip, "a filter of long ones",
		},
		{
			"guest has a smaller MTU of its own", func(n *nic) {
				n.length = lengthProbe{want: 1500, longest: 1400, watched: true, delivered: 6}
			}, healthy, RungPathMTU, StatusPass, "",
		},
		{
			"too busy to see long answers", func(n *nic) { n.length = lengthProbe{want: 1500, longest: 1400, lost: 9} }, healthy,
			RungPathMTU, StatusInconclusive, "9 frames",
		},
		{
			"IPv6 gateway without a vantage", func(n *nic) {
				n.network.Gateway, n.gateway = netip.MustParseAddr("fe80::1"), gatewayProbe{}
			}, healthy, RungGateway, StatusSkip, "from a vantage only",
		},
		{"macvtap has no FDB", func(*nic) {}, macvtapNIC, RungMAC, StatusSkip, "no forwarding table"},
		{"macvtap has no VLAN", func(*nic) {}, macvtapNIC, RungVLAN, StatusSkip, "VLAN of eth1"},
		{"macvtap is where it should be", func(*nic) {}, macvtapNIC, RungSwitch, StatusPass, ""},
		{
			"heard in answer to the probe", func(n *nic) { n.fdb = fdb{again: true, after: n.fdb.before} }, healthy,
			RungMAC, StatusPass, "",
		},
		{
			"untagged where none is wanted", func(n *nic) {
				n.Want.Policy.VLAN, *n.Port.VLAN = vnet.VLANSet{}, vnet.VLANSet{}
			}, healthy, RungVLAN, StatusPass, "",
		},
		{
			"default PVID is untagged", func(n *nic) {
				n.Want.Policy.VLAN, *n.Port.VLAN, n.sw.Untagged = vnet.VLANSet{}, vnet.VLANSet{Access: 1}, 1
			}, healthy, RungVLAN, StatusPass, "",
		},
		{
			"no VLANs, none wanted", func(n *nic) { n.Want.Policy.VLAN, n.Port.VLAN = vnet.VLANSet{}, nil }, healthy,
			RungVLAN, StatusPass, "",
		},
		{
			"gateway seen from the vantage alone", func(n *nic) { n.gateway.asGuest, n.gateway.heard = false, false }, healthy,
			RungGateway, StatusPass, "",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := test.start()
			test.change(n)
			n.climbAll()
			if n.problem != nil {
				t.Fatalf("problem %s: %s", n.problem.Code, n.problem.Problem)
			}
			r := n.result().Rung(test.rung)
			if r.Status != test.status || !strings.Contains(r.Reason, test.text) {
				t.Errorf("rung %s is %s %q, want %s with %q", r.Name, r.Status, r.Reason, test.status, test.text)
			}
			want := StatusPass
			if test.status == StatusInconclusive {
				want = StatusInconclusive
			}
			if n.status() != want {
				t.Errorf("status %s, want %s", n.status(), want)
			}
		})
	}
}

func TestLadderHealthy(t *testing.T) {
	n := healthy()
	n.climbAll()
	var names []RungName
	for _, r := range n.rungs {
		names = append(names, r.Name)
		if r.Status != StatusPass {
			t.Errorf("rung %s is %s: %s", r.Name, r.Status, r.Reason)
		}
	}
	if diff := cmp.Diff(Rungs(), names); diff != "" {
		t.Errorf("rungs (-want +got):\n%s", diff)
	}
}

// The same MAC in another VLAN of the switch is another station.
func TestLearnKnowsVLANs(t *testing.T) {
	n := healthy()
	n.learn([]Learned{{macA, 30, "vnet9"}, {macA, 20, "vnet0"}}, nil, false)
	if diff := cmp.Diff([]Learned{{macA, 20, "vnet0"}}, n.fdb.before); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestLadderLength(t *testing.T) {
	static, all := len(staticSteps()), len(staticSteps())+len(liveSteps())
	if static != staticLength || all != ladderLength || len(Rungs()) != all {
		t.Errorf("%d static steps of %d, and %d names, want %d of %d", static, all, len(Rungs()), staticLength, ladderLength)
	}
}

// climbAll is the ladder as a run climbs it: live steps a second time, when more
// is known.
func (n *nic) climbAll() {
	n.climb(staticSteps(), nil)
	n.climbLive(liveSteps(), nil)
	n.climbLive(liveSteps(), nil)
}

// String is a rung in a test's words.
func (r *Rung) String() string {
	return fmt.Sprintf("%s %s %q %q", r.Name, r.Status, r.Reason, r.Evidence)
}

// Neighbours share what is said of both, and only that.
func TestLadderShared(t *testing.T) {
	first, second := healthy(), healthy()
	second.Want.Device, second.fdb.before[0].Device = "vnet1", "vnet1"
	first.climb(staticSteps(), nil)
	second.climb(staticSteps(), first)
	for i, r := range second.rungs {
		alike := reflect.DeepEqual(*r, *first.rungs[i])
		if shared := r == first.rungs[i]; shared != alike {
			t.Errorf("%v and %v: shared %v", r, first.rungs[i], shared)
		}
	}
	if second.rungs[0] != first.rungs[0] || second.rungs[3] == first.rungs[3] {
		t.Errorf("want the domain shared and the switch not: %v, %v", first.rungs, second.rungs)
	}
}

// A guest that was busy for a moment is not one whose port loses frames.
func TestConfirmLoss(t *testing.T) {
	at := func(passed, dropped uint64) link { return link{out: flow{passed: passed, dropped: dropped}} }
	for _, test := range []struct {
		name  string
		after link
		want  Status
	}{
		{"goes on", at(1100, 120), StatusFail},
		{"is over", at(1200, 101), StatusPass},
		{"device gone", link{}, StatusPass},
	} {
		n := healthy()
		n.out = flow{passed: 900, dropped: 100}
		n.confirmLoss(at(1000, 100), test.after)
		if got := n.judgeCounters(); got.status != test.want || len(got.evidence) == 0 {
			t.Errorf("%s: got %+v, want %s", test.name, got, test.want)
		}
	}
	n := healthy()
	if n.confirmLoss(at(1000, 100), at(1100, 100)); n.caughtUp {
		t.Error("a port that lost nothing has caught up")
	}
}
