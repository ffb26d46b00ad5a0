// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Whatever fails, and wherever: nothing stays changed, and nothing is recorded.
func TestWireUndoesAll(t *testing.T) {
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		sw       string
		sabotage func(*memory)
		want     string
	}{
		"first change of all":       {"br0", func(m *memory) { m.failChange(1, boom) }, "network lan: boom"},
		"first of second switch":    {"ovs0", func(m *memory) { m.failChange(1, boom) }, "network red, blue: boom"},
		"last change of all":        {"ovs0", func(m *memory) { m.failChange(2, boom) }, "boom"},
		"made, but reported failed": {"ovs0", func(m *memory) { m.failAfterChange(2, boom) }, "boom"},
		"says yes, does nothing":    {"ovs0", func(m *memory) { m.deaf = true }, "did not take it"},
		"cannot be opened":          {"ovs0", func(m *memory) { m.openError = boom }, "boom"},
		"cannot be observed":        {"ovs0", func(m *memory) { m.failObserve(1, boom) }, "boom"},
		"gone at the second look":   {"ovs0", func(m *memory) { m.failObserve(2, boom) }, "boom"},
		"cannot do VLANs": {"ovs0", func(m *memory) {
			m.missing = map[switchcfg.Feature]string{switchcfg.FeatureVLAN: "no VLANs here"}
		}, "no VLANs here"},
		"port is not there": {"ovs0", func(m *memory) { m.host.Remove("vnet2") }, "vnet2: no such port"},
		"port is foreign":   {"ovs0", func(m *memory) { m.host.Change("vnet1", func(p *switchcfg.Port) { p.Foreign = "leave me alone" }) }, "not ours"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			dom, devices := twoSwitches()
			s.plug(devices)
			tc.sabotage(s.switches[tc.sw])
			before := s.host.String()
			err := s.Wire(t.Context(), dom)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			s.checkHost(t, before)
			s.checkRecord(t, false)
			if n := s.switches["br0"].opened + s.switches["ovs0"].opened; n != 0 {
				t.Errorf("%d drivers left open", n)
			}
			s.switches[tc.sw].heal()
			s.plug(devices)
			if err := s.Wire(t.Context(), dom); err != nil {
				t.Errorf("healed: %v", err)
			}
		})
	}
}

// When undoing fails too, the error says so, and the record stays for repair.
func TestWireUndoFails(t *testing.T) {
	s := newSite(t)
	dom, devices := twoSwitches()
	s.plug(devices)
	s.switches["ovs0"].failChange(1, errors.New("boom"))
	s.switches["br0"].failChange(2, errors.New("bang"))
	before := s.host.String()
	err := s.Wire(t.Context(), dom)
	for _, want := range []string{"boom", "undo: network lan: bang", "virt-vnet repair g1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	s.checkRecord(t, false, "vnet0", "vnet1", "vnet2")
	s.switches["ovs0"].heal()
	s.switches["br0"].heal()
	plans, err := s.Repair(t.Context(), dom)
	if err != nil || len(plans) != 1 || plans[0].Switch != "ovs0" {
		t.Errorf("repair: %v, %v, want what was left to do on ovs0", plans, err)
	}
	s.checkRecord(t, true, "vnet0", "vnet1", "vnet2")
	if err := s.Unwire(t.Context(), uuid1); err != nil {
		t.Fatal(err)
	}
	s.checkHost(t, before)
}

func TestWire(t *testing.T) {
	s := newSite(t)
	s.plug(map[string]string{
		"vnet0": "br0", "vnet1": "ovs0", "vnet2": "ovs0", "vnet3": "virbr7", "vnet4": "virbr7", "vnet9": "br0",
	})
	nat, plain := nic(4, "nat", "vnet3"), nic(5, "plain", "vnet4")
	nat.Bridge, plain.Bridge = "virbr7", "virbr7"
	web := nic(3, "red", "vnet2")
	web.Portgroup = "web"
	other := libvirtnet.DomainNIC{Type: "bridge", Bridge: "br0", Device: "vnet9", MAC: vnet.MAC{2, 0, 0, 0, 0, 9}}
	dom := guestWith(nic(1, "lan", "vnet0"), nic(2, "red", "vnet1"), web, nat, plain, nic(6, "edge", "macvtap0"), other,
		nic(7, "default", "vnet9"))
	before := s.host.String()
	for round, want := range []int{3, 0} { // the second time there is nothing to do
		plans, err := s.Repair(t.Context(), dom)
		if err != nil || len(plans) != want {
			t.Errorf("round %d: %v, %v, want plans for %d switches", round, plans, err, want)
		}
		owner := "owner guest " + uuid1 + ", network "
		s.checkHost(t, "vnet0: switch br0, vlan untagged, mtu 9000, bpdu-guard on, "+owner+"lan\n"+
			"vnet1: switch ovs0, vlan access 20, mtu 1500, "+owner+"red\n"+
			"vnet2: switch ovs0, vlan access 21, mtu 1500, "+owner+"red\n"+
			"vnet3: switch virbr7, vlan untagged, mtu 1500, isolated on, bpdu-guard on, "+owner+"nat\n"+
			"vnet4: switch virbr7, vlan untagged, mtu 1500, owner none\n"+
			"vnet9: switch br0, vlan untagged, mtu 1500, owner none\n")
		s.checkRecord(t, true, "vnet4", "macvtap0", "vnet0", "vnet1", "vnet2", "vnet3")
	}
	for range 2 {
		if err := s.Unwire(t.Context(), uuid1); err != nil {
			t.Fatal(err)
		}
		s.checkHost(t, before)
		s.checkRecord(t, false)
	}
}

// Where failure is to be let pass, it takes along only what it concerns.
func TestWireWarns(t *testing.T) {
	for name, tc := range map[string]struct {
		networks []string // of vnet0, vnet1, on br0
		fail     int
		refused  bool
		wired    string // the networks wired in the end
	}{
		"warn fails alone":        {[]string{"soft", "soft"}, 1, false, ""},
		"warn fails, lan is kept": {[]string{"lan", "soft"}, 2, false, "lan"},
		"lan fails, none is kept": {[]string{"soft", "lan"}, 2, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.plug(map[string]string{"vnet0": "br0", "vnet1": "br0"})
			s.switches["br0"].failChange(tc.fail, errors.New("boom"))
			err := s.Wire(t.Context(), guestWith(nic(1, tc.networks[0], "vnet0"), nic(2, tc.networks[1], "vnet1")))
			warning, ok := errors.AsType[*hooks.Warning](err)
			if err == nil || ok == tc.refused {
				t.Errorf("error %v, warning %v, want refused: %v", err, warning, tc.refused)
			}
			var wired []string
			for _, port := range s.switches["br0"].ports(t.Context()) {
				if !port.Owner.IsZero() {
					wired = append(wired, port.Owner.Network)
				}
			}
			if got := strings.Join(wired, ","); got != tc.wired {
				t.Errorf("wired %q, want %q", got, tc.wired)
			}
		})
	}
}

