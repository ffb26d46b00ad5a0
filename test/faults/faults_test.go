// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package faults

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/verify"
)

// fault is one thing that can be wrong with a network.
type fault struct {
	// name is what is wrong, in a few words.
	name   string
	inject action
	// code and subject are what verify must name. The subject may have
	// placeholders.
	code    string
	subject string
	// blames are the NICs that the finding is about, such as "web1 (lan)", and
	// nobody else may be.
	blames []string
	// leaks says that frames arrive where none may because of it.
	leaks bool
	// fixes says that the command of the finding heals the fault, and heal is
	// what is to be done besides, or instead.
	fixes bool
	heal  action
}

// action does something to the site.
type action func(t *testing.T, s *site)

// sh is lines of shell on the host, with the devices of NICs for placeholders.
func sh(lines ...string) action {
	return func(t *testing.T, s *site) {
		t.Helper()
		for _, line := range lines {
			s.must(t, line)
		}
	}
}

// in is a line of shell in a guest.
func in(guest, line string) action {
	return func(t *testing.T, s *site) {
		t.Helper()
		if _, err := s.Exec(t.Context(), guest, line); err != nil {
			t.Fatal(err)
		}
	}
}

// up waits for a guest that boots.
func up(guest string) action {
	return func(t *testing.T, s *site) {
		t.Helper()
		if err := s.WaitUp(t.Context(), guest); err != nil {
			t.Fatal(err)
		}
	}
}

// all does one after the other.
func all(actions ...action) action {
	return func(t *testing.T, s *site) {
		t.Helper()
		for _, a := range actions {
			a(t, s)
		}
	}
}

// TestFaults injects every fault of the table, one at a time.
func TestFaults(t *testing.T) {
	s := newSite(t)
	if r := s.settle(t); r.Verdict() != verify.VerdictPass {
		t.Fatalf("the site is not healthy to begin with:\n%s", brief(r))
	}
	var rows []row
	for _, f := range table() {
		t.Run(f.name, func(t *testing.T) { rows = append(rows, f.run(t, s)) })
		if s.sick {
			t.Fatalf("%s: not healed, so nothing can be told of the rest", f.name)
		}
	}
	healthy := 0
	t.Run("healthy runs under load", func(t *testing.T) { healthy = healthyRuns(t, s) })
	// With -run or -skip there is less to tell than the documentation does.
	if len(rows) == len(table()) && healthy == healthyCount {
		checkMatrix(t, rows, healthy)
	}
}

// run injects the fault, looks at what verify says, and heals it.
func (f fault) run(t *testing.T, s *site) row {
	lap := stopwatch()
	f.inject(t, s)
	injecting := lap()
	report := s.verify(t)
	verifying := lap()
	found := f.check(t, s, report)
	if t.Failed() {
		t.Logf("injected: %s\n%s", f.name, brief(report))
	}
	s.sick = true
	lap()
	f.mend(t, s, found)
	mending := lap()
	healed := s.settle(t)
	t.Logf("injected in %v, verified in %v, mended in %v, healthy again after %v", injecting, verifying, mending, lap())
	if s.sick = healed.Verdict() != verify.VerdictPass; s.sick {
		t.Errorf("healed, and verify does not pass:\n%s", brief(healed))
	}
	return newRow(f, report)
}

// stopwatch returns a function that says how long ago it was last called.
func stopwatch() func() time.Duration {
	last := time.Now()
	return func() time.Duration {
		took := time.Since(last).Round(10 * time.Millisecond)
		last = time.Now()
		return took
	}
}

// mend heals the fault, where possible by what the finding says will help.
func (f fault) mend(t *testing.T, s *site, found verify.Problem) {
	t.Helper()
	if f.fixes {
		t.Logf("fix: %s", found.Fix)
		s.must(t, found.Fix)
	}
	if f.heal != nil {
		f.heal(t, s)
	}
}

