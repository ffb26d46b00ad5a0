// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestBondTraffic joins two bridges by a bond of two cables that LACP negotiates
// at both ends. Traffic survives when one of them goes down.
func TestBondTraffic(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "ovs0", "a", 1), station(t, l, "ovs1", "b", 2)
	for _, n := range []string{"1", "2"} {
		if err := l.AddVeth(t.Context(), "near"+n, "far"+n); err != nil {
			t.Fatal(err)
		}
	}
	near, far := ovs0, vnet.Switch{Name: "ovs1", Driver: vnet.DriverOVS}
	near.Uplink, far.Uplink = "bond0", "bond1"
	near.Bond = vnet.Bond{Members: []string{"near2", "near1"}, Mode: vnet.BondTCP, LACP: vnet.LACPActive, Fast: true}
	far.Bond = vnet.Bond{Members: []string{"far1", "far2"}, Mode: vnet.BondSLB, LACP: vnet.LACPPassive, Fast: true}
	d, e := openSwitch(t, near), openSwitch(t, far)
	p := setSwitch(t, d, near)
	if want := "ovs0: ovs0: bond: none -> bond0 of near1 near2, balance-tcp, LACP active fast"; !strings.Contains(p.String(), want) {
		t.Errorf("the plan lacks %q:\n%s", want, p)
	}
	setSwitch(t, e, far)
	waitFor(t, 4*answerLimit, func() bool {
		got := vsctl(t, l, "--bare", "--columns=lacp_current", "find", "Interface", "external_ids:virt-vnet-bond=uplink")
		return strings.Count(got, "true") == 4
	})
	reaches(t, a, b)
	for _, cable := range []string{"near1", "near2"} {
		ip(t, "link", "set", cable, "down")
		reaches(t, a, b)
		ip(t, "link", "set", cable, "up")
		waitFor(t, 4*answerLimit, func() bool {
			return strings.TrimSpace(vsctl(t, l, "--bare", "--columns=lacp_current", "list", "Interface", cable)) == "true"
		})
	}

	vsctl(t, l, "set", "Port", "bond0", "bond_mode=active-backup", "lacp=off", "other_config={}")
	if p := setSwitch(t, d, near).String(); !strings.Contains(p, "bond0 of near1 near2, active-backup, LACP off -> ") {
		t.Errorf("the plan for a bond that was changed:\n%s", p)
	}
	near.Bond.Members = []string{"near2", "other"}
	if err := l.AddVeth(t.Context(), "other", "other-end"); err != nil {
		t.Fatal(err)
	}
	setSwitch(t, d, near)
	near.Bond, near.Bridge.Owned = vnet.Bond{}, true
	setSwitch(t, d, near)
	if ports := vsctl(t, l, "list-ports", "ovs0"); strings.TrimSpace(ports) != a.Device {
		t.Errorf("ports left: %s", ports)
	}

	// What others have made of the uplink or of a member stays.
	near.Bond = vnet.Bond{Members: []string{"near1", "near2"}}
	for _, theirs := range [][]string{
		{"add-port", "ovs0", "near1"},
		{"add-port", "ovs0", "bond0"},
		{"add-port", "ovs1", "near1"},
		{"add-port", "ovs1", "bond0"},
		{"add-bond", "ovs1", "bond9", "near1", "other"},
	} {
		vsctl(t, l, theirs...)
		_, err := d.Apply(t.Context(), switchtest.MustPlan(t, d, near))
		undo := []string{"del-port", theirs[1], theirs[2]}
		if !errors.Is(err, switchcfg.ErrNotOwned) || !strings.Contains(err.Error(), "already: ovs-vsctl "+strings.Join(undo, " ")) {
			t.Errorf("with %v of somebody else: got %v, want that it is not ours", theirs, err)
		}
		vsctl(t, l, undo...)
	}
}

// TestRefusedForGood makes a guest's port of a device that a bond has.
func TestRefusedForGood(t *testing.T) {
	l := start(t)
	for _, device := range []string{"vnet0", "vnet1"} {
		ip(t, "tuntap", "add", "dev", device, "mode", "tap")
	}
	vsctl(t, l, "add-bond", "ovs1", "bond0", "vnet0", "vnet1")
	d := openOVS(t, "ovs0")
	_, err := d.Apply(t.Context(), plan(t, d, "vnet0", vlan(vnet.VLANSet{Access: 20})))
	const want = `the database refuses its ports: change port vnet0: constraint violation: Transaction causes multiple rows in "Interface" table`
	if errors.Is(err, switchcfg.ErrUnreachable) || err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}
