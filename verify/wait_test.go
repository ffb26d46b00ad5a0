// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// fakeBoots says when guests come up, and notes who was looked at when.
type fakeBoots struct {
	began time.Time
	up    map[string]time.Duration
	looks [][]string
	at    []time.Duration
}

func (f *fakeBoots) look(_ context.Context, guests []string) (sight, error) {
	f.looks, f.at = append(f.looks, guests), append(f.at, time.Since(f.began))
	if guests == nil {
		guests = slices.Sorted(maps.Keys(f.up))
	}
	now := sight{pending: map[nicID]string{}, guests: len(guests)}
	for _, name := range guests {
		if time.Since(f.began) < f.up[name] {
			now.pending[nicID{guest: name}] = "silent"
		}
	}
	return now, nil
}

func TestWaitBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boots := &fakeBoots{began: time.Now(), up: map[string]time.Duration{"a": 0, "b": 3 * time.Second, "c": time.Minute, "d": time.Hour}}
		var said []string
		w := &waiting{look: boots.look, limit: 2 * time.Minute, reached: map[nicID]time.Duration{}, progress: func(s string) { said = append(said, s) }}
		if err := w.wait(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(boots.began); took != 2*time.Minute {
			t.Errorf("it waited %v, want the limit of 2m0s", took)
		}
		if len(boots.at) < 14 || len(boots.at) > 24 {
			t.Errorf("%d looks in two minutes, at %v", len(boots.at), boots.at)
		}
		for i := 1; i < len(boots.at)-1; i++ { // the last pause is what was left
			pause, want := boots.at[i]-boots.at[i-1], min(firstPause<<(i-1), lastPause)
			if pause < want*8/10 || pause > want*12/10 {
				t.Errorf("pause %d is %v, want about %v", i, pause, want)
			}
		}
		if !slices.Equal(boots.looks[1], []string{"b", "c", "d"}) || !slices.Equal(boots.looks[len(boots.looks)-1], []string{"d"}) {
			t.Errorf("looked at %v, want those only that were not up", boots.looks)
		}
		if want := "waiting for 3 of 4 guests: b (silent), c (silent), d (silent)"; said[0] != want {
			t.Errorf("said %q, want %q", said[0], want)
		}
		for name, least := range map[string]time.Duration{"b": 3 * time.Second, "c": time.Minute} {
			if after := w.reached[nicID{guest: name}]; after < least || after > least+12*time.Second {
				t.Errorf("%s was reachable after %v, want %v or a little later", name, after, least)
			}
		}
		if len(w.reached) != 2 {
			t.Errorf("reached %v, want b and c: a was there, and d never came", w.reached)
		}
	})
}

func TestWaitStops(t *testing.T) {
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			boots := &fakeBoots{began: time.Now(), up: map[string]time.Duration{"a": time.Second}}
			ctx, cancel := context.WithCancel(t.Context())
			broken := errors.New("libvirt is gone")
			w := &waiting{limit: time.Minute, progress: func(string) { cancel() }, reached: map[nicID]time.Duration{}, look: boots.look}
			want := context.Canceled
			if late {
				want = broken
				w.progress = func(string) { w.look = func(context.Context, []string) (sight, error) { return sight{}, broken } }
			}
			if err := w.wait(ctx, nil); !errors.Is(err, want) {
				t.Errorf("error %v, want %v", err, want)
			}
			cancel()
		})
	}
}

func TestReachableSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &waiting{began: time.Now()}
		start := time.Now().Add(-20 * time.Second)
		time.Sleep(5 * time.Second)
		for _, tt := range []struct {
			started time.Time
			want    time.Duration
		}{
			{time.Time{}, 5 * time.Second},
			{start, 25 * time.Second},
			{start.Add(-72 * time.Hour), 5 * time.Second}, // hung, not booting
			{start.Add(time.Hour), 5 * time.Second},       // the clock jumped
		} {
			if got := w.since(tt.started); got != tt.want {
				t.Errorf("started %v: %v, want %v", tt.started, got, tt.want)
			}
		}
	})
}

