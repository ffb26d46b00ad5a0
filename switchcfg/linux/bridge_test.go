// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux/hostside"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// openAs opens br0 as the spec has it.
func openAs(t *testing.T, sw vnet.Switch) *linux.Driver {
	t.Helper()
	d, err := linux.Open(t.Context(), sw, linux.WithHostJoiner(hostside.Join))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// TestOwnBridge turns VLAN filtering on under guests and a host that talk, takes
// the default VLAN away, and gives all of it back.
func TestOwnBridge(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	ip(t, "addr", "add", "10.9.0.9/24", "dev", "br0")
	sw := vnet.Switch{Name: "br0", Driver: vnet.DriverLinux, Bridge: vnet.Bridge{
		Owned: true, STP: vnet.ToggleOff, Priority: vnet.Given(4096), ForwardDelay: 4 * time.Second,
	}}
	if canFilter(t) {
		sw.Bridge.VLANFiltering, sw.Bridge.DefaultPVID = vnet.ToggleOn, vnet.Given[vnet.VLANID](0)
	}
	before := ip(t, "-d", "link", "show", "br0")
	d := openAs(t, sw)
	own := switchtest.MustPlan(t, d, sw)
	if _, err := d.Apply(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	if left := switchtest.MustPlan(t, d, sw); !left.Empty() {
		t.Fatalf("still to do:\n%s", left)
	}
	for _, want := range []string{"priority 4096", "forward_delay 400"} {
		if got := ip(t, "-d", "link", "show", "br0"); !strings.Contains(got, want) {
			t.Errorf("%s is not among %s", want, got)
		}
	}
	reachesHost := func(s *lab.Station) {
		t.Helper()
		if err := s.WaitPing(t.Context(), address(9), answerLimit); err != nil {
			t.Error(err)
		}
	}
	reaches(t, a, b) // in VLAN 1, where they were
	reachesHost(a)
	if canFilter(t) {
		c := station(t, l, "c", 3)
		if got := bridge(t, "vlan", "show", "dev", c.Device); strings.Contains(got, c.Device) {
			t.Errorf("a new port has a VLAN: %s", got)
		}
		doesNotReach(t, a, c)
		wire(t, d, c, vnet.Policy{VLAN: vnet.VLANSet{Access: 1}})
		reaches(t, a, c)
	}
	if _, err := d.Apply(t.Context(), own.Reverse()); err != nil {
		t.Fatal(err)
	}
	// A bridge takes the lowest MAC address of its ports, of which there is one
	// more. In a bridge ID, ip leaves out leading zeros.
	nameless := func(shown string) string {
		return regexp.MustCompile(`([0-9a-f]{1,2}:){5}[0-9a-f]{1,2}`).ReplaceAllString(timeless(shown), "MAC")
	}
	if diff := cmp.Diff(nameless(before), nameless(ip(t, "-d", "link", "show", "br0"))); diff != "" {
		t.Errorf("after the undo (-before +now):\n%s", diff)
	}
	reaches(t, a, b)
	reachesHost(b)
	if canFilter(t) {
		prove(t, "bridge settings", "who was there goes on to talk, guests and host", "a new port is in no VLAN, and reaches nobody")
	}
}

// TestForeignBridge checks that a bridge without bridge: in the spec is never
// reconfigured.
func TestForeignBridge(t *testing.T) {
	start(t)
	before := ip(t, "-d", "link", "show", "br0")
	d := openBR0(t)
	if plan := switchtest.MustPlan(t, d, br0); !plan.Empty() {
		t.Errorf("there is something to do:\n%s", plan)
	}
	want, err := switchcfg.Desired([]vnet.Port{{Device: "x", Switch: "br0", Policy: vnet.Policy{VLAN: vnet.VLANSet{Access: 20}}}}, br0)
	if err != nil {
		t.Fatal(err)
	}
	err = d.Capabilities().Check(t.Context(), want)
	if !errors.Is(err, switchcfg.ErrUnsupported) || !strings.Contains(err.Error(), "br0") {
		t.Errorf("got error %v, want %v", err, switchcfg.ErrUnsupported)
	}
	if diff := cmp.Diff(timeless(before), timeless(ip(t, "-d", "link", "show", "br0"))); diff != "" {
		t.Errorf("(-before +now):\n%s", diff)
	}
}

// uplinked starts a lab whose VLAN filtering br0 has a switch of the fabric
// behind it: the station tor, with a device in VLAN 20. It returns false where
// there is no VLAN filtering.
func uplinked(t *testing.T) (l *lab.Lab, tor *lab.Station, ok bool) {
	t.Helper()
	l = start(t)
	if !canFilter(t) {
		return nil, nil, false
	}
	ip(t, "link", "set", "br0", "type", "bridge", "vlan_filtering", "1")
	tor = &lab.Station{Name: "tor", Bridge: "br0"}
	if err := l.AddStation(t.Context(), tor); err != nil {
		t.Fatal(err)
	}
	inStation(t, tor, "ip", "link", "add", "eth0.20", "link", "eth0", "type", "vlan", "id", "20")
	inStation(t, tor, "ip", "addr", "add", "10.9.0.200/24", "dev", "eth0.20")
	inStation(t, tor, "ip", "link", "set", "eth0.20", "up")
	return l, tor, true
}

// TestUplinkTraffic checks that the uplink gets the VLAN of the first guest that
// needs it, keeps what others put there, and loses it after the last.
func TestUplinkTraffic(t *testing.T) {
	l, tor, ok := uplinked(t)
	if !ok {
		return
	}
	bridge(t, "vlan", "add", "dev", tor.Device, "vid", "77")
	before := bridge(t, "vlan", "show", "dev", tor.Device)
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	sw := vnet.Switch{Name: "br0", Driver: vnet.DriverLinux, Uplink: tor.Device, Bridge: vnet.Bridge{Owned: true}}
	d := openAs(t, sw)
	port := func(s *lab.Station) vnet.Port {
		return vnet.Port{Device: s.Device, Switch: "br0", Network: "red", Guest: vnet.GuestRef{UUID: "u1"}, MAC: vnet.MAC(s.MAC), Policy: vnet.Policy{VLAN: vnet.VLANSet{Access: 20}}}
	}
	there := func() error { return a.WaitPing(t.Context(), address(200), answerLimit) }

	wire(t, d, a, vnet.Policy{VLAN: vnet.VLANSet{Access: 20}}) // the twin: without an uplink in the spec
	if err := a.Ping(t.Context(), address(200)); err == nil {
		t.Error("the uplink carries VLAN 20 already: the probe shows nothing")
	}
	if plan := wirePort(t, d, sw, port(a)); len(plan.Changes) != 1 || plan.Changes[0].Device != tor.Device {
		t.Errorf("the plan is not about the uplink alone:\n%s", plan)
	}
	if err := there(); err != nil {
		t.Error(err)
	}
	if plan := wirePort(t, d, sw, port(b)); slices.ContainsFunc(plan.Changes, func(c switchcfg.Change) bool { return c.Device == tor.Device }) {
		t.Errorf("the second guest changes the uplink:\n%s", plan)
	}
	added := vnet.VLANRanges{{First: 20, Last: 20}}
	ip(t, "link", "del", a.Device)
	if plan, pending := switchcfg.Prune(observeAll(t, d), added); pending {
		t.Errorf("pruned while b needs it:\n%s", plan)
	}
	ip(t, "link", "del", b.Device)
	plan, pending := switchcfg.Prune(observeAll(t, d), added)
	if !pending {
		t.Fatal("not pruned after the last guest")
	}
	if _, err := d.Apply(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, bridge(t, "vlan", "show", "dev", tor.Device)); diff != "" {
		t.Errorf("the uplink (-before +now):\n%s", diff)
	}
	prove(t, "uplink VLANs", "the first guest of VLAN 20 reaches the fabric", "without the VLAN on the uplink it does not; it goes with the last guest, and others' VLANs stay")
}

func observeAll(t *testing.T, d *linux.Driver) switchcfg.State {
	t.Helper()
	state, err := d.Observe(t.Context(), switchcfg.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// TestUplinkOfForeignBridge checks that a missing VLAN is said, with what would
// help.
func TestUplinkOfForeignBridge(t *testing.T) {
	l, tor, ok := uplinked(t)
	if !ok {
		return
	}
	a := station(t, l, "a", 1)
	sw := vnet.Switch{Name: "br0", Driver: vnet.DriverLinux, Uplink: tor.Device}
	d := openAs(t, sw)
	want, err := switchcfg.Desired([]vnet.Port{{
		Device: a.Device, Switch: "br0", Network: "red", Policy: vnet.Policy{VLAN: vnet.VLANSet{Access: 20}},
	}}, sw)
	if err != nil {
		t.Fatal(err)
	}
	_, err = switchcfg.Diff(want, observeAll(t, d), "")
	text := "its uplink to-tor does not carry VLAN 20: bridge vlan add dev to-tor vid 20"
	if !errors.Is(err, switchcfg.ErrNotOwned) || !strings.Contains(err.Error(), text) {
		t.Errorf("got error %v, want %q", err, text)
	}
	bridge(t, "vlan", "add", "dev", tor.Device, "vid", "20")
	if _, err = switchcfg.Diff(want, observeAll(t, d), ""); err != nil {
		t.Errorf("after the advice was followed: %v", err)
	}
}

// TestUplinkKinds checks that the port is found which leads to the device that
// the spec names.
func TestUplinkKinds(t *testing.T) {
	l, tor, ok := uplinked(t)
	if !ok {
		return
	}
	if err := l.AddVeth(t.Context(), "eno1", "far1"); err != nil {
		t.Fatal(err)
	}
	if err := l.AddVeth(t.Context(), "eno2", "far2"); err != nil {
		t.Fatal(err)
	}
	ip(t, "link", "add", "bond0", "type", "bond", "mode", "active-backup")
	ip(t, "link", "set", "eno1", "down")
	ip(t, "link", "set", "eno1", "master", "bond0")
	ip(t, "link", "add", "eno2.30", "link", "eno2", "type", "vlan", "id", "30")
	for _, name := range []string{"bond0", "eno2.30"} {
		ip(t, "link", "set", name, "master", "br0", "up")
	}
	for uplink, want := range map[string]switchcfg.Uplink{
		tor.Device: {Device: tor.Device}, "bond0": {Device: "bond0"}, "eno1": {Device: "bond0"},
		"eno2.30": {Device: "eno2.30", Tag: 30}, "eno2": {}, "far1": {}, "nosuch0": {},
	} {
		d := openAs(t, vnet.Switch{Name: "br0", Driver: vnet.DriverLinux, Uplink: uplink})
		got := observeAll(t, d).Uplink
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("uplink %s (-want +got):\n%s", uplink, diff)
		}
		advice, err := d.Advise(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if none := got.Device == ""; none != slices.ContainsFunc(advice, func(s string) bool { return strings.Contains(s, "is not a port of it") }) {
			t.Errorf("uplink %s: advice %q", uplink, advice)
		}
	}
}

// TestAdviseFirewall checks that br_netfilter with a firewall that drops is
// told, and that such a firewall really eats what the bridge passes.
func TestAdviseFirewall(t *testing.T) {
	l := start(t)
	if err := try(t, "ls", "/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		t.Fatal("this kernel has no br_netfilter loaded")
	}
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	d := openBR0(t)
	advice := func() []string {
		t.Helper()
		lines, err := d.Advise(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return lines
	}
	sysctl := func(value string) {
		t.Helper()
		run(t, "sh", "-c", "echo "+value+" >/proc/sys/net/bridge/bridge-nf-call-iptables")
	}
	sysctl("0")
	run(t, "nft", "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
	reaches(t, a, b)
	if lines := advice(); len(lines) != 0 {
		t.Errorf("without br_netfilter: advice %q", lines)
	}
	sysctl("1")
	doesNotReach(t, a, b)
	if lines := advice(); len(lines) != 1 || !strings.Contains(lines[0], "table ip filter, chain FORWARD") ||
		!strings.Contains(lines[0], "sysctl -w net.bridge.bridge-nf-call-iptables=0") {
		t.Errorf("with br_netfilter: advice %q", lines)
	}
	run(t, "nft", "chain ip filter FORWARD { policy accept; }")
	reaches(t, a, b)
	if lines := advice(); len(lines) != 0 {
		t.Errorf("with a firewall that lets all pass: advice %q", lines)
	}
	run(t, "nft", "delete table ip filter")
}
