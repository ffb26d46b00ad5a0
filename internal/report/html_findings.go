// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/verify"
)

// pageFinding is one group of problems with the same kind of cause.
type pageFinding struct {
	ID, Code, About, Network string
	Rung                     verify.RungName
	Want, Got                string
	Guests                   int
	Names                    []string
	Evidence, Leaks, Fixes   []string
	State                    history.State
	Since                    time.Time
	Waived                   *verify.Waived
}

// addFindings sorts the problems into those that count and those that are
// waived, and finds what became of those of the last run.
func (p *page) addFindings(r Result) {
	past := r.past()
	p.Gone = past[:min(len(past), mostRows)]
	open, waived := r.open()
	all := groups(r, open)
	p.MoreFindings = max(0, len(all)-mostFindings)
	for i, g := range all[:len(all)-p.MoreFindings] {
		p.Findings = append(p.Findings, newFinding(fmt.Sprintf("finding-%d", i+1), g))
	}
	for i, g := range groups(r, waived) {
		if i < mostFindings {
			p.Waived = append(p.Waived, newFinding(fmt.Sprintf("waived-%d", i+1), g))
		}
	}
}

func newFinding(id string, g group) pageFinding {
	first, names := g[0], g.guests()
	f := pageFinding{
		ID: id, Code: first.Code, About: first.Subject, Network: first.Network, Rung: first.Rung,
		Want: first.Want, Got: first.Got, Waived: first.Waived,
		Guests: len(names), Names: limited(names, 10*mostLines), State: g.state(),
		Evidence: limited(g.all(func(q problem) []string { return q.Evidence }), mostLines),
		Leaks:    limited(g.all(func(q problem) []string { return q.Leaks }), mostLines),
		Fixes:    limited(repairs(g), mostLines),
	}
	if len(g) > 1 {
		f.About = fmt.Sprintf("%s in network %s", count(len(g), "NIC"), first.Network)
	}
	for _, q := range g {
		if q.change != nil && (f.Since.IsZero() || q.change.Since.Before(f.Since)) {
			f.Since = q.change.Since
		}
	}
	return f
}

// countChanges says how many findings have something new, and so on.
func countChanges(findings []pageFinding) string {
	number := map[history.State]int{}
	for _, f := range findings {
		number[f.State]++
	}
	var parts []string
	for _, s := range []history.State{history.StateNew, history.StateFlapping, history.StateStill} {
		if number[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", number[s], s))
		}
	}
	return strings.Join(parts, ", ")
}

// codesOf are the codes that the report has, in the order of the ladder.
func codesOf(problems []verify.Problem) []verify.CodeInfo {
	return slices.DeleteFunc(verify.Codes(), func(c verify.CodeInfo) bool {
		return !slices.ContainsFunc(problems, func(p verify.Problem) bool { return p.Code == c.Code })
	})
}

// checkTable is the expectations of the spec, the failed ones first.
type checkTable struct {
	Rows []verify.CheckResult
	More int
}

func newCheckTable(r verify.Report) checkTable {
	rows := slices.Clone(r.Checks)
	slices.SortStableFunc(rows, func(a, b verify.CheckResult) int { return cmp.Compare(badness(b.Status), badness(a.Status)) })
	more := max(0, len(rows)-mostRows)
	rows = rows[:len(rows)-more]
	for i := range rows {
		rows[i].Evidence = limited(rows[i].Evidence, mostLines)
	}
	return checkTable{Rows: rows, More: more}
}
