// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

var (
	firstNight = time.Date(2026, 11, 1, 2, 30, 0, 0, time.UTC)
	web1       = verify.Endpoint{Guest: "web1", MAC: vnet.MAC{0x52, 0x54, 0, 0, 0, 1}, Network: "red", Device: "vnet0"}
	web2       = verify.Endpoint{Guest: "web2", MAC: vnet.MAC{0x52, 0x54, 0, 0, 0, 2}, Network: "red", Device: "vnet1"}
)

func at(night int) time.Time { return firstNight.AddDate(0, 0, night) }

// report is of a night in which NICs are as the signs say: + has the problem
// NO_ARP, - is fine, ? could not be told, ! has another problem before, and a
// NIC without a sign is not there.
func report(night int, signs map[verify.Endpoint]rune) verify.Report {
	r := verify.Report{Version: verify.ReportVersion, Started: at(night), Duration: time.Second, NICs: []verify.NICResult{}}
	for _, e := range []verify.Endpoint{web1, web2} {
		sign, here := signs[e]
		if !here {
			continue
		}
		e.Device = fmt.Sprintf("vnet%d", 10*night) // after a restart
		n := verify.NICResult{Endpoint: e, Status: verify.StatusPass, Address: netip.MustParseAddr("10.0.20.11")}
		status := map[rune]verify.Status{
			'+': verify.StatusFail, '-': verify.StatusPass, '?': verify.StatusInconclusive, '!': verify.StatusNotReached,
		}[sign]
		n.Rungs = []*verify.Rung{{Name: verify.RungLink, Status: verify.StatusPass}, {Name: verify.RungARP, Status: status}}
		switch sign {
		case '+':
			n.Status = verify.StatusFail
			r.Problems = append(r.Problems, problem(verify.CodeNoARP, verify.RungARP, e))
		case '!':
			n.Status, n.Rungs[0].Status = verify.StatusFail, verify.StatusFail
			r.Problems = append(r.Problems, problem(verify.CodeLinkDown, verify.RungLink, e))
		case '?':
			n.Status = verify.StatusInconclusive
		}
		r.NICs = append(r.NICs, n)
	}
	return r
}

func problem(code string, rung verify.RungName, e verify.Endpoint) verify.Problem {
	return verify.Problem{
		Problem: vnet.Problem{Code: code, Subject: "guest " + e.Guest + ", NIC " + e.Device, Got: "silence"},
		Rung:    rung, Network: e.Network, Affects: []verify.Endpoint{e},
	}
}

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var nightly = Scope{Nightly: true, Keep: 90 * 24 * time.Hour}

func remember(t *testing.T, s *Store, r verify.Report, scope Scope) *Past {
	t.Helper()
	past, err := s.Remember(t.Context(), &r, scope)
	if err != nil {
		t.Fatal(err)
	}
	return past
}

// lines are changes in short: a fresh one has a star.
func lines(changes []Change) string {
	var list []string
	for _, c := range changes {
		line := fmt.Sprintf("%s %s %d", c.State, c.Problem.Code, int(c.Since.Sub(firstNight).Hours()/24))
		if c.Fresh {
			line += "*"
		}
		list = append(list, line)
	}
	return strings.Join(list, ", ")
}

// TestNights walks web1 through nights and looks at how the problem is called
// in each: the state, its code, the night since when, and whether that is fresh.
func TestNights(t *testing.T) {
	for name, nights := range map[string][]struct {
		sign rune // as of report; g is gone, l is that libvirt was lost
		want string
	}{
		"healthy": {{'-', ""}, {'-', ""}},
		"comes and goes once": {
			{'-', ""},
			{'+', "new NO_ARP 1*"},
			{'+', "still NO_ARP 1"},
			{'+', "still NO_ARP 1"},
			{'-', "fixed NO_ARP 1*"},
			{'-', ""},
			{'+', "flapping NO_ARP 1*"}, // the third change in 7 nights
		},
		"there from the start": {{'+', "new NO_ARP 0*"}, {'-', "fixed NO_ARP 0*"}},
		"changes far apart do not flap": {
			{'+', "new NO_ARP 0*"},
			{'-', "fixed NO_ARP 0*"},
			{'-', ""},
			{'-', ""},
			{'-', ""},
			{'-', ""},
			{'-', ""},
			{'+', "new NO_ARP 7*"}, // only one change more within 7 nights
		},
		"flaps, and calms down present": {
			{'+', "new NO_ARP 0*"},
			{'-', "fixed NO_ARP 0*"},
			{'+', "flapping NO_ARP 0*"},
			{'-', "flapping NO_ARP 0"},
			{'+', "flapping NO_ARP 0"},
			{'+', "flapping NO_ARP 0"},
			{'+', "flapping NO_ARP 0"},
			{'+', "still NO_ARP 4"}, // three nights without a change
			{'-', "flapping NO_ARP 2*"},
		},
		"flaps, and calms down absent": {
			{'+', "new NO_ARP 0*"},
			{'-', "fixed NO_ARP 0*"},
			{'+', "flapping NO_ARP 0*"},
			{'-', "flapping NO_ARP 0"},
			{'-', "flapping NO_ARP 0"},
			{'-', "flapping NO_ARP 0"},
			{'-', "fixed NO_ARP 3*"},
			{'-', ""},
		},
		"not told is neither fixed nor new": {
			{'+', "new NO_ARP 0*"},
			{'?', ""},
			{'+', "still NO_ARP 0"},
			{'?', ""},
			{'?', ""},
			{'-', "fixed NO_ARP 0*"},
			{'?', ""},
			{'-', ""},
		},
		"hidden behind another problem": {
			{'+', "new NO_ARP 0*"},
			{'!', "new LINK_DOWN 1*"},
			{'-', "fixed LINK_DOWN 1*, fixed NO_ARP 0*"},
		},
		"guest removed": {
			{'+', "new NO_ARP 0*"},
			{'g', "gone NO_ARP 0*"},
			{'g', ""},
			{'-', ""},
			{'+', "new NO_ARP 4*"},
		},
		"healthy guest removed": {{'-', ""}, {'g', ""}},
		"nothing could be looked at": {
			{'+', "new NO_ARP 0*"},
			{'l', ""},
			{'+', "still NO_ARP 0"},
			{'l', ""},
			{'g', "gone NO_ARP 0*"},
		},
		"calms down only where it can be told": {
			{'+', "new NO_ARP 0*"},
			{'-', "fixed NO_ARP 0*"},
			{'+', "flapping NO_ARP 0*"},
			{'?', ""},
			{'?', ""},
			{'?', ""},
			{'+', "flapping NO_ARP 0"},
			{'+', "flapping NO_ARP 0"},
			{'+', "still NO_ARP 2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for i, night := range nights {
				signs := map[verify.Endpoint]rune{web1: night.sign, web2: '-'}
				if night.sign == 'g' {
					delete(signs, web1)
				}
				s, err := Open(t.Context(), dir) // a process of its own each night
				if err != nil {
					t.Fatal(err)
				}
				r := report(i, signs)
				if night.sign == 'l' {
					r = verify.Report{Version: verify.ReportVersion, Started: at(i), GuestsUnknown: true, Limits: []string{"libvirt went away"}}
				}
				past := remember(t, s, r, nightly)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if got := lines(past.Changes); got != night.want {
					t.Errorf("night %d (%c): %q, want %q", i, night.sign, got, night.want)
				}
				if len(past.Runs) != min(i, trendNights) {
					t.Errorf("night %d: %d runs before", i, len(past.Runs))
				}
			}
		})
	}
}