// Only what a boot explains is waited for.
func TestWaitFor(t *testing.T) {
	e := Endpoint{Guest: "web1", Network: "red", MAC: macA}
	for _, tt := range []struct {
		code  string
		guest Guest
		want  string
	}{
		{CodeWrongVLAN, Guest{}, ""},
		{CodeMACDuplicate, Guest{}, ""},
		{CodeNICMissing, Guest{}, ""},
		{CodeICMPFiltered, Guest{NICs: []NIC{{Want: vnet.Port{Network: "red", MAC: macA, Switch: "br0"}}}}, ""},
		{CodeICMPFiltered, Guest{NICs: []NIC{{Want: vnet.Port{Network: "red", MAC: macA, Switch: "br-int"}}}}, "no answer yet"},
		{CodeDomainDown, Guest{State: "not defined"}, ""},
		{CodeDomainDown, Guest{Ref: vnet.GuestRef{UUID: "u"}, State: "crashed"}, ""},
		{CodeDomainDown, Guest{Ref: vnet.GuestRef{UUID: "u"}, State: "shut off"}, "not running yet"},
		{CodeLinkDown, Guest{NICs: []NIC{{LinkDown: true, Want: vnet.Port{Network: "red", MAC: macA}}}}, ""},
		{CodeLinkDown, Guest{NICs: []NIC{{LinkDown: true, Want: vnet.Port{Network: "blue", MAC: macB}}}}, "link down"},
		{CodeNoAddress, Guest{}, "no address yet"},
		{CodeMACNotLearned, Guest{}, "silent"},
		{CodeGatewayUnreachable, Guest{}, "no answer from its gateway"},
	} {
		tt.guest.Ref.Name = "web1"
		report := Report{Problems: []Problem{{Problem: vnet.Problem{Code: tt.code}, Affects: []Endpoint{e}}}}
		inv := Inventory{Guests: []Guest{tt.guest}, Switches: []Switch{
			{Switch: vnet.Switch{Name: "br0", Driver: vnet.DriverLinux}}, {Switch: vnet.Switch{Name: "br-int", Driver: vnet.DriverOVN}},
		}}
		if got := pending(inv, report)[e.id()]; got != tt.want {
			t.Errorf("%s, guest %+v: waits for %q, want %q", tt.code, tt.guest, got, tt.want)
		}
	}
	paused := NICResult{Endpoint: e, Rungs: []*Rung{{Name: RungDomain, Status: StatusInconclusive}}}
	if got := pending(Inventory{}, Report{NICs: []NICResult{paused}}); got[e.id()] != "paused by libvirt" {
		t.Errorf("of a guest that libvirt has paused it says %v", got)
	}
	unknown := NICResult{Endpoint: e, Rungs: []*Rung{{Name: RungAddress, Status: StatusInconclusive}, {Name: RungMAC, Status: StatusPass}}}
	if got := pending(Inventory{}, Report{NICs: []NICResult{unknown}}); len(got) != 0 {
		t.Errorf("it waits for an address that is only not known: %v", got)
	}
	unknown.Rungs[1].Status = StatusInconclusive
	if got := pending(Inventory{}, Report{NICs: []NICResult{unknown}}); got[e.id()] != "no address yet" {
		t.Errorf("of a guest that never spoke it says %v", got)
	}
}

// collectCounted is the collect of a site, which notes whom it was asked for.
func (s *site) collectCounted(looks *[][]string) Collect {
	return func(_ context.Context, guests []string) (Inventory, error) {
		*looks = append(*looks, guests)
		inv := s.inventory() //nolint:contextcheck // it has the test's
		inv.Guests = slices.DeleteFunc(inv.Guests, func(g Guest) bool { return !wanted(guests, g.Ref.Name) })
		return inv, nil
	}
}

