// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// onBridge is a healthy NIC on a Linux bridge that tells VLANs apart.
func onBridge() *nic {
	n := healthy()
	n.Want.Switch, n.network.Switch, n.Port.Switch = br0, br0, br0
	n.sw.Name, n.sw.Driver = br0, vnet.DriverLinux
	n.host = maps.Clone(n.host)
	n.host[br0] = link{index: 2, kind: "bridge", up: true, carrier: true, mtu: 1500}
	n.host["vnet0"] = link{index: 7, master: 2, kind: "tun", up: true, carrier: true, mtu: 1500}
	setLink(n, "eth0", func(l *link) { l.master = 2 })
	return n
}

// setLink changes a device of the host, and the NIC's own if it is that.
func setLink(n *nic, name string, change func(*link)) {
	l := n.host[name]
	change(&l)
	n.host[name] = l
	if name == n.Want.Device {
		n.link = l
	}
}

func mtu(n int) func(*link) { return func(l *link) { l.mtu = n } }

func TestLadderSwitchBroken(t *testing.T) {
	for _, test := range []struct {
		name    string
		start   func() *nic
		spoil   func(*nic)
		rung    RungName
		code    string
		subject string
		got     string
		fix     string
	}{
		{
			"bridge down", onBridge, func(n *nic) { setLink(n, br0, func(l *link) { l.up = false }) },
			RungSwitch, CodeSwitchDown, "switch br0", "device br0 is down", "ip link set br0 up",
		},
		{
			"bridge gone", onBridge, func(n *nic) { delete(n.host, br0); n.sw.Err = errors.New("no such switch") },
			RungSwitch, CodeSwitchDown, "switch br0", "no such device", "ip link add br0 type bridge",
		},
		{
			"no bridge", onBridge, func(n *nic) { setLink(n, br0, func(l *link) { l.kind = "veth" }) },
			RungSwitch, CodeSwitchDown, "switch br0", "no bridge but a veth", "ip -d link show br0",
		},
		{
			"switch does not answer", healthy, func(n *nic) {
				n.sw.Err, n.sw.Fault = errors.New("does not answer"), &Fault{Got: "OVSDB does not answer", Fix: "systemctl start openvswitch-switch"}
			},
			RungSwitch, CodeSwitchDown, "switch ovs0", "OVSDB does not answer", "systemctl start",
		},
		{
			"Open vSwitch does not take the port up", healthy, func(n *nic) {
				n.Port.Refused, n.Port.RefusedRow = "could not open network device vnet0 (Invalid argument)", "Interface vnet0: ofport -1"
			},
			RungSwitch, CodePortRefused, "guest web1, NIC vnet0", "could not open network device vnet0 (Invalid argument)",
			"ovs-vsctl del-port ovs0 vnet0 && virt-vnet repair web1",
		},
		{
			"frames to the guest lost", onBridge, func(n *nic) { n.out = flow{passed: 900, dropped: 9, errors: 1} },
			RungCounters, CodePortDrops, "guest web1, NIC vnet0", "10 frames to the guest were lost", "ip link set vnet0 txqueuelen",
		},
		{
			"frames of the guest lost", onBridge, func(n *nic) { n.in = flow{passed: 900, errors: 100} },
			RungCounters, CodePortDrops, "guest web1, NIC vnet0", "100 frames of the guest were lost", "ip -s -s link show dev vnet0",
		},
		{
			"frames to the guest lost, macvtap", macvtapNIC, func(n *nic) { n.in = flow{dropped: 100} },
			RungCounters, CodePortDrops, "guest web1, NIC vnet0", "100 frames to the guest were lost", "txqueuelen",
		},
		{
			"port still learns", onBridge, func(n *nic) { n.Port.Forwarding = Forwarding{"learning", 11600 * time.Millisecond} },
			RungForwarding, CodeSTPBlocked, "guest web1, NIC vnet0", "learning, forwards in 12s", "sleep 13",
		},
		{
			"port closed by BPDU guard", onBridge, func(n *nic) { n.Port.Forwarding = Forwarding{State: "disabled"} },
			RungForwarding, CodeSTPBlocked, "guest web1, NIC vnet0", "disabled", "ip link set vnet0 down && ip link set vnet0 up",
		},
		{
			"port blocked", onBridge, func(n *nic) { n.Port.Forwarding = Forwarding{State: "blocking"} },
			RungForwarding, CodeSTPBlocked, "guest web1, NIC vnet0", "blocking", "bridge -d link show dev vnet0",
		},
		{
			"OVS port discards", healthy, func(n *nic) { n.Port.Forwarding = Forwarding{State: "discarding"} },
			RungForwarding, CodeSTPBlocked, "guest web1, NIC vnet0", "discarding", "ovs-vsctl list port vnet0",
		},
		{
			"settings differ", onBridge, func(n *nic) {
				n.Port.Differs = []Setting{{"bpdu guard", "on", "off"}, {"outbound rate", "10 Mbit/s", "none"}}
			},
			RungSettings, CodeWrongSettings, "guest web1, NIC vnet0", "bpdu guard: off; outbound rate: none", "virt-vnet repair web1",
		},
		{
			"tap smaller than the spec", onBridge, func(n *nic) { n.Want.MTU = 9000 },
			RungMTU, CodeMTUMismatch, "guest web1, NIC vnet0", "MTU 1500", "virt-vnet repair web1",
		},
		{
			"tap bigger than the spec", onBridge, func(n *nic) { n.Want.MTU = 1500; setLink(n, "vnet0", mtu(9000)) },
			RungMTU, CodeMTUMismatch, "guest web1, NIC vnet0", "MTU 9000", "virt-vnet repair web1",
		},
		{
			"libvirt's own network", onBridge, func(n *nic) { n.Want.MTU, n.network.Mode = 9000, vnet.ModeNAT },
			RungMTU, CodeMTUMismatch, "guest web1, NIC vnet0", "MTU 1500", "ip link set vnet0 mtu 9000",
		},
		{
			"tap smaller than the uplink", onBridge, func(n *nic) { setLink(n, "vnet0", mtu(1400)) },
			RungMTU, CodeMTUMismatch, "guest web1, NIC vnet0", "MTU 1400", "ip link set vnet0 mtu 1500",
		},
		{
			"tap smaller than its siblings", onBridge, func(n *nic) {
				n.sw.Uplink, n.sw.UplinkPort = "", nil
				setLink(n, "vnet0", mtu(1400))
				n.host["vnet1"] = link{index: 8, master: 2, mtu: 1450}
				delete(n.host, "eth0")
				n.link.master = 2
			},
			RungMTU, CodeMTUMismatch, "guest web1, NIC vnet0", "MTU 1400", "ip link set vnet0 mtu 1450",
		},
		{
			"bridge made smaller than all its ports", onBridge, func(n *nic) {
				n.Want.MTU = 9000
				setLink(n, "vnet0", mtu(9000))
				setLink(n, "eth0", mtu(9000))
			},
			RungMTU, CodeMTUMismatch, "switch br0", "MTU 1500", "ip link set br0 mtu 9000",
		},
		{
			"device below a macvtap", macvtapNIC, func(n *nic) { n.Want.MTU = 9000 },
			RungMTU, CodeMTUMismatch, "uplink eth1", "MTU 1500", "ip link set eth1 mtu 9000",
		},
		{
			"macvtap smaller than what is below", macvtapNIC, func(n *nic) { n.Want.MTU = 9000; setLink(n, "eth1", mtu(9000)) },
			RungMTU, CodeMTUMismatch, "guest web1, NIC vnet0", "MTU 1500", "ip link set vnet0 mtu 9000",
		},
		{
			"uplink gone", onBridge, func(n *nic) { delete(n.host, "eth0"); n.sw.UplinkPort = &UplinkPort{} },
			RungUplink, CodeUplinkDown, "uplink eth0", "no such device", "ip link show",
		},
		{
			"uplink off the bridge", onBridge, func(n *nic) {
				setLink(n, "eth0", func(l *link) { l.master = 0 })
				n.sw.UplinkPort = &UplinkPort{}
			},
			RungUplink, CodeUplinkDown, "uplink eth0", "not a port of br0", "ip link set eth0 master br0",
		},
		{
			"uplink off Open vSwitch", healthy, func(n *nic) { n.sw.UplinkPort = &UplinkPort{} },
			RungUplink, CodeUplinkDown, "uplink eth0", "not a port of ovs0", "ovs-vsctl add-port ovs0 eth0",
		},
		{
			"uplink down", onBridge, func(n *nic) { setLink(n, "eth0", func(l *link) { l.up = false }) },
			RungUplink, CodeUplinkDown, "uplink eth0", "device eth0 is down", "ip link set eth0 up",
		},
		{
			"uplink without carrier", onBridge, func(n *nic) { setLink(n, "eth0", func(l *link) { l.carrier = false }) },
			RungUplink, CodeUplinkDown, "uplink eth0", "no carrier on eth0", "ethtool eth0",
		},
		{
			"bond without a link", healthy, func(n *nic) { n.sw.UplinkPort.Device, n.sw.UplinkPort.Link = "bond0", vnet.ToggleOff },
			RungUplink, CodeUplinkDown, "uplink eth0", "no carrier on bond0", "ethtool bond0",
		},
		{
			"uplink blocked", onBridge, func(n *nic) { n.sw.UplinkPort.Forwarding.State = "blocking" },
			RungUplink, CodeSTPBlocked, "uplink eth0", "blocking", "bridge -d link show dev eth0",
		},
		{
			"uplink without the VLAN", onBridge, func(n *nic) {
				n.sw.UplinkPort.VLAN = &vnet.VLANSet{Trunk: vnet.VLANRanges{{First: 30, Last: 39}}}
			},
			RungUplink, CodeUplinkVLAN, "uplink eth0", "no VLAN 20", "bridge vlan add dev eth0 vid 20",
		},
		{
			"uplink of ours without the VLAN", onBridge, func(n *nic) {
				n.sw.Bridge.Owned, n.sw.UplinkPort.VLAN = true, &vnet.VLANSet{Access: 1}
			},
			RungUplink, CodeUplinkVLAN, "uplink eth0", "no VLAN 20", "virt-vnet repair web1",
		},
		{
			"uplink that takes the tag off", onBridge, func(n *nic) {
				n.sw.UplinkPort.VLAN = &vnet.VLANSet{Access: 1, Extra: "untagged 20"}
			},
			RungUplink, CodeUplinkVLAN, "uplink eth0", "VLAN 20 leaves without a tag", "bridge vlan add dev eth0 vid 20",
		},
		{
			"uplink of Open vSwitch without the VLAN", healthy, func(n *nic) {
				n.sw.UplinkPort.VLAN = &vnet.VLANSet{Trunk: vnet.VLANRanges{{First: 30, Last: 31}}}
			},
			RungUplink, CodeUplinkVLAN, "uplink eth0", "no VLAN 20", "ovs-vsctl set port eth0 trunks=20,30-31",
		},
		{
			"uplink of Open vSwitch in another VLAN", healthy, func(n *nic) { n.sw.UplinkPort.VLAN = &vnet.VLANSet{Access: 30} },
			RungUplink, CodeUplinkVLAN, "uplink eth0", "no VLAN 20", "ovs-vsctl clear port eth0 tag",
		},
		{
			"uplink with a small MTU", onBridge, func(n *nic) { setLink(n, "eth0", mtu(1400)) },
			RungUplink, CodeMTUMismatch, "uplink eth0", "MTU 1400", "ip link set eth0 mtu 1500",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := test.start()
			test.spoil(n)
			n.climbAll()
			if n.problem == nil {
				t.Fatalf("no problem; rungs %+v", n.rungs)
			}
			p := n.problem
			if p.Rung != test.rung || p.Code != test.code || p.Subject != test.subject {
				t.Errorf("got %s of %s at %s, want %s of %s at %s", p.Code, p.Subject, p.Rung, test.code, test.subject, test.rung)
			}
			if !strings.Contains(p.Got, test.got) || !strings.Contains(p.Fix, test.fix) || p.Want == "" {
				t.Errorf("want %q, got %q, fix %q; should say %q and %q", p.Want, p.Got, p.Fix, test.got, test.fix)
			}
			if sound := slices.Contains([]RungName{RungUplink, RungMTU, RungCounters}, test.rung); n.sound() != sound {
				t.Errorf("sound is %t, want %t", n.sound(), sound)
			}
		})
	}
}