// check holds the report to what was injected, and returns the finding.
func (f fault) check(t *testing.T, s *site, r verify.Report) verify.Problem {
	t.Helper()
	want := verify.VerdictFail
	if f.leaks {
		want = verify.VerdictLeak
	}
	if r.Verdict() != want {
		t.Errorf("verdict %s, want %s", r.Verdict(), want)
	}
	if len(r.Problems) != 1 {
		t.Errorf("%d findings, want one", len(r.Problems))
	}
	var found verify.Problem // a wrong one may have the right fix
	subject := s.expand(t, f.subject)
	for _, p := range r.Problems {
		found = p
		if p.Code != f.code || p.Subject != subject {
			t.Errorf("%s of %q is named, want %s of %q", p.Code, p.Subject, f.code, subject)
			continue
		}
		if len(p.Evidence)+len(p.Leaks) == 0 || p.Fix == "" || p.Want == "" || p.Got == "" {
			t.Errorf("the finding is not whole: %+v", p)
		}
		if blamed := names(p.Affects); !slices.Equal(blamed, f.blames) {
			t.Errorf("blames %v, want %v", blamed, f.blames)
		}
	}
	f.checkOthers(t, r, found)
	return found
}

// checkOthers wants everybody that the fault does not concern to pass, and those
// that it does to fail where it is of a NIC and not of what is between two. What the
// spec expects passes, or does not because of what was found.
func (f fault) checkOthers(t *testing.T, r verify.Report, found verify.Problem) {
	t.Helper()
	ofNIC := found.Rung != ""
	for _, n := range r.NICs {
		want := verify.StatusPass
		if ofNIC && slices.Contains(f.blames, n.String()) {
			want = verify.StatusFail
		}
		if n.Status != want {
			t.Errorf("%s: %s", n.Endpoint, n.Status)
		}
	}
	for _, p := range r.Pairs {
		concerned := slices.Contains(f.blames, p.From.String()) || slices.Contains(f.blames, p.To.String())
		if !concerned && p.Status != verify.StatusPass {
			t.Errorf("%s to %s: %s %s", p.From, p.To, p.Status, p.Reason)
		}
	}
	for _, c := range r.Checks {
		if c.Status != verify.StatusPass && c.Cause != found.Code+": "+found.Subject {
			t.Errorf("%s: %s %s, because of %q", c.Name, c.Status, c.Reason, c.Cause)
		}
	}
}

// settle runs verify until it passes: guests take a moment to come back. Each
// fault has its own, so that the next begins with a healthy site.
func (s *site) settle(t *testing.T) verify.Report {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(500 * time.Millisecond) {
		r := s.verify(t)
		if r.Verdict() == verify.VerdictPass || time.Now().After(deadline) {
			return r
		}
	}
}

func names(endpoints []verify.Endpoint) []string {
	var list []string
	for _, e := range endpoints {
		list = append(list, e.String())
	}
	slices.Sort(list)
	return list
}

// brief is what matters of a report that is not as it should be.
func brief(r verify.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "verdict %s\n", r.Verdict())
	for _, p := range r.Problems {
		text, err := json.MarshalIndent(p, "  ", "  ")
		fmt.Fprintf(&b, "  %s %v\n", text, err)
	}
	for _, n := range r.NICs {
		for _, rung := range n.Rungs {
			if rung.Status == verify.StatusInconclusive {
				fmt.Fprintf(&b, "  %s %s: %s\n", n.Endpoint, rung.Name, rung.Reason)
			}
		}
	}
	for _, p := range r.Pairs {
		if p.Status != verify.StatusPass && p.Status != verify.StatusNotReached {
			fmt.Fprintf(&b, "  %s to %s: %s %s%s\n", p.From, p.To, p.Status, p.Reason, p.Cause)
		}
	}
	for _, l := range r.Limits {
		fmt.Fprintf(&b, "  limit: %s\n", l)
	}
	return b.String()
}
