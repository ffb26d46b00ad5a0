// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"slices"

	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/verify"
)

// Result is what is to be written: a report, and what is known of the runs
// before.
type Result struct {
	verify.Report

	// Host is the name of the machine that the run was on, and Program what ran
	// there, with its version. Both may be empty.
	Host    string `json:"host,omitempty"`
	Program string `json:"program,omitempty"`
	// Past is nil where no history is kept.
	Past *history.Past `json:"past,omitempty"`
}

// change returns what history says of a problem of the run, or nil.
func (r Result) change(p verify.Problem) *history.Change {
	if r.Past == nil {
		return nil
	}
	i := slices.IndexFunc(r.Past.Changes, func(c history.Change) bool { return !over(c.State) && same(c.Problem, p) })
	if i < 0 {
		return nil
	}
	return &r.Past.Changes[i]
}

// same reports whether two problems are one, of two runs.
func same(a, b verify.Problem) bool {
	return a.Code == b.Code && a.Subject == b.Subject && a.Network == b.Network
}

// past returns the changes that are about problems which are not there now.
func (r Result) past() []history.Change {
	if r.Past == nil {
		return nil
	}
	var list []history.Change
	for _, c := range r.Past.Changes {
		isThere := func(p verify.Problem) bool { return same(c.Problem, p) }
		if over(c.State) || !slices.ContainsFunc(r.Problems, isThere) {
			list = append(list, c)
		}
	}
	return list
}

// over reports whether the problem is not there any more.
func over(s history.State) bool { return s == history.StateFixed || s == history.StateGone }

// open returns the problems that nobody has waived, and waived the others.
func (r Result) open() (open, waived []verify.Problem) {
	for _, p := range r.Problems {
		if p.Waived == nil {
			open = append(open, p)
		} else {
			waived = append(waived, p)
		}
	}
	return open, waived
}

// statusWaived is, in counts, the status of what fails for a waived cause.
const statusWaived verify.Status = "waived"

// counted is the status that something counts as.
func counted(s verify.Status, waived bool) verify.Status {
	if waived && (s == verify.StatusFail || s == verify.StatusLeak) {
		return statusWaived
	}
	return s
}
