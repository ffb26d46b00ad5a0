// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// A port that its guest has left is released when it was seen so twice, and what
// only looks like one never is.
func TestPrune(t *testing.T) {
	ovs0 := vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS}
	for _, test := range []struct {
		name string
		// meanwhile is between the two looks.
		meanwhile func(s *site, guests []libvirtnet.Domain) (running []libvirtnet.Domain, listed time.Time)
		released  bool
	}{
		{"still stale", func(*site, []libvirtnet.Domain) ([]libvirtnet.Domain, time.Time) { return nil, time.Now() }, true},
		{"its guest runs again", func(_ *site, guests []libvirtnet.Domain) ([]libvirtnet.Domain, time.Time) {
			return guests, time.Now()
		}, false},
		{"its guest was wired after the guests were listed", func(s *site, guests []libvirtnet.Domain) ([]libvirtnet.Domain, time.Time) {
			listed := time.Now()
			if err := s.Wire(t.Context(), guests[0]); err != nil {
				t.Error(err)
			}
			return nil, listed
		}, false},
		{"it is another guest's by now", func(s *site, _ []libvirtnet.Domain) ([]libvirtnet.Domain, time.Time) {
			s.host.Change("tap0", func(p *switchcfg.Port) { p.Owner.Guest = uuid1 })
			return nil, time.Now()
		}, false},
		{"it is another device by now", func(s *site, _ []libvirtnet.Domain) ([]libvirtnet.Domain, time.Time) {
			s.host.Change("tap0", func(p *switchcfg.Port) { p.Index += 100 })
			return nil, time.Now()
		}, false},
		{"somebody uses its device", func(s *site, _ []libvirtnet.Domain) ([]libvirtnet.Domain, time.Time) {
			s.host.Change("tap0", func(p *switchcfg.Port) { p.Carrier = true })
			return nil, time.Now()
		}, false},
		{"its mark is gone", func(s *site, _ []libvirtnet.Domain) ([]libvirtnet.Domain, time.Time) {
			s.host.Change("tap0", func(p *switchcfg.Port) { p.Owner = switchcfg.Owner{} })
			return nil, time.Now()
		}, false},
		{"it is on another switch", func(s *site, _ []libvirtnet.Domain) ([]libvirtnet.Domain, time.Time) {
			s.host.Change("tap0", func(p *switchcfg.Port) { p.Switch = "br0" })
			return nil, time.Now()
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t)
			guests := many(1)
			s.plug(map[string]string{"tap0": "ovs0", "other": "ovs0"})
			bare := s.host.String()
			if err := s.Wire(t.Context(), guests[0]); err != nil {
				t.Fatal(err)
			}
			wired := s.host.String()
			stale, err := s.Prune(t.Context(), ovs0, nil, time.Now(), true)
			if err != nil || len(stale) != 1 || stale[0].Removed || !stale[0].Since.IsZero() {
				t.Fatalf("first look: %+v, %v, want tap0, which stays", stale, err)
			}
			s.checkHost(t, wired)
			running, listed := test.meanwhile(s, guests)
			before := s.host.String()
			stale, err = s.Prune(t.Context(), ovs0, running, listed, true)
			if removed := len(stale) == 1 && stale[0].Removed; err != nil || removed != test.released {
				t.Errorf("second look: %+v, %v, want it released: %t", stale, err, test.released)
			}
			if test.released {
				before = bare
			}
			s.checkHost(t, before)
		})
	}
}