// Guests whose link, address and answers come late: on both kinds of switch.
func TestWaitForLateGuests(t *testing.T) {
	s := newDemoSite(t)
	setLink := func(on bool) {
		l, err := netlink.LinkByName("tap-pc2")
		s.must(err)
		if on {
			s.must(netlink.LinkSetUp(l))
		} else {
			s.must(netlink.LinkSetDown(l))
		}
	}
	addr := netip.MustParsePrefix("10.0.20.11/24")
	late := s.nsGuests["web1"]
	_, err := late.Run(t.Context(), "ip", "addr", "del", addr.String(), "dev", "eth0")
	s.must(err)
	setLink(false)
	s.fakes["db2"].deaf.Store(true)
	go func() {
		time.Sleep(2 * time.Second)
		s.fakes["db2"].deaf.Store(false)
		setLink(true)
		if _, err := late.Run(t.Context(), "ip", "addr", "add", addr.String(), "dev", "eth0"); err != nil {
			t.Error(err)
		}
	}()
	var looks [][]string
	var said []string
	before := s.devices()
	opts := Options{Switches: s, Timing: Timing{Confirm: []time.Duration{500 * time.Millisecond}}, Progress: func(text string) {
		if strings.HasPrefix(text, "waiting") {
			said = append(said, text)
		}
	}}
	report, err := Wait(t.Context(), s.collectCounted(&looks), opts, time.Minute)
	s.must(err)
	if report.Verdict() != VerdictPass {
		t.Errorf("want a pass:\n%s", brief(report))
	}
	if after := s.devices(); !slices.Equal(before, after) {
		t.Errorf("devices left behind: had %v, have %v", before, after)
	}
	var waited []string
	for _, n := range report.NICs {
		if n.ReachableAfter == 0 {
			continue
		}
		waited = append(waited, n.Guest)
		if n.ReachableAfter < 1900*time.Millisecond || n.ReachableAfter > 10*time.Second {
			t.Errorf("%s was reachable after %v, want two seconds and a little", n.Guest, n.ReachableAfter)
		}
	}
	names := []string{"db2", "pc2", "web1"}
	if slices.Sort(waited); !slices.Equal(waited, names) {
		t.Errorf("waited for %v, want %v:\n%s", waited, names, strings.Join(said, "\n"))
	}
	if looks[0] != nil || !slices.Equal(looks[1], names) || looks[len(looks)-1] != nil {
		t.Errorf("looked at %v, want all, then %v, and all in the end", looks, names)
	}
	if len(said) == 0 || !strings.HasPrefix(said[0], "waiting for 3 of 8 guests: db2 (silent), pc2 (link down), web1 (") {
		t.Errorf("said %q", said)
	}
}

// sticky keeps the vantages that are to be removed.
type sticky struct{ *site }

// CloseVantage implements [Switches].
func (s sticky) CloseVantage(ctx context.Context, sw, device string) error {
	return errors.Join(s.site.CloseVantage(ctx, sw, device), errors.New("it stays"))
}

// A look that cannot remove its vantage neither ends the wait nor spoils the
// report.
func TestWaitLeavesVantage(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.tapGuest("web1", "red", "10.0.20.11/24")
	var looks [][]string
	report, err := Wait(t.Context(), s.collectCounted(&looks), Options{Switches: sticky{s}}, time.Minute)
	if err == nil || !strings.Contains(err.Error(), "it stays") {
		t.Errorf("error %v", err)
	}
	if len(looks) != 2 || report.Version != ReportVersion || report.Verdict() != VerdictPass {
		t.Errorf("%d looks, want one and the check, and a pass:\n%s", len(looks), brief(report))
	}
}

// What no boot explains is told at once, and who never comes is told in the end.
func TestWaitForNothing(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.tapGuest("web1", "red", "10.0.20.11/24")
	s.tapGuest("web2", "red", "10.0.20.12/24")
	s.vsctl("set", "port", "tap-web1", "tag=99")
	opts := Options{Switches: s, Timing: Timing{Confirm: []time.Duration{300 * time.Millisecond}}}
	var looks [][]string
	report, err := Wait(t.Context(), s.collectCounted(&looks), opts, time.Minute)
	s.must(err)
	if len(report.Problems) != 1 || report.Problems[0].Code != CodeWrongVLAN {
		t.Errorf("want %s alone:\n%s", CodeWrongVLAN, brief(report))
	}
	if len(looks) != 2 {
		t.Errorf("%d looks, want one and the check", len(looks))
	}

	s.vsctl("set", "port", "tap-web1", "tag=20")
	s.fakes["web2"].deaf.Store(true)
	report, err = Wait(t.Context(), s.collectCounted(&looks), opts, time.Second)
	s.must(err)
	if len(report.Problems) != 1 || !slices.Contains(report.Problems[0].Evidence, "waited 1s for it") {
		t.Errorf("want one problem, waited for:\n%s", brief(report))
	}
}
