// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg"
)

// Libvirt gives the name of a stopping guest's device to the next guest at once.
func TestUnwireLeavesReusedDevice(t *testing.T) {
	s := newSite(t)
	s.plug(map[string]string{"vnet0": "br0"})
	if err := s.Wire(t.Context(), guestWith(nic(1, "lan", "vnet0"))); err != nil {
		t.Fatal(err)
	}
	s.host.Remove("vnet0")
	s.plug(map[string]string{"vnet0": "br0"})
	next := libvirtnet.Domain{Name: "g2", UUID: uuid2, NICs: []libvirtnet.DomainNIC{nic(2, "lan", "vnet0")}}
	if err := s.Wire(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	want := s.host.String()
	if err := s.Unwire(t.Context(), uuid1); err != nil {
		t.Fatal(err)
	}
	s.checkHost(t, want)
	s.checkRecord(t, false)
}

// A guest that was to come from another host, and has not, is not on its way any
// more.
func TestStoppedBeforeItCame(t *testing.T) {
	s := newSite(t)
	dom := many(1)[0]
	if err := s.Store.PutIncoming(dom.UUID, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := s.Handler().Stopped(t.Context(), dom); err != nil {
		t.Fatal(err)
	}
	if incoming, err := s.Store.TakeIncoming(dom.UUID, time.Now()); err != nil || incoming {
		t.Errorf("on its way: %t, %v, want false", incoming, err)
	}
}

func TestUnwireTrouble(t *testing.T) {
	wired := func(t *testing.T) *site {
		s := newSite(t)
		dom, devices := twoSwitches()
		s.plug(devices)
		if err := s.Wire(t.Context(), dom); err != nil {
			t.Fatal(err)
		}
		return s
	}
	t.Run("no UUID", func(t *testing.T) {
		if err := newSite(t).Unwire(t.Context(), "../x"); err == nil {
			t.Error("no error")
		}
	})
	t.Run("devices gone", func(t *testing.T) {
		s := wired(t)
		s.host.Remove("vnet1")
		s.host.Remove("vnet0")
		if err := s.Unwire(t.Context(), uuid1); err != nil {
			t.Error(err)
		}
		s.checkRecord(t, false)
	})
	t.Run("switch gone", func(t *testing.T) {
		s := wired(t)
		delete(s.switches, "br0")
		if err := s.Unwire(t.Context(), uuid1); err != nil {
			t.Error(err)
		}
		s.checkRecord(t, false)
	})
	t.Run("device taken away while looking", func(t *testing.T) {
		s := wired(t)
		m := s.switches["ovs0"]
		m.changes = 0 // those of the wiring
		m.onChange = func(n int) error {
			if n == 1 {
				m.host.Remove("vnet1")
				return switchcfg.ErrNoPort
			}
			return nil
		}
		if err := s.Unwire(t.Context(), uuid1); err != nil {
			t.Error(err)
		}
		if owner := m.ports(t.Context())["vnet2"].Owner; !owner.IsZero() || m.changes < 2 {
			t.Errorf("vnet2 is still marked %v", owner)
		}
	})
	t.Run("switch does not answer", func(t *testing.T) {
		s := wired(t)
		s.switches["ovs0"].openError = switchcfg.ErrUnreachable
		if err := s.Unwire(t.Context(), uuid1); !errors.Is(err, switchcfg.ErrUnreachable) {
			t.Errorf("error %v, want ErrUnreachable", err)
		}
		s.checkRecord(t, true, "vnet0", "vnet1", "vnet2") // for the next try
		s.switches["ovs0"].heal()
		if err := s.Unwire(t.Context(), uuid1); err != nil {
			t.Error(err)
		}
		s.checkRecord(t, false)
	})
	t.Run("torn record", func(t *testing.T) {
		s := wired(t)
		put(t, filepath.Join(s.Store.RunDir, "guests"), uuid1+".json", "{", 0o644)
		if err := s.Unwire(t.Context(), uuid1); !errors.Is(err, state.ErrDamaged) {
			t.Errorf("error %v, want ErrDamaged", err)
		}
		s.checkRecord(t, false)
	})
}

func TestStarted(t *testing.T) {
	s := newSite(t)
	s.plug(map[string]string{"vnet0": "br0"})
	dom := guestWith(nic(1, "lan", "vnet0"))
	if err := s.Wire(t.Context(), dom); err != nil {
		t.Fatal(err)
	}
	if err := s.Started(t.Context(), dom); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a repair keeps it
		record, err := s.Store.Guest(uuid1)
		if err != nil || record.Started.IsZero() || !record.Complete {
			t.Errorf("record %+v, %v, want when it started", record, err)
		}
		if err := s.Wire(t.Context(), dom); err != nil {
			t.Fatal(err)
		}
	}
}
