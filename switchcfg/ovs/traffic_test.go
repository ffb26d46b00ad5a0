// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs_test

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/ovs"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

const answerLimit = 5 * time.Second

// station plugs a host into a bridge whose last address and MAC byte is n.
func station(t *testing.T, l *lab.Lab, bridge, name string, n byte) *lab.Station {
	t.Helper()
	s := &lab.Station{
		Name: name, Bridge: bridge, MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, n},
		Addresses: []netip.Prefix{netip.PrefixFrom(address(n), 24)},
	}
	if err := l.AddStation(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func address(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 0, n}) }

func openOVS(t *testing.T, name string) *ovs.Driver {
	t.Helper()
	d, err := ovs.Open(t.Context(), vnet.Switch{Name: name, Driver: vnet.DriverOVS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// plan is what gives a port of d's switch a policy.
func plan(t *testing.T, d *ovs.Driver, device string, policy vnet.Policy) switchcfg.Plan {
	t.Helper()
	name := d.Capabilities().Switch
	return switchtest.MustPlan(t, d, vnet.Switch{Name: name, Driver: vnet.DriverOVS}, vnet.Port{
		Device: device, Switch: name, Network: "red", Policy: policy,
		Guest: vnet.GuestRef{UUID: "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"}, MAC: vnet.MAC{0x52, 0x54, 0, 1, 2, 3},
	})
}

// wire gives a port of d's switch a policy.
func wire(t *testing.T, d *ovs.Driver, device string, policy vnet.Policy) switchcfg.Plan {
	t.Helper()
	p := plan(t, d, device, policy)
	if _, err := d.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

func vlan(set vnet.VLANSet) vnet.Policy { return vnet.Policy{VLAN: set} }

func reaches(t *testing.T, from, to *lab.Station) {
	t.Helper()
	if err := from.WaitPing(t.Context(), to.Addresses[0].Addr(), answerLimit); err != nil {
		t.Error(err)
	}
}

// doesNotReach checks that no ping gets through, once ovs-vswitchd has dropped
// the flows that it cached when pings still did (half a second at most,
// other_config:max-revalidator).
func doesNotReach(t *testing.T, from, to *lab.Station) {
	t.Helper()
	for cached := time.Now().Add(2 * time.Second); ; {
		err := from.Ping(t.Context(), to.Addresses[0].Addr())
		switch {
		case errors.Is(err, lab.ErrNoAnswer):
			return
		case err != nil:
			t.Fatal(err)
		case time.Now().After(cached):
			t.Fatalf("%s reaches %s", from.Name, to.Name)
		}
	}
}

func TestAccessTraffic(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "ovs0", "a", 1), station(t, l, "ovs0", "b", 2)
	d := openOVS(t, "ovs0")
	wire(t, d, a.Device, vlan(vnet.VLANSet{Access: 20}))
	undo := wire(t, d, b.Device, vlan(vnet.VLANSet{Access: 30})).Reverse()
	doesNotReach(t, a, b)
	wire(t, d, b.Device, vlan(vnet.VLANSet{Access: 20}))
	reaches(t, a, b) // the twin: only the tag differs
	wire(t, d, b.Device, vlan(vnet.VLANSet{}))
	doesNotReach(t, a, b) // untagged is a VLAN apart, not a trunk of all
	wire(t, d, a.Device, vlan(vnet.VLANSet{}))
	reaches(t, a, b)
	if _, err := d.Apply(t.Context(), undo); err != nil {
		t.Fatal(err)
	}
	reaches(t, a, b) // a port without a tag is in every VLAN
}

func TestIsolatedTraffic(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "ovs0", "a", 1), station(t, l, "ovs0", "b", 2)
	c := station(t, l, "ovs0", "c", 3)
	d := openOVS(t, "ovs0")
	reaches(t, a, b) // so the probe can see what must not be
	wire(t, d, a.Device, vnet.Policy{Isolated: true})
	wire(t, d, b.Device, vnet.Policy{})
	reaches(t, a, b) // isolated only from isolated
	wire(t, d, b.Device, vnet.Policy{Isolated: true})
	doesNotReach(t, a, b)
	wire(t, d, c.Device, vnet.Policy{})
	reaches(t, a, c)
}

// TestTrunkTraffic joins two bridges by a cable with a trunk at both ends.
func TestTrunkTraffic(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "ovs0", "a", 1), station(t, l, "ovs1", "b", 2)
	if err := l.AddVeth(t.Context(), "cable0", "cable1"); err != nil {
		t.Fatal(err)
	}
	near, far := openOVS(t, "ovs0"), openOVS(t, "ovs1")
	range25to35 := vnet.VLANRanges{{First: 25, Last: 35}}
	for _, c := range []struct {
		name                string
		guest, other        vnet.VLANID
		nearTrunk, farTrunk vnet.VLANSet
		carried             bool
	}{
		{name: "in the trunk", guest: 30, other: 30, nearTrunk: vnet.VLANSet{Trunk: range25to35}, farTrunk: vnet.VLANSet{Trunk: range25to35}, carried: true},
		{name: "not in the trunk", guest: 40, other: 40, nearTrunk: vnet.VLANSet{Trunk: range25to35}, farTrunk: vnet.VLANSet{Trunk: range25to35}},
		{name: "all", guest: 40, other: 40, nearTrunk: vnet.VLANSet{Trunk: vnet.AllVLANs()}, farTrunk: vnet.VLANSet{Trunk: vnet.AllVLANs()}, carried: true},
		{name: "all, another VLAN", guest: 40, other: 41, nearTrunk: vnet.VLANSet{Trunk: vnet.AllVLANs()}, farTrunk: vnet.VLANSet{Trunk: vnet.AllVLANs()}},
		{name: "native", guest: 20, other: 21, nearTrunk: vnet.VLANSet{Trunk: range25to35, Native: 20}, farTrunk: vnet.VLANSet{Trunk: range25to35, Native: 21}, carried: true},
		{name: "native, tagged", guest: 20, other: 21, nearTrunk: vnet.VLANSet{Trunk: range25to35, Native: 20, NativeTagged: true}, farTrunk: vnet.VLANSet{Trunk: range25to35, Native: 21}},
	} {
		t.Run(c.name, func(t *testing.T) {
			wire(t, near, a.Device, vlan(vnet.VLANSet{Access: c.guest}))
			wire(t, far, b.Device, vlan(vnet.VLANSet{Access: c.other}))
			wire(t, near, "cable0", vlan(c.nearTrunk))
			wire(t, far, "cable1", vlan(c.farTrunk))
			if c.carried {
				reaches(t, a, b)
			} else {
				doesNotReach(t, a, b)
			}
		})
	}
}

func TestLearnedAndVantage(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "ovs0", "a", 1), station(t, l, "ovs0", "b", 2)
	d := openOVS(t, "ovs0")
	wire(t, d, a.Device, vlan(vnet.VLANSet{Access: 20}))
	wire(t, d, b.Device, vlan(vnet.VLANSet{Access: 20}))
	inHost(t, "ovs-appctl", "fdb/flush", "ovs0") // what they sent before they had a VLAN
	reaches(t, a, b)
	checkVantage(t, d, 20, a, true)
	checkVantage(t, d, 21, a, false)
	checkVantage(t, d, 0, a, false)

	got, err := d.Learned(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []switchcfg.Learned{
		{MAC: vnet.MAC(a.MAC), VLAN: 20, Device: a.Device},
		{MAC: vnet.MAC(b.MAC), VLAN: 20, Device: b.Device},
	}
	for _, row := range want {
		if !slices.Contains(got, row) {
			t.Errorf("learned %v, want %v", got, row)
		}
	}
	if len(got) != len(want) {
		t.Errorf("learned %v, want only %v", got, want)
	}
}

// checkVantage looks at a station from a vantage, with the host's own ping.
func checkVantage(t *testing.T, d *ovs.Driver, id vnet.VLANID, to *lab.Station, sees bool) {
	t.Helper()
	device, err := d.OpenVantage(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.CloseVantage(t.Context(), device); err != nil {
			t.Error(err)
		}
	}()
	ip(t, "addr", "add", "10.9.0.99/24", "dev", device)
	err = exec.CommandContext(t.Context(), "busybox", "ping", "-c1", "-W1", to.Addresses[0].Addr().String()).Run()
	if (err == nil) != sees {
		t.Errorf("ping %s from a vantage in VLAN %d: %v, want an answer: %t", to.Name, id, err, sees)
	}
}
