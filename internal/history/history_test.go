// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

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
		n.Rungs = []verify.Rung{{Name: verify.RungLink, Status: verify.StatusPass}, {Name: verify.RungARP, Status: status}}
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
		sign rune // as of report; g is gone
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
				past := remember(t, s, report(i, signs), nightly)
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
		r.NICs[0].Rungs = []verify.Rung{{Name: verify.RungVLAN, Status: verify.StatusFail}}
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

// TestOutcome holds problems of several NICs, and of pairs, against reports.
func TestOutcome(t *testing.T) {
	gateway := verify.Problem{
		Problem: vnet.Problem{Code: verify.CodeGatewayUnreachable, Subject: "network red"},
		Rung:    verify.RungGateway, Affects: []verify.Endpoint{web1, web2},
	}
	leak := verify.Problem{
		Problem: vnet.Problem{Code: verify.CodeLeak, Subject: "network red"}, Affects: []verify.Endpoint{web1, web2},
	}
	refused := verify.Problem{
		Problem: vnet.Problem{Code: verify.CodeTCPRefused, Subject: "web1 tcp web2:80"}, Affects: []verify.Endpoint{web1},
	}
	nics := func(gateway1, gateway2 verify.Status) verify.Report {
		var r verify.Report
		for i, e := range []verify.Endpoint{web1, web2} {
			status := []verify.Status{gateway1, gateway2}[i]
			r.NICs = append(r.NICs, verify.NICResult{
				Endpoint: e, Status: verify.StatusPass, Rungs: []verify.Rung{{Name: verify.RungGateway, Status: status}},
			})
		}
		return r
	}
	pair := func(status verify.Status) verify.Report {
		r := nics(verify.StatusPass, verify.StatusPass)
		r.Pairs = []verify.PairResult{{From: web2, To: web1, Status: status}}
		return r
	}
	check := func(status verify.Status) verify.Report {
		r := nics(verify.StatusPass, verify.StatusPass)
		r.Checks = []verify.CheckResult{{Name: "web1 tcp web2:80", Status: status}, {Name: "other", Status: verify.StatusInconclusive}}
		return r
	}
	broken := pair(verify.StatusPass)
	broken.NICs[0].Status = verify.StatusFail
	for name, tt := range map[string]struct {
		problem verify.Problem
		report  verify.Report
		want    outcome
	}{
		"one of two passes, the other is broken before": {gateway, nics(verify.StatusPass, verify.StatusNotReached), absent},
		"one of two fails for another reason":           {gateway, nics(verify.StatusPass, verify.StatusFail), unknown},
		"neither is told":                               {gateway, nics(verify.StatusInconclusive, verify.StatusNotReached), unknown},
		"nothing to check any more":                     {gateway, nics(verify.StatusSkip, verify.StatusSkip), absent},
		"pair passes":                                   {leak, pair(verify.StatusPass), absent},
		"pair is not told":                              {leak, pair(verify.StatusInconclusive), unknown},
		"pair was not reached":                          {leak, pair(verify.StatusNotReached), unknown},
		"an end of the pair is broken":                  {leak, broken, unknown},
		"expectation passes":                            {refused, check(verify.StatusPass), absent},
		"expectation is not told":                       {refused, check(verify.StatusInconclusive), unknown},
		"expectation left the spec":                     {refused, nics(verify.StatusPass, verify.StatusPass), absent},
		"no guest is left":                              {leak, verify.Report{}, gone},
	} {
		if got := look(tt.report, false).outcome(tt.problem); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

func TestSlow(t *testing.T) {
	const ms = time.Millisecond
	steady := []time.Duration{1000, 1010, 990, 1005, 995, 1000} // microseconds
	for name, tt := range map[string]struct {
		before []time.Duration // microseconds
		now    time.Duration
		want   bool
	}{
		"as usual":                    {steady, 1 * ms, false},
		"above all deviation, by 30%": {steady, 1300 * time.Microsecond, false},
		"twice as slow":               {steady, 2 * ms, true},
		"three times of next to nothing, below the floor": {[]time.Duration{50, 50, 51, 49, 50}, 150 * time.Microsecond, false},
		"restless before":        {[]time.Duration{500, 3000, 900, 2500, 1500, 700}, 2900 * time.Microsecond, false},
		"too few nights to tell": {steady[:4], 20 * ms, false},
		"no answer tonight":      {steady, 0, false},
		"no answer some nights":  {append([]time.Duration{0, 0}, steady...), 2 * ms, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t, t.TempDir())
			night := func(i int, median time.Duration) verify.Report {
				r := report(i, map[verify.Endpoint]rune{web1: '-', web2: '-'})
				r.NICs[0].Latency = &verify.Latency{Sent: 5, Received: 5, Median: median}
				if median == 0 {
					r.NICs[0].Latency.Received = 0
				}
				return r
			}
			for i, median := range tt.before {
				remember(t, s, night(i, median*time.Microsecond), nightly)
			}
			tonight := len(tt.before)
			r := night(tonight, tt.now)
			past, err := s.Remember(t.Context(), &r, nightly)
			if err != nil {
				t.Fatal(err)
			}
			want := ""
			if tt.want {
				want = fmt.Sprintf("new SLOW %d*", tonight)
			}
			if got := lines(past.Changes); got != want {
				t.Errorf("%q, want %q: %+v", got, want, past.Trends[0])
			}
			if got := slices.ContainsFunc(r.Problems, IsNote); got != tt.want {
				t.Errorf("in the report: %t, want %t", got, tt.want)
			}
			if v := r.Verdict(); v != verify.VerdictPass {
				t.Errorf("a note made the verdict %s", v)
			}
			if n := len(past.Trends[0].Samples); n != min(tonight, trendNights)+1 {
				t.Errorf("%d samples", n)
			}
			if !tt.want {
				return
			}
			// Without an answer nobody knows; with a quick one it is over.
			if got := lines(remember(t, s, night(tonight+1, 0), nightly).Changes); got != "" {
				t.Errorf("without an answer: %q", got)
			}
			want = fmt.Sprintf("fixed SLOW %d*", tonight)
			if got := lines(remember(t, s, night(tonight+2, 1*ms), nightly).Changes); got != want {
				t.Errorf("quick again: %q, want %q", got, want)
			}
		})
	}
}

