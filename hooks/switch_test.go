// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// owned is br0 as a spec has it that looks after the bridge and its uplink.
var owned = vnet.Switch{Name: "br0", Driver: vnet.DriverLinux, Uplink: "eth0", Bridge: vnet.Bridge{Owned: true, VLANFiltering: vnet.ToggleOn}}

// newOwnSite is a site with br0 of its own: the networks red and blue, of VLAN
// 20 and 30, and honest, which keeps its guests to their addresses. The uplink
// eth0 carries VLAN 77 for somebody else.
func newOwnSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	host := switchtest.NewHost(switchtest.Switch{Switch: owned, Untagged: 1, Own: vnet.Bridge{VLANFiltering: vnet.ToggleOff}})
	s := &site{host: host, Wirer: &hooks.Wirer{
		Store: state.Store{StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run")}, Open: host.Open,
	}}
	s.plug(map[string]string{"eth0": "br0"})
	host.Change("eth0", func(p *switchcfg.Port) {
		p.Foreign = "to the printer" // what an administrator calls the uplink is nobody's business
		p.Settings.VLAN = &vnet.VLANSet{Trunk: vnet.VLANRanges{{First: 77, Last: 77}}, Native: 1}
	})
	for name, policy := range map[string]vnet.Policy{
		"red": {VLAN: vnet.VLANSet{Access: 20}}, "blue": {VLAN: vnet.VLANSet{Access: 30}},
		"honest": {VLAN: vnet.VLANSet{Access: 20}, AntiSpoof: true, QoS: vnet.QoS{Inbound: vnet.Rate{Bits: 1e6}}},
	} {
		n := state.Network{Switch: owned, Network: vnet.Network{Name: name, Mode: vnet.ModeBridge, Switch: "br0", Policy: policy}}
		if err := s.Store.PutNetwork(n); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// checkUplink checks which VLANs the uplink carries, and which because of us.
func (s *site) checkUplink(t *testing.T, carries, added string) {
	t.Helper()
	if got := s.host.Port("eth0").Settings.VLAN.All().String(); got != carries {
		t.Errorf("the uplink carries %s, want %s", got, carries)
	}
	record, err := s.Store.Switch("br0")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if got := record.Added.String(); got != added {
		t.Errorf("the record has %q as added, want %q", got, added)
	}
}

func (s *site) wireGuest(t *testing.T, uuid string, n byte, network, device string) {
	t.Helper()
	s.plug(map[string]string{device: "br0"})
	if err := s.Wire(t.Context(), libvirtnet.Domain{Name: device, UUID: uuid, NICs: []libvirtnet.DomainNIC{nic(n, network, device)}}); err != nil {
		t.Fatal(err)
	}
}

func (s *site) stopGuest(t *testing.T, uuid, device string) {
	t.Helper()
	s.host.Remove(device)
	if err := s.Unwire(t.Context(), uuid); err != nil {
		t.Fatal(err)
	}
}

func TestUplinkFollowsGuests(t *testing.T) {
	s := newOwnSite(t)
	s.checkUplink(t, "1,77", "")
	s.wireGuest(t, uuid1, 1, "red", "vnet0")
	s.checkUplink(t, "1,20,77", "20")
	s.wireGuest(t, uuid2, 2, "red", "vnet1")
	s.checkUplink(t, "1,20,77", "20")
	s.stopGuest(t, uuid1, "vnet0")
	s.checkUplink(t, "1,20,77", "20")
	s.wireGuest(t, uuid1, 3, "blue", "vnet0")
	s.checkUplink(t, "1,20,30,77", "20,30")
	s.stopGuest(t, uuid2, "vnet1")
	s.checkUplink(t, "1,30,77", "30")
	s.stopGuest(t, uuid1, "vnet0")
	s.checkUplink(t, "1,77", "")
}

// TestSwitchFailsWithGuest checks that a guest that cannot be wired leaves the
// switch and its uplink as they were.
func TestSwitchFailsWithGuest(t *testing.T) {
	s := newOwnSite(t)
	s.plug(map[string]string{"vnet0": "br0"})
	s.host.FailAt(3, errors.New("broken")) // the bridge, the uplink, the port
	before := s.host.String()
	if err := s.Wire(t.Context(), guestWith(nic(1, "red", "vnet0"))); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Fatalf("got error %v", err)
	}
	if diff := cmp.Diff(before, s.host.String()); diff != "" {
		t.Errorf("host (-before +now):\n%s", diff)
	}
	if own, _ := s.host.Own("br0"); own.VLANFiltering != vnet.ToggleOff {
		t.Error("VLAN filtering stayed on")
	}
}

func TestSetAndReturnSwitch(t *testing.T) {
	s := newOwnSite(t)
	filtering := func() vnet.Toggle { own, _ := s.host.Own("br0"); return own.VLANFiltering }
	plan, err := s.PlanSwitch(t.Context(), owned)
	if err != nil || plan.String() != "br0: br0: vlan filtering: off -> on\n" || filtering() != vnet.ToggleOff {
		t.Errorf("plan %q, %v", plan, err)
	}
	for range 2 {
		if _, err := s.SetSwitch(t.Context(), owned); err != nil || filtering() != vnet.ToggleOn {
			t.Fatalf("set: %v, filtering %s", err, filtering())
		}
	}
	// The bridge comes up anew, as after ifdown and ifup: a guest's start mends it.
	if _, err := s.ReturnSwitch(t.Context(), "br0"); err != nil || filtering() != vnet.ToggleOff {
		t.Fatalf("return: %v, filtering %s", err, filtering())
	}
	s.wireGuest(t, uuid1, 1, "red", "vnet0")
	if filtering() != vnet.ToggleOn {
		t.Error("a guest was wired without VLAN filtering")
	}
	_, err = s.ReturnSwitch(t.Context(), "br0")
	if !errors.Is(err, switchcfg.ErrNotOwned) || !strings.Contains(err.Error(), "vnet0") || filtering() != vnet.ToggleOn {
		t.Errorf("return under a guest in a VLAN: %v, filtering %s", err, filtering())
	}
	s.stopGuest(t, uuid1, "vnet0")
	if _, err := s.ReturnSwitch(t.Context(), "br0"); err != nil || filtering() != vnet.ToggleOff {
		t.Errorf("return: %v, filtering %s", err, filtering())
	}
	if _, err := s.ReturnSwitch(t.Context(), "br0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("return what is returned: %v", err)
	}
	s.checkUplink(t, "1,77", "")
}

// TestSwitchThatIsGone checks that a bridge that went leaves nothing behind, and
// is missed where it is needed.
func TestSwitchThatIsGone(t *testing.T) {
	s := newOwnSite(t)
	if _, err := s.SetSwitch(t.Context(), owned); err != nil {
		t.Fatal(err)
	}
	gone := owned
	gone.Name = "br9"
	if _, err := s.SetSwitch(t.Context(), gone); !errors.Is(err, switchcfg.ErrNoSwitch) {
		t.Errorf("set: got error %v, want %v", err, switchcfg.ErrNoSwitch)
	}
	if err := s.Tidy(t.Context(), []vnet.Switch{gone}); err != nil {
		t.Errorf("tidy: %v", err)
	}
	if err := s.Store.PutSwitch(state.Switch{Switch: gone, Added: vnet.AllVLANs()}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReturnSwitch(t.Context(), "br9"); err != nil {
		t.Errorf("return: %v", err)
	}
	if _, err := s.Store.Switch("br9"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the record: %v", err)
	}
}

func TestSweepAfterGuardedGuests(t *testing.T) {
	s := newOwnSite(t)
	swept := func() int { _, n := s.host.Own("br0"); return n }
	s.wireGuest(t, uuid1, 1, "red", "vnet0")
	s.stopGuest(t, uuid1, "vnet0")
	if swept() != 0 {
		t.Error("swept after a guest without a guard")
	}
	s.wireGuest(t, uuid1, 1, "honest", "vnet0")
	s.stopGuest(t, uuid1, "vnet0")
	if swept() != 1 {
		t.Error("not swept after a guarded guest")
	}
	if err := s.Tidy(t.Context(), []vnet.Switch{owned}); err != nil || swept() != 2 {
		t.Errorf("tidy: %v, swept %d times", err, swept())
	}
}

// TestSources checks whose addresses a guarded port gets.
func TestSources(t *testing.T) {
	s := newOwnSite(t)
	addr := netip.MustParseAddr
	spec := vnet.Guest{Name: "g1", NICs: []vnet.NIC{
		{Network: "honest", Address: addr("10.0.20.11")},
		{Network: "honest", MAC: vnet.MAC{0x52, 0x54, 0, 0, 0, 1}, Address: addr("10.0.20.12"), Allow: vnet.Allow{Addresses: []netip.Addr{addr("10.0.20.1")}}},
		{Network: "red", Address: addr("10.9.9.9")},
	}}
	if err := s.Store.PutGuestSpec(state.GuestSpec{Guest: spec}); err != nil {
		t.Fatal(err)
	}
	s.plug(map[string]string{"vnet0": "br0", "vnet1": "br0", "vnet2": "br0"})
	limited := nic(2, "honest", "vnet1")
	limited.Limited = true
	if err := s.Wire(t.Context(), guestWith(nic(1, "honest", "vnet0"), limited, nic(3, "red", "vnet2"))); err != nil {
		t.Fatal(err)
	}
	guard := func(mac byte, addresses ...netip.Addr) switchcfg.Guard {
		return switchcfg.Guard{MACs: []vnet.MAC{{0x52, 0x54, 0, 0, 0, mac}}, Addresses: addresses, DHCP: true, RA: true}
	}
	for device, want := range map[string]switchcfg.Guard{
		"vnet0": guard(1, addr("10.0.20.1"), addr("10.0.20.12")), "vnet1": guard(2, addr("10.0.20.11")), "vnet2": {},
	} {
		if got := s.host.Port(device).Settings.Guard; !got.Equal(want) {
			t.Errorf("%s: got %+v, want %+v", device, got, want)
		}
	}
	if got := s.host.Port("vnet0").Settings.QoS.Inbound.Bits; got != 1e6 {
		t.Errorf("inbound %s", got)
	}
	if got := s.host.Port("vnet1").Settings.QoS.Inbound.Bits; got != 0 {
		t.Errorf("inbound %s, and libvirt's", got)
	}
}

func TestSourcesUnreadable(t *testing.T) {
	s := newOwnSite(t)
	path := filepath.Join(s.Store.StateDir, "guests", "g1.json")
	if err := s.Store.PutGuestSpec(state.GuestSpec{Guest: vnet.Guest{Name: "g1"}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.plug(map[string]string{"vnet0": "br0"})
	err := s.Wire(t.Context(), guestWith(nic(1, "honest", "vnet0")))
	if !errors.Is(err, state.ErrDamaged) || !strings.Contains(err.Error(), "virt-vnet repair") {
		t.Errorf("got error %v, want %v", err, state.ErrDamaged)
	}
	if err := s.Wire(t.Context(), guestWith(nic(1, "red", "vnet0"))); err != nil {
		t.Errorf("a network without anti-spoofing needs no addresses: %v", err)
	}
}

func TestLibvirtsMACTable(t *testing.T) {
	s := newOwnSite(t)
	s.plug(map[string]string{"vnet0": "br0"})
	managed := nic(1, "red", "vnet0")
	managed.MACTable = true
	before := s.host.String()
	err := s.Wire(t.Context(), guestWith(managed))
	if err == nil || !strings.Contains(err.Error(), "macTableManager='libvirt'") || !strings.Contains(err.Error(), "virt-vnet apply") {
		t.Errorf("got error %v", err)
	}
	s.checkHost(t, before)
}