// TestLeakIsNew has a port in a wrong VLAN that nobody uses, and then in one
// where it leaks.
func TestLeakIsNew(t *testing.T) {
	s := openStore(t, t.TempDir())
	for i, tt := range []struct {
		leaks []string
		want  string
	}{
		{nil, "new WRONG_VLAN 0*"},
		{[]string{"web1 (red) -> db1 (blue)"}, "new WRONG_VLAN 1*"},
		{[]string{"web1 (red) -> db1 (blue)"}, "still WRONG_VLAN 1"},
		{nil, "still WRONG_VLAN 0"},
	} {
		r := report(i, map[verify.Endpoint]rune{web1: '-'})
		p := problem(verify.CodeWrongVLAN, verify.RungVLAN, web1)
		p.Leaks = tt.leaks
		r.Problems = []verify.Problem{p}
		r.NICs[0].Status = verify.StatusFail
		r.NICs[0].Rungs = []*verify.Rung{{Name: verify.RungVLAN, Status: verify.StatusFail}}
		if got := lines(remember(t, s, r, nightly).Changes); got != tt.want {
			t.Errorf("night %d: %q, want %q", i, got, tt.want)
		}
	}
}

// TestWaiverEnds has a problem that was waived for some nights.
func TestWaiverEnds(t *testing.T) {
	s := openStore(t, t.TempDir())
	for i, tt := range []struct {
		sign   rune
		waived bool
		want   string
	}{
		{'+', true, "new NO_ARP 0*"},
		{'+', true, "still NO_ARP 0"},
		{'?', false, ""}, // it ended in a night that could not tell
		{'+', false, "still NO_ARP 0*"},
		{'+', false, "still NO_ARP 0"},
		{'+', true, "still NO_ARP 0"},
		{'-', false, "fixed NO_ARP 0*"},
	} {
		r := report(i, map[verify.Endpoint]rune{web1: tt.sign})
		if tt.waived {
			r.Problems[0].Waived = &verify.Waived{Owner: "ops"}
		}
		if got := lines(remember(t, s, r, nightly).Changes); got != tt.want {
			t.Errorf("night %d: %q, want %q", i, got, tt.want)
		}
	}
}

func TestRunsByHand(t *testing.T) {
	s := openStore(t, t.TempDir())
	byHand := Scope{Keep: nightly.Keep}
	if past := remember(t, s, report(0, map[verify.Endpoint]rune{web1: '+', web2: '-'}), byHand); past != nil {
		t.Errorf("compared with no night: %+v", past)
	}
	remember(t, s, report(1, map[verify.Endpoint]rune{web1: '+', web2: '+'}), nightly)
	for _, tt := range []struct {
		name  string
		signs map[verify.Endpoint]rune
		scope Scope
		want  string
	}{
		{"whole site", map[verify.Endpoint]rune{web1: '-', web2: '+'}, byHand, "still NO_ARP 1, fixed NO_ARP 1*"},
		{"one guest, which is fine", map[verify.Endpoint]rune{web1: '-'}, Scope{Guests: []string{"web1"}}, "fixed NO_ARP 1*"},
		{"one guest, which is not", map[verify.Endpoint]rune{web2: '+'}, Scope{Guests: []string{"web2"}}, "still NO_ARP 1"},
		{"a network without any of them", nil, Scope{Networks: []string{"blue"}}, ""},
		{"guests of this host, which has none", nil, Scope{Here: true}, ""},
	} {
		past := remember(t, s, report(2, tt.signs), tt.scope)
		if got := lines(past.Changes); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	// None of that is what the next night is compared with.
	past := remember(t, s, report(3, map[verify.Endpoint]rune{web1: '+', web2: '-'}), nightly)
	if got, want := lines(past.Changes), "still NO_ARP 1, fixed NO_ARP 1*"; got != want {
		t.Errorf("the night after: %q, want %q", got, want)
	}
}