func TestMedian(t *testing.T) {
	middle, deviation := usual([]Sample{{Median: 3}, {Median: 1}, {}, {Median: 100}, {Median: 5}})
	if middle != 4 || deviation != 2 {
		t.Errorf("median %d, MAD %d, want 4 and 2", middle, deviation)
	}
}

func TestRetention(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	big := func(i int) verify.Report {
		r := report(i, map[verify.Endpoint]rune{web1: '-'})
		r.Limits = []string{strings.Repeat(fmt.Sprint(i), 2000)}
		return r
	}
	for i := range 110 {
		remember(t, s, big(i%5), Scope{Keep: nightly.Keep})
	}
	for i := range 60 {
		remember(t, s, big(i), Scope{Nightly: true, Keep: 20 * 24 * time.Hour})
	}
	runs, err := s.Runs(t.Context(), 0, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(runs); got != 21 || !runs[0].Started.Equal(at(59)) || !runs[20].Started.Equal(at(39)) {
		t.Errorf("%d runs are kept, from %v on", got, runs[len(runs)-1].Started)
	}
	// A clock that jumped does not make it forget the last nights.
	remember(t, s, report(10_000, map[verify.Endpoint]rune{web1: '-'}), nightly)
	remember(t, s, report(60, map[verify.Endpoint]rune{web2: '-'}), nightly)
	if runs, err = s.Runs(t.Context(), 0, false); err != nil || len(runs) != keepNights+1 {
		t.Errorf("%d runs are kept after a jump of the clock, %v", len(runs), err)
	}
	var pages, free, endpoints int
	for query, to := range map[string]*int{
		"PRAGMA page_count": &pages, "PRAGMA freelist_count": &free, "SELECT count(*) FROM endpoints": &endpoints,
	} {
		if err := s.db.QueryRowContext(t.Context(), query).Scan(to); err != nil {
			t.Fatal(err)
		}
	}
	if free != 0 || pages > 40 || endpoints != 2 {
		t.Errorf("%d pages, %d of them free, %d endpoints", pages, free, endpoints)
	}
	if _, err := s.Report(t.Context(), 1); !errors.Is(err, ErrNoRun) {
		t.Errorf("report of a forgotten run: %v", err)
	}
}

func TestReportComesBack(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	want := report(0, map[verify.Endpoint]rune{web1: '+', web2: '?'})
	remember(t, s, want, nightly)
	view, err := View(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close() //nolint:errcheck // read only
	for _, name := range []string{"last", "1", "last~0"} {
		run, err := view.Find(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if run.Verdict != verify.VerdictFail || !run.Nightly || run.NICs != 2 || run.Problems != 1 || run.Narrowed() {
			t.Errorf("%s is %+v", name, run)
		}
		got, err := view.Report(t.Context(), run.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("the report does not come back (-want +got):\n%s", diff)
		}
	}
	for _, name := range []string{"0", "2", "last~1", "last~", "lastly", "-1", "", "99999999999999999999"} {
		if run, err := view.Find(t.Context(), name); !errors.Is(err, ErrNoRun) {
			t.Errorf("%q is %+v, %v", name, run, err)
		}
	}
	if _, err := view.db.ExecContext(t.Context(), "DELETE FROM runs"); err == nil {
		t.Error("a view can write")
	}
	if info, err := os.Stat(filepath.Join(dir, FileName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
}

func TestDiff(t *testing.T) {
	before, after := report(0, map[verify.Endpoint]rune{web1: '+'}), report(1, map[verify.Endpoint]rune{web1: '-', web2: '+'})
	before.NICs[0].Latency = &verify.Latency{Received: 5, Median: time.Millisecond}
	after.NICs[0].Latency = &verify.Latency{Received: 5, Median: 3 * time.Millisecond}
	before.Checks = []verify.CheckResult{{Name: "a", Status: verify.StatusPass}, {Name: "b", Status: verify.StatusPass}}
	after.Checks = []verify.CheckResult{{Name: "a", Status: verify.StatusFail}, {Name: "c", Status: verify.StatusPass}}
	d := Diff(Run{ID: 1}, Run{ID: 2}, before, after)
	if got, want := lines(d.Changes), "new NO_ARP 1*, fixed NO_ARP 0*"; got != want {
		t.Errorf("changes %q, want %q", got, want)
	}
	if len(d.Added) != 1 || d.Added[0].Guest != "web2" || d.Removed != nil {
		t.Errorf("added %v, removed %v", d.Added, d.Removed)
	}
	checks := []CheckChange{{"a", verify.StatusPass, verify.StatusFail}, {"c", "", verify.StatusPass}, {"b", verify.StatusPass, ""}}
	if diff := cmp.Diff(checks, d.Checks); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
	if len(d.Latencies) != 1 || d.Latencies[0].Was != time.Millisecond || d.Latencies[0].Is != 3*time.Millisecond {
		t.Errorf("latencies %+v", d.Latencies)
	}
	back := Diff(Run{ID: 2}, Run{ID: 1}, after, before)
	if got, want := lines(back.Changes), "new NO_ARP 0*, gone NO_ARP 1*"; got != want {
		t.Errorf("backwards: %q, want %q", got, want)
	}
	narrow := Diff(Run{ID: 1, Guests: []string{"web1"}}, Run{ID: 2}, before, after)
	if got, want := lines(narrow.Changes), "fixed NO_ARP 0*"; got != want || narrow.Added != nil {
		t.Errorf("from a narrowed run: %q, want %q; added %v", got, want, narrow.Added)
	}
}

// fill makes a history of some nights, long enough to be damaged in places.
func fill(t *testing.T, dir string) string {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		r := report(i, map[verify.Endpoint]rune{web1: '+', web2: '-'})
		for j := range 200 {
			r.Limits = append(r.Limits, fmt.Sprintf("%x", (i+1)*(j+1)*7919))
		}
		remember(t, s, r, nightly)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, FileName)
}

func TestDamage(t *testing.T) {
	for name, damage := range map[string]func(data []byte) []byte{
		"cut to a half":      func(data []byte) []byte { return data[:len(data)/2] },
		"cut in the header":  func(data []byte) []byte { return data[:50] },
		"cut by a page":      func(data []byte) []byte { return data[:len(data)-4096] },
		"no database at all": func([]byte) []byte { return []byte(strings.Repeat("something else\n", 1000)) },
		"garbage in the middle": func(data []byte) []byte {
			for i := 4096; i < 4*4096; i++ {
				data[i] = byte(i * 7)
			}
			return data
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := fill(t, dir)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data = damage(data)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = Open(t.Context(), dir)
			var damaged *DamagedError
			if !errors.As(err, &damaged) {
				t.Fatalf("error %v, want a *DamagedError", err)
			}
			if left, err := os.ReadFile(path); err != nil || string(left) != string(data) {
				t.Errorf("the damaged file was changed: %v", err)
			}
			_, again := Open(t.Context(), dir)
			aside, err := damaged.SetAside(at(30))
			if err != nil || filepath.Base(aside) != "history.sqlite.corrupt-20261201T023000Z" {
				t.Fatalf("set aside as %q, %v", aside, err)
			}
			if left, err := os.ReadFile(aside); err != nil || string(left) != string(data) {
				t.Errorf("what was set aside was changed: %v", err)
			}
			s := openStore(t, dir)
			remember(t, s, report(30, map[verify.Endpoint]rune{web1: '-'}), nightly)
			// Another process that had seen the damage leaves the new file alone.
			if !errors.As(again, &damaged) {
				t.Fatal(again)
			}
			if aside, err := damaged.SetAside(at(30)); aside != "" || err != nil {
				t.Errorf("the new file was set aside as %q, %v", aside, err)
			}
			if runs, err := s.Runs(t.Context(), 0, false); err != nil || len(runs) != 1 {
				t.Errorf("%d runs, %v", len(runs), err)
			}
		})
	}
}

// TestDamageInside is of the kind that SQLite does not see.
func TestDamageInside(t *testing.T) {
	dir := t.TempDir()
	path := fill(t, dir)
	db, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = db.ExecContext(t.Context(), "UPDATE standings SET problem = x'1f8b' WHERE run = 20; UPDATE runs SET report = x'1f8b' WHERE id = 20")
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, dir)
	if _, err := s.Report(t.Context(), 20); err == nil || !strings.Contains(err.Error(), "report 20") {
		t.Errorf("report: error %v", err)
	}
	r := report(20, map[verify.Endpoint]rune{web1: '+'})
	past, err := s.Remember(t.Context(), &r, nightly)
	var damaged *DamagedError
	if !errors.As(err, &damaged) || past != nil {
		t.Errorf("error %v, want a *DamagedError; past %+v", err, past)
	}
}

func TestNewerIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := fill(t, dir)
	db, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = db.ExecContext(t.Context(), "PRAGMA journal_mode = wal; PRAGMA user_version = 99; CREATE TABLE future (x)")
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(context.Context, string) (*Store, error){"Open": Open, "View": View} {
		_, err := open(t.Context(), dir)
		if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "version 99, this one knows 1") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file was changed: %v", err)
	}
}

func TestViewOfNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := View(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, FileName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := View(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty file: %v", err)
	}
}

// TestManyAtOnce has writers and readers in the same file.
func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	const writers, each = 4, 5
	errs := make(chan error, 2*writers*each)
	var wait sync.WaitGroup
	for range writers {
		wait.Go(func() {
			for i := range each {
				s, err := Open(t.Context(), dir)
				if err != nil {
					errs <- err
					continue
				}
				r := report(i, map[verify.Endpoint]rune{web1: '+'})
				_, err = s.Remember(t.Context(), &r, nightly)
				errs <- errors.Join(err, s.Close())
			}
		})
		wait.Go(func() {
			for range each {
				v, err := View(t.Context(), dir)
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err == nil {
					_, err = v.Runs(t.Context(), 0, false)
					err = errors.Join(err, v.Close())
				}
				errs <- err
			}
		})
	}
	wait.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if runs, err := openStore(t, dir).Runs(t.Context(), 0, false); err != nil || len(runs) != writers*each {
		t.Errorf("%d runs, %v, want %d", len(runs), err, writers*each)
	}
}
