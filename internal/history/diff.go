// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"slices"
	"time"

	"github.com/virt-vnet/virt-vnet/verify"
)

// Difference is what is different between two runs.
type Difference struct {
	From Run `json:"from"`
	To   Run `json:"to"`
	// Changes are the problems of both.
	Changes []Change `json:"changes,omitempty"`
	// Added and Removed are NICs that only the one or the other looked at.
	Added   []verify.Endpoint `json:"added,omitempty"`
	Removed []verify.Endpoint `json:"removed,omitempty"`
	// Checks are the expectations of the spec whose results differ.
	Checks []CheckChange `json:"checks,omitempty"`
	// Latencies are those that differ by half and more, and by 1 ms and more.
	Latencies []LatencyChange `json:"latencies,omitempty"`
}

// CheckChange is an expectation of the spec before and after. A status is empty
// where the run had no such expectation.
type CheckChange struct {
	Name string        `json:"name"`
	Was  verify.Status `json:"was,omitempty"`
	Is   verify.Status `json:"is,omitempty"`
}

// LatencyChange is the median latency of a NIC before and after.
type LatencyChange struct {
	verify.Endpoint

	Was time.Duration `json:"wasNanoseconds"`
	Is  time.Duration `json:"isNanoseconds"`
}

// Diff compares two runs and their reports, whichever is the older. NICs that a
// narrowed run did not look at are neither new nor gone in it.
func Diff(from, to Run, before, after verify.Report) Difference {
	was, is := look(before, from.Narrowed()), look(after, to.Narrowed())
	d := Difference{From: from, To: to}
	open := map[string]standing{}
	for key, p := range was.problems {
		open[key] = standing{problem: p, since: before.Started, open: true}
	}
	changes, _ := ledger{{started: before.Started, standings: open}}.compare(is)
	for _, c := range changes {
		if c.State != StateNew || !was.narrowed || len(was.affected(c.Problem)) > 0 {
			d.Changes = append(d.Changes, c)
		}
	}
	if !was.narrowed {
		d.Added = only(after, was)
	}
	if !is.narrowed {
		d.Removed = only(before, is)
	}
	d.Checks = diffChecks(before.Checks, after.Checks)
	d.Latencies = diffLatencies(was, after)
	return d
}

// only are the NICs of report that other has not.
func only(report verify.Report, other seen) []verify.Endpoint {
	var list []verify.Endpoint
	for _, n := range report.NICs {
		if _, ok := other.nics[endpointOf(n.Endpoint)]; !ok {
			list = append(list, n.Endpoint)
		}
	}
	return list
}

func diffChecks(before, after []verify.CheckResult) []CheckChange {
	was := map[string]verify.Status{}
	for _, c := range before {
		was[c.Name] = c.Status
	}
	var list []CheckChange
	for _, c := range after {
		if was[c.Name] != c.Status {
			list = append(list, CheckChange{Name: c.Name, Was: was[c.Name], Is: c.Status})
		}
	}
	for _, c := range before {
		same := func(o verify.CheckResult) bool { return o.Name == c.Name }
		if !slices.ContainsFunc(after, same) {
			list = append(list, CheckChange{Name: c.Name, Was: c.Status})
		}
	}
	return list
}

func diffLatencies(was seen, after verify.Report) []LatencyChange {
	var list []LatencyChange
	for _, n := range after.NICs {
		old, now := sampleOf(was.report.Started, was.nics[endpointOf(n.Endpoint)]).Median, sampleOf(after.Started, n).Median
		if low, high := min(old, now), max(old, now); low > 0 && 100*high >= slowPercent*low && high-low >= slowFloor {
			list = append(list, LatencyChange{Endpoint: n.Endpoint, Was: old, Is: now})
		}
	}
	return list
}
