// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/verify"
)

// Style is how a table looks.
type Style struct {
	// Color uses ANSI colours (ECMA-48 SGR).
	Color bool
	// Width is the number of columns to fill, or zero for lines of any length.
	// Commands and rows of the table are never broken.
	Width int
}

// Table writes the report for people: the verdict in one line, each problem
// with its evidence and what repairs it, what has gone since the last run, the
// spec's expectations, and a line for every network.
func Table(w io.Writer, r Result, style Style) error {
	p := &printer{style: style}
	p.headline(r)
	open, waived := r.open()
	for _, g := range groups(r, open) {
		p.problem(g)
	}
	p.gone(r)
	p.expectations(r)
	p.networks(r)
	p.waived(groups(r, waived))
	p.waits(r)
	p.reasons("could not tell", yellow, unsure(r))
	p.reasons("nothing to check", dim, skipped(r))
	p.notes(r)
	if _, err := io.WriteString(w, p.text.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (p *printer) headline(r Result) {
	verdict := r.Verdict()
	p.title(bold+verdictColor(verdict), strings.ToUpper(string(verdict)), summary(r))
}

func verdictColor(v verify.Verdict) string {
	switch v {
	case verify.VerdictPass:
		return green
	case verify.VerdictInconclusive:
		return yellow
	case verify.VerdictFail, verify.VerdictLeak:
	}
	return red
}

// summary says in one line what was looked at.
func summary(r Result) string {
	guests, networks := map[string]bool{}, map[string]bool{}
	good := 0
	for _, n := range r.NICs {
		guests[n.Guest], networks[n.Network] = true, true
		if n.Status == verify.StatusPass {
			good++
		}
	}
	parts := []string{fmt.Sprintf("%d of %s fine on %s in %s", good,
		count(len(r.NICs), "NIC"), count(len(guests), "guest"), count(len(networks), "network"))}
	proved, leaks := 0, 0
	for _, pair := range r.Pairs {
		switch {
		case counted(pair.Status, pair.Waived) == verify.StatusLeak:
			leaks++
		case pair.Expect == verify.ExpectIsolation && pair.Status == verify.StatusPass:
			proved++
		}
	}
	if leaks > 0 {
		parts = append(parts, count(leaks, "pair")+" leaking")
	}
	if proved > 0 {
		parts = append(parts, count(proved, "pair")+" proved apart")
	}
	parts = append(parts, compared(r)...)
	if _, waived := r.open(); len(waived) > 0 {
		parts = append(parts, fmt.Sprintf("%d waived", len(waived)))
	}
	if met, total := expected(r); total > 0 {
		parts = append(parts, fmt.Sprintf("%d of %s met", met, count(total, "expectation")))
	}
	return fmt.Sprintf("%s, in %.1f s", strings.Join(parts, ", "), r.Duration.Seconds())
}

// expected counts the spec's expectations that are met, of those there was
// something to check for.
func expected(r Result) (met, total int) {
	for _, c := range r.Checks {
		switch counted(c.Status, c.Waived) {
		case verify.StatusPass:
			met++
			total++
		case verify.StatusFail, verify.StatusLeak, verify.StatusInconclusive:
			total++
		case verify.StatusSkip, verify.StatusNotReached, statusWaived:
		}
	}
	return met, total
}

// compared counts the problems by how they compare with the runs before.
func compared(r Result) []string {
	if r.Past == nil {
		return nil
	}
	if len(r.Past.Changes) == 0 && len(r.Past.Runs) > 0 {
		return []string{"nothing changed since " + day(r.Past.Runs[0].Started)}
	}
	states := map[history.State]int{}
	for _, c := range r.Past.Changes {
		if c.Problem.Waived == nil {
			states[c.State]++
		}
	}
	var parts []string
	for _, s := range []history.State{
		history.StateNew, history.StateStill, history.StateFlapping, history.StateFixed, history.StateGone,
	} {
		if n := states[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return parts
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// problem writes one group of problems that look the same.
func (p *printer) problem(g group) {
	first := g[0]
	p.line("")
	p.title(bold+red, strings.TrimSpace(stateWord(g.state())+" "+first.Code), g.about())
	p.field("found", first.Got)
	p.field("wanted", first.Want)
	if c := first.change; c != nil && c.State != history.StateNew && !c.Since.IsZero() {
		p.field("since", day(c.Since))
	}
	p.field("evidence", limited(g.all(func(q problem) []string { return q.Evidence }), 6)...)
	p.field("leaks", limited(g.all(func(q problem) []string { return q.Leaks }), 6)...)
	if len(g) == 1 && len(first.Affects) > 1 {
		p.field("affects", brief(affected(first.Problem), 8))
	}
	p.commands("repair", limited(repairs(g), 6))
}

// stateWord is how a state is shouted, or nothing for none.
func stateWord(s history.State) string { return strings.ToUpper(string(s)) }

// day is a moment of another run.
func day(t time.Time) string { return t.Format("2006-01-02 15:04") }

// brief lists the first names of many.
func brief(names []string, most int) string {
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

func limited(lines []string, most int) []string {
	if len(lines) <= most {
		return lines
	}
	return append(slices.Clone(lines[:most]), fmt.Sprintf("... and %d more (-o json has them all)", len(lines)-most))
}
