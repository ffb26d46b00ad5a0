// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg"
)

// A killed hook leaves a record that is not complete, and ports half-wired. The
// next run wires them; the first before-images stay, whether the killed one got
// as far as to mark the port or not.
func TestWireAfterKill(t *testing.T) {
	for _, changes := range []int{0, 1, 2} {
		s := newSite(t)
		dom, devices := twoSwitches()
		s.plug(devices)
		s.switches["br0"].setMTU(1400)
		before := s.host.String()
		if err := s.Wire(t.Context(), dom); err != nil {
			t.Fatal(err)
		}
		record, err := s.Store.Guest(uuid1)
		if err != nil {
			t.Fatal(err)
		}
		record.Complete = false
		if err := s.Store.PutGuest(record); err != nil {
			t.Fatal(err)
		}
		s.switches["br0"].setMark("vnet0", switchcfg.Owner{}) // died after the MTU, before the mark
		if changes > 0 {
			s.switches["ovs0"].setMark("vnet1", switchcfg.Owner{})
		}
		if err := s.Wire(t.Context(), dom); err != nil {
			t.Fatal(err)
		}
		s.checkRecord(t, true, "vnet0", "vnet1", "vnet2")
		if err := s.Unwire(t.Context(), uuid1); err != nil {
			t.Fatal(err)
		}
		s.checkHost(t, before)
	}
}

// The first before-images stay through repairs, but not into the next life of a
// device of that name.
func TestBeforeImages(t *testing.T) {
	s := newSite(t)
	dom := guestWith(nic(1, "lan", "vnet0"))
	s.plug(map[string]string{"vnet0": "br0"})
	before := s.host.String()
	for range 3 {
		if err := s.Wire(t.Context(), dom); err != nil {
			t.Fatal(err)
		}
		s.switches["br0"].setMTU(1234) // somebody breaks it
	}
	if err := s.Unwire(t.Context(), uuid1); err != nil {
		t.Fatal(err)
	}
	s.checkHost(t, before)

	if err := s.Wire(t.Context(), dom); err != nil {
		t.Fatal(err)
	}
	s.host.Remove("vnet0")
	s.plug(map[string]string{"vnet0": "br0"})
	s.switches["br0"].setMTU(1300) // libvirt made a new one
	before = s.host.String()
	for range 2 {
		if err := s.Wire(t.Context(), dom); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Unwire(t.Context(), uuid1); err != nil {
		t.Fatal(err)
	}
	s.checkHost(t, before)
}

// Many guests, each called several times at once: every port is right, once.
func TestWireConcurrently(t *testing.T) {
	s := newSite(t)
	const guests = 20
	var wg sync.WaitGroup
	for g := range byte(guests) {
		device := func(prefix string) string { return prefix + string('a'+g) }
		s.plug(map[string]string{device("br"): "br0", device("ovs"): "ovs0"})
		dom := libvirtnet.Domain{
			Name: device("guest"), UUID: uuid1[:34] + string([]byte{'a' + g/16, "0123456789abcdef"[g%16]}),
			NICs: []libvirtnet.DomainNIC{nic(2*g, "lan", device("br")), nic(2*g+1, "red", device("ovs"))},
		}
		for range 3 {
			wg.Go(func() {
				if err := s.Wire(t.Context(), dom); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	for _, m := range []string{"br0", "ovs0"} {
		for device, port := range s.switches[m].ports(t.Context()) {
			if port.Owner.IsZero() {
				t.Errorf("%s %s is not wired", m, device)
			}
		}
		if n := s.switches[m].changes; n != guests {
			t.Errorf("%s: %d changes, want one for each of %d ports", m, n, guests)
		}
	}
	list, err := s.Store.Guests()
	if err != nil || len(list) != guests {
		t.Errorf("%d records, %v, want %d", len(list), err, guests)
	}
	for _, record := range list {
		images := 0
		for _, plan := range record.Undo {
			for _, c := range plan.Changes {
				if c.Before.Owner.IsZero() && c.After.Owner.Guest == record.Guest.UUID {
					images++
				}
			}
		}
		if images != 2 || !record.Complete {
			t.Errorf("record %+v, want it complete, with the before-images of two ports", record)
		}
	}
}

// Looking at a switch and changing it is one step: nobody else is in between.
func TestWireWaitsForSwitch(t *testing.T) {
	s := newSite(t)
	dom, devices := twoSwitches()
	s.plug(devices)
	if err := s.Wire(t.Context(), dom); err != nil {
		t.Fatal(err)
	}
	unlock, err := s.Store.Lock(t.Context(), "ovs0")
	if err != nil {
		t.Fatal(err)
	}
	before := s.host.String()
	for name, f := range map[string]func(context.Context) error{
		"Wire":   func(ctx context.Context) error { return s.Wire(ctx, dom) },
		"Unwire": func(ctx context.Context) error { return s.Unwire(ctx, uuid1) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := f(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "lock switch ovs0: held by process") {
			t.Errorf("%s: error %v, want that somebody has the lock", name, err)
		}
		cancel()
	}
	s.checkHost(t, before)
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if err := s.Unwire(t.Context(), uuid1); err != nil {
		t.Error(err)
	}
}
