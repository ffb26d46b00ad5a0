// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

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
// with its evidence and what repairs it, and a line for every network.
func Table(w io.Writer, r verify.Report, style Style) error {
	p := &printer{style: style}
	p.headline(r)
	for _, g := range groups(r.Problems) {
		p.problem(g)
	}
	p.networks(r)
	p.reasons("could not tell", yellow, unsure(r))
	p.reasons("nothing to check", dim, skipped(r))
	if _, err := io.WriteString(w, p.text.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (p *printer) headline(r verify.Report) {
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
func summary(r verify.Report) string {
	guests, networks := map[string]bool{}, map[string]bool{}
	good := 0
	for _, n := range r.NICs {
		guests[n.Guest], networks[n.Network] = true, true
		if n.Status == verify.StatusPass {
			good++
		}
	}
	text := fmt.Sprintf("%d of %s fine on %s in %s", good,
		count(len(r.NICs), "NIC"), count(len(guests), "guest"), count(len(networks), "network"))
	proved, leaks := 0, 0
	for _, pair := range r.Pairs {
		switch {
		case pair.Status == verify.StatusLeak:
			leaks++
		case pair.Expect == verify.ExpectIsolation && pair.Status == verify.StatusPass:
			proved++
		}
	}
	if leaks > 0 {
		text += fmt.Sprintf(", %s leaking", count(leaks, "pair"))
	}
	if proved > 0 {
		text += fmt.Sprintf(", %s proved apart", count(proved, "pair"))
	}
	return fmt.Sprintf("%s, in %.1f s", text, r.Duration.Seconds())
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
	about := first.Subject
	if len(g) > 1 {
		about = fmt.Sprintf("%s in network %s: %s", count(len(g), "NIC"), first.Network, brief(g.guests(), 8))
	}
	p.line("")
	p.title(bold+red, first.Code, about)
	p.field("found", first.Got)
	p.field("wanted", first.Want)
	p.field("evidence", limited(g.all(func(q verify.Problem) []string { return q.Evidence }), 6)...)
	p.field("leaks", limited(g.all(func(q verify.Problem) []string { return q.Leaks }), 6)...)
	if len(g) == 1 && len(first.Affects) > 1 {
		p.field("affects", brief(affected(first), 8))
	}
	p.commands("repair", limited(repairs(g), 6))
}

// group is problems with one kind of cause, which read best as one.
type group []verify.Problem

func groups(problems []verify.Problem) []group {
	type key struct{ code, network, want, got string }
	index := map[key]int{}
	var list []group
	for _, p := range problems {
		k := key{p.Code, p.Network, p.Want, p.Got}
		i, ok := index[k]
		if !ok {
			i = len(list)
			index[k] = i
			list = append(list, nil)
		}
		list[i] = append(list[i], p)
	}
	return list
}

func (g group) all(lines func(verify.Problem) []string) []string {
	var out []string
	for _, p := range g {
		for _, line := range lines(p) {
			if !slices.Contains(out, line) {
				out = append(out, line)
			}
		}
	}
	return out
}

func (g group) guests() []string {
	var names []string
	for _, p := range g {
		for _, e := range p.Affects {
			names = append(names, e.Guest)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// affected names who fails because of p: by guest alone when all are in the
// network that the problem is about.
func affected(p verify.Problem) []string {
	var names []string
	for _, e := range p.Affects {
		if p.Subject == "network "+e.Network {
			names = append(names, e.Guest)
		} else {
			names = append(names, e.String())
		}
	}
	return names
}

// repairs are the commands of a group, with one for all guests where that can
// be.
func repairs(g group) []string {
	const forAll = "virt-vnet repair "
	var guests, others []string
	for _, p := range g {
		if guest, ok := strings.CutPrefix(p.Fix, forAll); ok {
			guests = append(guests, guest)
		} else if p.Fix != "" && !slices.Contains(others, p.Fix) {
			others = append(others, p.Fix)
		}
	}
	if len(guests) > 0 {
		others = append([]string{forAll + strings.Join(slices.Compact(guests), " ")}, others...)
	}
	return others
}

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
