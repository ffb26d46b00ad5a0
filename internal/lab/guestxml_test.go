// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRequirements(t *testing.T) {
	all := Requirements()
	if len(all) < 10 {
		t.Fatalf("got %d requirements", len(all))
	}
	for _, r := range all {
		if r.Part != "libvirt" && r.Part != "ovs" && r.Part != "guests" && r.Part != "ovn" {
			t.Errorf("%s: unknown part %q", r.Package, r.Part)
		}
	}
	if !wanted(Requirement{Part: "libvirt"}, []Part{Guests}) || !wanted(Requirement{Part: "ovs"}, []Part{OVN}) ||
		wanted(Requirement{Part: "guests"}, []Part{OVS}) || wanted(Requirement{Part: "ovn"}, []Part{OVS}) {
		t.Error("guests include libvirt and OVN includes OVS, and nothing else does")
	}
}

func TestGuestComplete(t *testing.T) {
	for _, tt := range []struct {
		name string
		g    Guest
		want string // part of the error
	}{
		{"no name", Guest{}, "without a name"},
		{"nowhere", Guest{Name: "g", NICs: []NIC{{Model: "virtio"}}}, "guest g: NIC 0: set one of"},
		{"xml without mac", Guest{Name: "g", NICs: []NIC{{XML: "<interface/>"}}}, "<mac>"},
		{"broken xml", Guest{Name: "g", NICs: []NIC{{XML: "<interface>"}}}, "read its XML"},
		{"plain", Guest{Name: "g", NICs: []NIC{{Bridge: "b"}}}, ""},
		{"xml", Guest{Name: "g", NICs: []NIC{{XML: "<interface><mac address='52:54:00:00:00:01'/></interface>"}}}, ""},
	} {
		err := tt.g.complete()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestGuestCmdline(t *testing.T) {
	k := kernel{deps: map[string][]string{}}
	k.readDeps("kernel/a/virtio_net.ko.xz: kernel/b/net_failover.ko.xz kernel/c/failover.ko.xz\nkernel/d/8139cp.ko: kernel/e/mii.ko\n", drivers())
	g := Guest{Name: "g", NICs: []NIC{
		{Bridge: "b", MTU: 1400, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}, Gateway: netip.MustParseAddr("10.0.0.1")},
		{Uplink: "u", Model: "rtl8139", DHCP: true, VLANs: []SubInterface{{ID: 7}}},
	}}
	if err := g.complete(); err != nil {
		t.Fatal(err)
	}
	a, b := MACFor("g", 0).String(), MACFor("g", 1).String()
	want := kernelOptions + " vnet.name=g" +
		" vnet.modules=failover,net_failover,virtio_net,mii,8139cp" +
		" vnet.mtu=" + a + ",1400 vnet.addr=" + a + ",10.0.0.2/24 vnet.vlan=" + b + ",7, vnet.dhcp=" + b + " vnet.route=10.0.0.1"
	if diff := cmp.Diff(want, g.cmdline(k.load(g.drivers()))); diff != "" {
		t.Errorf("command line (-want +got):\n%s", diff)
	}
}

func TestInterfaceXML(t *testing.T) {
	mac := MACFor("g", 0)
	for _, tt := range []struct {
		nic  NIC
		want string
	}{
		{NIC{Network: "a&b", Portgroup: "red", MAC: mac}, "<source network='a&amp;b' portgroup='red'/>"},
		{NIC{Uplink: "eth0", MAC: mac}, "<interface type='direct'>"},
		{NIC{Bridge: "no-such", VLAN: 20, MAC: mac}, "<virtualport type='openvswitch'/>\n      <vlan><tag id='20'/></vlan>"},
		{NIC{Bridge: "no-such", InterfaceID: "i", MAC: mac}, "<virtualport type='openvswitch'><parameters interfaceid='i'/></virtualport>"},
		{NIC{Bridge: "no-such", Model: "e1000", MAC: mac}, "<model type='e1000'/>\n      <rom"},
	} {
		got, err := tt.nic.InterfaceXML()
		if err != nil || !strings.Contains(got, tt.want) || !strings.Contains(got, mac.String()) {
			t.Errorf("%+v: got %s, %v, want %s", tt.nic, got, err, tt.want)
		}
	}
}

func TestPayloadRefusesOtherFiles(t *testing.T) {
	for _, image := range [][]byte{nil, make([]byte, 0x250), []byte(strings.Repeat("\xff", 4096))} {
		if _, err := payload(image); err == nil {
			t.Errorf("%d bytes: no error", len(image))
		}
	}
}
