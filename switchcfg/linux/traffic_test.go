// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

const answerLimit = 5 * time.Second

// station plugs a host into br0 whose last address and MAC byte is n.
func station(t *testing.T, l *lab.Lab, name string, n byte) *lab.Station {
	t.Helper()
	s := &lab.Station{
		Name: name, Bridge: "br0", MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, n},
		Addresses: []netip.Prefix{netip.PrefixFrom(address(n), 24)},
	}
	if err := l.AddStation(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func address(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 0, n}) }

// wire gives the port of a station a policy.
func wire(t *testing.T, d switchcfg.Driver, s *lab.Station, policy vnet.Policy) switchcfg.Plan {
	t.Helper()
	return wirePort(t, d, br0, vnet.Port{
		Device: s.Device, Switch: "br0", Network: "red", Policy: policy, Guest: vnet.GuestRef{UUID: "u1"}, MAC: vnet.MAC(s.MAC),
	})
}

// wireMTU gives a port an MTU.
func wireMTU(t *testing.T, d switchcfg.Driver, device string, mtu int) switchcfg.Plan {
	t.Helper()
	return wirePort(t, d, br0, vnet.Port{Device: device, Switch: "br0", Network: "red", MTU: mtu, Guest: vnet.GuestRef{UUID: "u1"}})
}