// The records decide, whatever state they are in.
func TestWireBadRecords(t *testing.T) {
	for name, tc := range map[string]struct {
		record  string // of network red
		nic     libvirtnet.DomainNIC
		want    string
		warning bool
	}{
		"torn":      {`{"format":1,"netw`, nic(1, "red", "vnet1"), "virt-vnet repair", false},
		"newer":     {`{"format":9}`, nic(1, "red", "vnet1"), "newer virt-vnet", false},
		"no switch": {`{"format":1,"network":{"name":"red","mode":"bridge"}}`, nic(1, "red", "vnet1"), "no switch", false},
		"no mode":   {`{"format":1,"network":{"name":"red"}}`, nic(1, "red", "vnet1"), "no mode", false},
		"portgroup": {"", libvirtnet.DomainNIC{Network: "red", Portgroup: "db", Device: "vnet1"}, "no portgroup db", false},
		"no device": {"", nic(1, "red", ""), "no device", false},
		"unknown":   {`{"format":1,"network":{"name":"red","mode":"bridge","onFailure":"warn"},"switch":{"name":"ovs9","driver":"ovs"}}`, nic(1, "red", "vnet1"), "no such switch", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.plug(map[string]string{"vnet0": "br0", "vnet1": "ovs0"})
			if tc.record != "" {
				put(t, filepath.Join(s.Store.StateDir, "networks"), "red.json", tc.record, 0o644)
			}
			before := s.host.String()
			dom := guestWith(tc.nic)
			err := s.Wire(t.Context(), dom)
			if _, ok := errors.AsType[*hooks.Warning](err); err == nil || !strings.Contains(err.Error(), tc.want) || ok != tc.warning {
				t.Errorf("Wire: %v, want %q, warning: %v", err, tc.want, tc.warning)
			}
			s.checkHost(t, before)
			dom.NICs[0].Device = ""
			if err := s.Preflight(t.Context(), dom); (err == nil) != (name == "no device") {
				t.Errorf("Preflight: %v", err)
			}
			// The network may bring a torn one along.
			if err := s.Handler().Prepare(t.Context(), dom); (err == nil) != (name == "no device" || name == "torn") {
				t.Errorf("Prepare: %v", err)
			}
			// Another guest has nothing to do with it.
			if err := s.Wire(t.Context(), libvirtnet.Domain{Name: "g2", UUID: uuid2, NICs: []libvirtnet.DomainNIC{nic(9, "lan", "vnet0")}}); err != nil {
				t.Errorf("another guest: %v", err)
			}
		})
	}
}

// A guest that is none of ours leaves no trace, not even a lock.
func TestWireNoneOfOurs(t *testing.T) {
	s := newSite(t)
	dom := libvirtnet.Domain{Name: "other", UUID: uuid2, NICs: []libvirtnet.DomainNIC{nic(1, "default", "vnet0"), nic(2, "", "vnet1")}}
	for _, f := range []func(context.Context, libvirtnet.Domain) error{s.Preflight, s.Wire, s.Started} {
		if err := f(t.Context(), dom); err != nil {
			t.Error(err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(s.Store.RunDir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Undoing goes on when the time for the work is over.
func TestWireUndoesAfterDeadline(t *testing.T) {
	s := newSite(t)
	dom, devices := twoSwitches()
	s.plug(devices)
	before := s.host.String()
	ctx, cancel := context.WithCancel(t.Context())
	s.switches["ovs0"].onChange = func(n int) error {
		if n == 1 {
			cancel()
			return ctx.Err()
		}
		return nil
	}
	if err := s.Wire(ctx, dom); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was cancelled", err)
	}
	s.checkHost(t, before)
}

// What an earlier run wired and nobody wants any more is released.
func TestWireReleasesOld(t *testing.T) {
	s := newSite(t)
	s.plug(map[string]string{"vnet0": "br0", "vnet1": "ovs0"})
	if err := s.Wire(t.Context(), guestWith(nic(1, "lan", "vnet0"), nic(2, "red", "vnet1"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Wire(t.Context(), guestWith(nic(1, "lan", "vnet0"))); err != nil {
		t.Fatal(err)
	}
	if owner := s.switches["ovs0"].ports(t.Context())["vnet1"].Owner; !owner.IsZero() {
		t.Errorf("vnet1 is still marked %v", owner)
	}
	s.checkRecord(t, true, "vnet0")
}
