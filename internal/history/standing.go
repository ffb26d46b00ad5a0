// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/virt-vnet/virt-vnet/verify"
)

// When a problem is flapping: see the package's documentation.
const (
	flapWindow = 7
	flapRaise  = 3
	flapClear  = 3
)

// standing is how a problem stands after a night. The zero value is a problem
// that is absent and was not heard of.
type standing struct {
	// problem is as it was last present.
	problem verify.Problem
	since   time.Time
	// open is whether it is present, or was when that could last be told.
	open bool
	// unsure is whether this night could not tell.
	unsure   bool
	changed  bool
	flapping bool
}

// followed reports whether the next night has to look at it again.
func (s standing) followed() bool { return s.open || s.flapping }

// night is a nightly run and how the problems stood after it. Problems that are
// not listed were absent and had not changed.
type night struct {
	started   time.Time
	standings map[string]standing
}

// ledger is the nights before a run, the newest first, at most flapWindow-1.
type ledger []night

func (l ledger) last() map[string]standing {
	if len(l) == 0 {
		return nil
	}
	return l[0].standings
}

// next is how a problem stands after a run that found o.
func (l ledger) next(key string, o outcome, now time.Time) standing {
	before := l.last()[key]
	s := before
	s.changed, s.unsure = false, o == unknown
	switch o {
	case unknown:
		return s
	case gone:
		s.open, s.flapping = false, false
		return s
	case present, absent:
	}
	s.open = o == present
	s.changed = s.open != before.open
	changes := l.changes(key)
	if s.changed {
		changes = append([]time.Time{now}, changes...)
	}
	switch {
	case !before.flapping && s.changed && len(changes) >= flapRaise:
		s.flapping, s.since = true, changes[len(changes)-1]
	case before.flapping && !s.changed && l.quiet(key):
		s.flapping = false
		if len(changes) > 0 {
			s.since = changes[0]
		}
	case !before.flapping && s.changed && s.open:
		s.since = now
	}
	return s
}

// changes returns the nights in which the problem came or went, the newest
// first.
func (l ledger) changes(key string) []time.Time {
	var times []time.Time
	for _, n := range l[:min(len(l), flapWindow-1)] {
		if n.standings[key].changed {
			times = append(times, n.started)
		}
	}
	return times
}

// quiet reports whether the problem is known not to have changed in the last
// nights but the present one.
func (l ledger) quiet(key string) bool {
	for _, n := range l[:min(len(l), flapClear-1)] {
		if s := n.standings[key]; s.changed || s.unsure {
			return false
		}
	}
	return len(l) >= flapClear-1
}

// state names the step from one standing to the next, or is empty when there is
// nothing to say.
func state(before, after standing, o outcome) State {
	switch {
	case o == unknown:
		return ""
	case o == gone:
		return StateGone
	case after.flapping:
		return StateFlapping
	case after.open && before.open:
		return StateStill
	case after.open:
		return StateNew
	case before.followed():
		return StateFixed
	}
	return ""
}

// compare says how every problem of s, and of the night before, stands now.
func (l ledger) compare(s seen) ([]Change, map[string]standing) {
	var changes []Change
	after := map[string]standing{}
	judge := func(key string, p verify.Problem, o outcome) {
		before, now := l.last()[key], l.next(key, o, s.report.Started)
		now.problem = p
		if now.followed() || now.changed {
			after[key] = now
		}
		if st := state(before, now, o); st != "" {
			fresh := st != StateStill && (st != StateFlapping || !before.flapping)
			exposed := o == present && before.problem.Waived != nil && p.Waived == nil
			changes = append(changes, Change{State: st, Problem: p, Since: now.since, Fresh: fresh || exposed})
		}
	}
	for _, p := range s.report.Problems {
		if key := keyOf(p); after[key].problem.Code == "" {
			judge(key, p, present)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(l.last())) {
		before := l.last()[key]
		if _, here := s.problems[key]; !here && before.followed() {
			judge(key, before.problem, s.outcome(before.problem))
		}
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return cmp.Compare(stateRank(a.State), stateRank(b.State)) })
	return changes, after
}

func stateRank(s State) int {
	return slices.Index([]State{StateNew, StateFlapping, StateStill, StateFixed, StateGone}, s)
}