// wirePort brings a port to what is wanted of it, and checks that it is.
func wirePort(t *testing.T, d switchcfg.Driver, sw vnet.Switch, port vnet.Port) switchcfg.Plan {
	t.Helper()
	plan := switchtest.MustPlan(t, d, sw, port)
	if _, err := d.Apply(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if left := switchtest.MustPlan(t, d, sw, port); !left.Empty() {
		t.Fatalf("still to do:\n%s", left)
	}
	return plan
}

func reaches(t *testing.T, from, to *lab.Station) {
	t.Helper()
	if err := from.WaitPing(t.Context(), to.Addresses[0].Addr(), answerLimit); err != nil {
		t.Error(err)
	}
}

func doesNotReach(t *testing.T, from, to *lab.Station) {
	t.Helper()
	switch err := from.Ping(t.Context(), to.Addresses[0].Addr()); {
	case err == nil:
		t.Errorf("%s reaches %s", from.Name, to.Name)
	case !errors.Is(err, lab.ErrNoAnswer):
		t.Error(err)
	}
}

func openBR0(t *testing.T) *linux.Driver {
	t.Helper()
	return openAs(t, br0)
}

func TestIsolatedTraffic(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	c := station(t, l, "c", 3)
	d := openBR0(t)

	reaches(t, a, b) // so the probe can see what must not be
	wire(t, d, a, vnet.Policy{Isolated: true})
	reaches(t, a, b) // isolated only from isolated
	undo := wire(t, d, b, vnet.Policy{Isolated: true}).Reverse()
	doesNotReach(t, a, b)
	reaches(t, a, c)
	if _, err := d.Apply(t.Context(), undo); err != nil {
		t.Fatal(err)
	}
	reaches(t, a, b)
	prove(t, "isolated", "an isolated guest reaches one that is not", "two isolated ones do not reach each other")
}

// TestVLANTraffic sends traffic where the kernel has VLAN filtering, as in the
// VM of make test-vm. Elsewhere the driver must have noticed that it has not.
func TestVLANTraffic(t *testing.T) {
	l := start(t)
	if !canFilter(t) {
		if openBR0(t).Capabilities().Missing[switchcfg.FeatureVLAN] == "" {
			t.Error("the kernel has no bridge VLAN filtering, and the driver does not say so")
		}
		return
	}
	ip(t, "link", "set", "br0", "type", "bridge", "vlan_filtering", "1")
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	d := openBR0(t)
	access := func(id vnet.VLANID) vnet.Policy { return vnet.Policy{VLAN: vnet.VLANSet{Access: id}} }

	wire(t, d, a, access(20))
	wire(t, d, b, access(30))
	doesNotReach(t, a, b)
	wire(t, d, b, access(20))
	reaches(t, a, b) // the twin: only the tag differs
	prove(t, "access VLAN", "guests of VLAN 20 reach each other", "one of VLAN 30 they do not")

	// A trunk with native VLAN 20 takes untagged frames into it, and one
	// without takes none.
	trunk := vnet.VLANRanges{{First: 25, Last: 35}}
	wire(t, d, b, vnet.Policy{VLAN: vnet.VLANSet{Trunk: trunk, Native: 20}})
	reaches(t, a, b)
	wire(t, d, b, vnet.Policy{VLAN: vnet.VLANSet{Trunk: vnet.VLANRanges{{First: 20, Last: 20}}}})
	doesNotReach(t, a, b)
	wire(t, d, b, vnet.Policy{VLAN: vnet.VLANSet{Trunk: trunk, Native: 20, NativeTagged: true}})
	doesNotReach(t, a, b) // a's frames leave with a tag, which b does not read
	prove(t, "native VLAN", "a trunk's untagged frames are in its native VLAN", "without one they are in none, and native_tagged sends none")

	// A tagged VLAN reaches b's own VLAN device.
	wire(t, d, a, access(30))
	wire(t, d, b, vnet.Policy{VLAN: vnet.VLANSet{Trunk: trunk}})
	inStation(t, b, "ip", "link", "add", "eth0.30", "link", "eth0", "type", "vlan", "id", "30")
	inStation(t, b, "ip", "addr", "flush", "dev", "eth0")
	inStation(t, b, "ip", "addr", "add", "10.9.0.2/24", "dev", "eth0.30")
	inStation(t, b, "ip", "link", "set", "eth0.30", "up")
	reaches(t, a, b)
	wire(t, d, b, vnet.Policy{VLAN: vnet.VLANSet{Trunk: vnet.VLANRanges{{First: 31, Last: 35}}}})
	doesNotReach(t, a, b)
	prove(t, "trunk", "a tagged VLAN of the trunk passes", "one that is not of it does not")

	checkLearned(t, d, switchcfg.Learned{MAC: vnet.MAC(a.MAC), VLAN: 30, Device: a.Device})
	checkVantage(t, d, 30, a, true)
	checkVantage(t, d, 31, a, false)
}

func inStation(t *testing.T, s *lab.Station, argv ...string) {
	t.Helper()
	if _, err := s.Run(t.Context(), argv...); err != nil {
		t.Fatal(err)
	}
}

func TestLearnedAndVantage(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	reaches(t, a, b)
	d := openBR0(t)
	checkLearned(t, d,
		switchcfg.Learned{MAC: vnet.MAC(a.MAC), Device: a.Device},
		switchcfg.Learned{MAC: vnet.MAC(b.MAC), Device: b.Device})
	checkVantage(t, d, 0, a, true)
	// The twin: what the vantage asks goes through the bridge.
	ip(t, "link", "set", a.Device, "down")
	checkVantage(t, d, 0, a, false)
}

// checkLearned checks that the rows are among what the bridge has learned, and
// that nothing of the host's own is.
func checkLearned(t *testing.T, d *linux.Driver, want ...switchcfg.Learned) {
	t.Helper()
	got, err := d.Learned(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range want {
		if !slices.Contains(got, row) {
			t.Errorf("learned %v, want %v", got, row)
		}
	}
	for _, row := range got {
		device, err := net.InterfaceByName(row.Device)
		if err != nil {
			t.Fatal(err)
		}
		if vnet.MAC(device.HardwareAddr) == row.MAC {
			t.Errorf("learned the host's own %v", row)
		}
	}
}

// checkVantage looks at a station from a vantage, with the host's own ping.
func checkVantage(t *testing.T, d *linux.Driver, vlan vnet.VLANID, to *lab.Station, sees bool) {
	t.Helper()
	device, err := d.OpenVantage(t.Context(), vlan)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.CloseVantage(t.Context(), device); err != nil {
			t.Error(err)
		}
	}()
	ip(t, "addr", "add", "10.9.0.99/24", "dev", device)
	err = try(t, "busybox", "ping", "-c1", "-W1", to.Addresses[0].Addr().String())
	if (err == nil) != sees {
		t.Errorf("ping %s from a vantage in VLAN %d: %v, want an answer: %t", to.Name, vlan, err, sees)
	}
}