// What is unusual and no fault, or not known.
func TestLadderSwitchFine(t *testing.T) {
	for _, test := range []struct {
		name   string
		start  func() *nic
		change func(*nic)
		rung   RungName
		status Status
	}{
		{"as it should be", onBridge, func(*nic) {}, RungUplink, StatusPass},
		{"jumbo frames everywhere", onBridge, func(n *nic) {
			n.Want.MTU = 9000
			for name := range n.host {
				setLink(n, name, mtu(9000))
			}
		}, RungUplink, StatusPass},
		{"less than Ethernet's everywhere, as in a cloud", onBridge, func(n *nic) {
			for name := range n.host {
				setLink(n, name, mtu(1460))
			}
		}, RungUplink, StatusPass},
		{"macvtap on a device with less than Ethernet's", macvtapNIC, func(n *nic) {
			n.link.mtu = 1460
			setLink(n, "eth1", mtu(1460))
		}, RungMTU, StatusPass},
		{"the only port, with less than Ethernet's", onBridge, func(n *nic) {
			n.sw.Uplink, n.sw.UplinkPort = "", nil
			delete(n.host, "eth0")
			setLink(n, "vnet0", mtu(1400))
		}, RungMTU, StatusPass},
		{"bridge that follows a port of another network", onBridge, func(n *nic) {
			n.Want.MTU = 9000
			setLink(n, "vnet0", mtu(9000))
			setLink(n, "eth0", mtu(9000))
			n.host["vnet1"] = link{index: 8, master: 2, mtu: 1500}
		}, RungMTU, StatusPass},
		{"guest that libvirt told of jumbo frames", onBridge, func(n *nic) { setLink(n, "vnet0", mtu(9000)) }, RungMTU, StatusPass},
		{"small bridge, and the spec says nothing", onBridge, func(n *nic) { setLink(n, br0, mtu(1280)) }, RungMTU, StatusPass},
		{"bridge without a carrier", onBridge, func(n *nic) { setLink(n, br0, func(l *link) { l.carrier = false }) }, RungSwitch, StatusPass},
		{"device of Open vSwitch's bridge is down", healthy, func(n *nic) { n.host["ovs0"] = link{index: 9} }, RungSwitch, StatusPass},
		{"no spanning tree", healthy, func(n *nic) { n.Port.Forwarding = Forwarding{} }, RungForwarding, StatusSkip},
		{"no uplink in the spec", healthy, func(n *nic) { n.sw.Uplink = "" }, RungUplink, StatusSkip},
		{"uplink not observed", healthy, func(n *nic) { n.sw.UplinkPort = nil }, RungUplink, StatusInconclusive},
		{"member without a carrier in a bond that has one", onBridge, func(n *nic) {
			setLink(n, "eth0", func(l *link) { l.carrier = false })
			n.host["bond0"] = link{index: 10, master: 2, up: true, carrier: true, mtu: 1500}
			n.sw.UplinkPort.Device = "bond0"
		}, RungUplink, StatusPass},
		{"uplink that is no device of the kernel", healthy, func(n *nic) {
			n.sw.Uplink, n.sw.UplinkPort.Device, n.sw.UplinkPort.Link = "dpdk0", "dpdk0", vnet.ToggleOn
		}, RungUplink, StatusPass},
		{"switch without VLANs", onBridge, func(n *nic) {
			n.Want.Policy.VLAN, n.Port.VLAN, n.sw.UplinkPort.VLAN = vnet.VLANSet{}, nil, nil
		}, RungUplink, StatusPass},
		{"uplink in a tunnel's VLAN", healthy, func(n *nic) { n.sw.UplinkPort.VLAN = &vnet.VLANSet{Access: 7, Extra: "dot1q-tunnel"} }, RungUplink, StatusPass},
		{"macvtap with more than the spec says", macvtapNIC, func(n *nic) {
			n.Want.MTU, n.link.mtu = 1500, 9000
			setLink(n, "eth1", mtu(9000))
		}, RungMTU, StatusPass},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := test.start()
			test.change(n)
			n.climbAll()
			if n.problem != nil {
				t.Fatalf("problem %s: %s", n.problem.Code, n.problem.Problem)
			}
			if r := n.result().Rung(test.rung); r.Status != test.status {
				t.Errorf("rung %s is %s %q, want %s", r.Name, r.Status, r.Reason, test.status)
			}
		})
	}
}

func TestSwitchResults(t *testing.T) {
	a, b, other := onBridge(), onBridge(), healthy()
	b.sw, a.selected, b.selected = a.sw, true, true
	setLink(a, "eth0", func(l *link) { l.carrier = false })
	r := &run{host: a.host, nics: []*nic{a, b, other}}
	want := []SwitchResult{{Name: br0, Driver: vnet.DriverLinux, Uplink: "eth0", Up: true}}
	if diff := cmp.Diff(want, r.switchResults()); diff != "" {
		t.Errorf("switches (-want +got):\n%s", diff)
	}
	setLink(a, "eth0", func(l *link) { l.carrier = true })
	if got := r.switchResults(); !got[0].UplinkUp {
		t.Errorf("got %+v, want the uplink up", got)
	}
	setLink(a, br0, func(l *link) { l.up = false })
	if got := r.switchResults(); got[0].Up || got[0].UplinkUp {
		t.Errorf("got %+v, want both down", got)
	}
}
