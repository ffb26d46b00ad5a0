// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Package guard proves every kind of frame that a guard lets through or not.
// Here it is the driver that puts it into force, on the ports of guests.

// forged is a frame that a guest should not send, and an honest one like it.
type forged struct {
	property, name string
	bad, good      []byte
}

func forgeries(a, b *lab.Station) []forged {
	other := []byte{0x52, 0x54, 0, 9, 9, 9}
	arpOf := func(n byte) []byte {
		f := arpRequest(a, 2)
		f[31] = n // the last byte of the sender's address
		return f
	}
	udp := func(from, to byte) []byte {
		f := ipv4(a, [4]byte{239, 1, 2, 3}, 17, []byte{0, from, 0, to, 0, 8, 0, 0})
		return f
	}
	icmp6 := func(kind byte) []byte {
		header := []byte{0x60, 0, 0, 0, 0, 8, 58, 255}
		source := netip.MustParseAddr("fe80::5054:ff:fe00:1").As16()
		return frame(b.MAC, a.MAC, 0x86dd, slices.Concat(header, source[:], make([]byte, 16), []byte{kind, 0, 0, 0, 0, 0, 0, 0})...)
	}
	return []forged{
		{"anti-spoofing", "source MAC", frame(b.MAC, other, experimental, 's'), frame(b.MAC, a.MAC, experimental, 's')},
		{"anti-spoofing", "ARP sender", arpOf(77), arpOf(1)},
		{"anti-spoofing", "BPDU", bpdu(a.MAC), frame(broadcast, a.MAC, 4, 0x42, 0x42, 3, 9)},
		{"DHCP guard", "DHCP server", udp(67, 68), udp(68, 67)},
		{"RA guard", "router advertisement", icmp6(134), icmp6(133)},
	}
}

// tagged is a frame with a tag of VLAN 20.
func tagged(f []byte) []byte { return slices.Concat(f[:12], []byte{0x81, 0, 0, 20}, f[12:]) }

// TestGuardTraffic guards a guest, with a tag and without, and lets it go.
func TestGuardTraffic(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	sw, set := br0, vnet.VLANSet{}
	if canFilter(t) {
		ip(t, "link", "set", "br0", "type", "bridge", "vlan_filtering", "1")
		set = vnet.VLANSet{Trunk: vnet.VLANRanges{{First: 20, Last: 20}}, Native: 1}
	}
	d := openBR0(t)
	wire(t, d, b, vnet.Policy{VLAN: set})
	port := vnet.Port{
		Device: a.Device, Switch: "br0", Network: "red", Guest: vnet.GuestRef{UUID: "u1"}, MAC: vnet.MAC(a.MAC),
		Policy: vnet.Policy{VLAN: set, AntiSpoof: true}, Own: vnet.Allow{Addresses: []netip.Addr{address(1)}},
	}
	plan := wirePort(t, d, sw, port)
	if text := plan.String(); !strings.Contains(text, "sources: any -> 52:54:00:00:00:01 10.9.0.1") {
		t.Errorf("the plan does not say whose frames pass:\n%s", text)
	}
	all := forgeries(a, b)
	for _, f := range all {
		stays(t, a, b, f.bad, f.name)
		passes(t, a, b, f.good, f.name+", honest")
		stays(t, a, b, tagged(f.bad), f.name+" in VLAN 20")
		passes(t, a, b, tagged(f.good), f.name+" in VLAN 20, honest")
	}
	reaches(t, a, b)
	stays(t, a, b, tagged(tagged(frame(b.MAC, a.MAC, experimental, '2'))), "two tags")
	if _, err := d.Apply(t.Context(), plan.Reverse()); err != nil {
		t.Fatal(err)
	}
	wire(t, d, a, vnet.Policy{VLAN: set, Profile: vnet.ProfileAppliance})
	for _, f := range all {
		passes(t, a, b, f.bad, f.name+" of an appliance")
		passes(t, a, b, tagged(f.bad), f.name+" in VLAN 20 of an appliance")
	}
	for _, property := range []string{"anti-spoofing", "DHCP guard", "RA guard"} {
		prove(t, property, "honest frames pass, and of an appliance the same forged ones", "forged ones do not, with a tag and without")
	}
}

// TestGuardDrift checks that guards are facts: what somebody takes away is seen
// and put back, and what a port leaves behind is swept.
func TestGuardDrift(t *testing.T) {
	l := start(t)
	a := station(t, l, "a", 1)
	d := openBR0(t)
	port := vnet.Port{
		Device: a.Device, Switch: "br0", Network: "red", Guest: vnet.GuestRef{UUID: "u1"}, MAC: vnet.MAC(a.MAC),
		Policy: vnet.Policy{AntiSpoof: true, QoS: vnet.QoS{Priority: 5}},
	}
	wirePort(t, d, br0, port)
	run(t, "nft", "flush", "set", "bridge", "virt_vnet", "macs")
	plan := switchtest.MustPlan(t, d, br0, port)
	if len(plan.Changes) != 1 || !strings.Contains(plan.String(), "sources:") {
		t.Errorf("somebody emptied a set, and the plan is:\n%s", plan)
	}
	wirePort(t, d, br0, port)
	if err := d.Sweep(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if plan := switchtest.MustPlan(t, d, br0, port); !plan.Empty() {
		t.Errorf("swept a port that is there:\n%s", plan)
	}
	gone := observeAll(t, d).Ports[a.Device].Index
	ip(t, "link", "del", a.Device)
	elements := func() string { return run(t, "nft", "list", "set", "bridge", "virt_vnet", "ports") }
	if before := elements(); !strings.Contains(before, "elements") {
		t.Errorf("a guard does not outlive its port, and need not be swept: %s", before)
	}
	if err := d.Sweep(t.Context(), []int{gone}); err != nil {
		t.Fatal(err)
	}
	if after := elements(); strings.Contains(after, "elements") {
		t.Errorf("left of the port: %s", after)
	}
	if err := d.Sweep(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := run(t, "nft", "list", "tables"); strings.Contains(got, "virt_vnet") {
		t.Errorf("left after the last guarded port: %s", got)
	}
}

// TestPriorityTraffic counts frames by the priority that they leave the bridge
// with.
func TestPriorityTraffic(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	d := openBR0(t)
	run(t, "nft", "add table bridge probe; add chain bridge probe out { type filter hook postrouting priority 0; }; "+
		"add rule bridge probe out meta priority 0:5 counter")
	count := func() string {
		t.Helper()
		_, after, _ := strings.Cut(run(t, "nft", "list", "table", "bridge", "probe"), "packets ")
		n, _, _ := strings.Cut(after, " ")
		return n
	}
	f := frame(b.MAC, a.MAC, experimental, 'p')
	passes(t, a, b, f, "a frame")
	if got := count(); got != "0" {
		t.Errorf("without priority: %s frames of priority 5", got)
	}
	wire(t, d, a, vnet.Policy{QoS: vnet.QoS{Priority: 5}})
	passes(t, a, b, f, "a frame")
	if count() == "0" { // a's kernel may have sent others, too
		t.Error("with priority: no frame of priority 5")
	}
	prove(t, "priority", "with it a guest's frames leave the bridge with the priority", "without it they do not")
}
