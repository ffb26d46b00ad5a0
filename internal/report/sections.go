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

// gone lists the problems of earlier runs that are not there any more.
func (p *printer) gone(r Result) {
	past := r.past()
	if len(past) == 0 {
		return
	}
	var rows [][]cell
	for _, c := range past {
		color := green
		if c.State == history.StateGone {
			color = dim
		}
		since := ""
		if !c.Since.IsZero() {
			since = "since " + day(c.Since)
		}
		rows = append(rows, []cell{
			{stateWord(c.State), color}, {c.Problem.Code, ""}, {c.Problem.Subject, ""}, {since, dim},
		})
	}
	p.line("")
	p.table(rows)
}

// allExpectations is up to how many expectations are listed in full. Of more,
// those that are met are counted only, in the headline.
const allExpectations = 12

// expectations lists what the spec's own expectations came to, the worst first.
func (p *printer) expectations(r Result) {
	if len(r.Checks) == 0 {
		return
	}
	checks := slices.Clone(r.Checks)
	slices.SortStableFunc(checks, func(a, b verify.CheckResult) int {
		return cmp.Compare(badness(counted(b.Status, b.Waived)), badness(counted(a.Status, a.Waived)))
	})
	rows := [][]cell{{{"EXPECTATION", dim}, {"RESULT", dim}, {"MEASURED", dim}, {"WHY", dim}}}
	for _, c := range checks {
		if c.Status == verify.StatusPass && len(checks) > allExpectations {
			continue
		}
		status := counted(c.Status, c.Waived)
		rows = append(rows, []cell{{c.Name, bold}, {string(status), statusColor(status)}, orDash(c.Value), orDash(why(c))})
	}
	if len(rows) > 1 {
		p.line("")
		p.table(rows)
	}
}

// why is the cause of a check's result, the reason, or where the check is from.
func why(c verify.CheckResult) string {
	if c.Status == verify.StatusPass {
		return c.Where
	}
	return cmp.Or(c.Cause, c.Reason, c.Where)
}

func orDash(text string) cell {
	if text == "" {
		return cell{"-", dim}
	}
	return cell{text, ""}
}

func badness(s verify.Status) int {
	return slices.Index([]verify.Status{
		verify.StatusPass, verify.StatusSkip, verify.StatusNotReached, statusWaived,
		verify.StatusInconclusive, verify.StatusFail, verify.StatusLeak,
	}, s)
}

func statusColor(s verify.Status) string {
	switch s {
	case verify.StatusPass:
		return green
	case verify.StatusFail, verify.StatusLeak:
		return red
	case verify.StatusInconclusive, statusWaived:
		return yellow
	case verify.StatusSkip, verify.StatusNotReached:
	}
	return dim
}

// waived lists what somebody has put up with.
func (p *printer) waived(list []group) {
	if len(list) == 0 {
		return
	}
	p.line("")
	p.line("%s", p.paint(yellow, "waived"))
	for _, g := range list {
		w := g[0].Waived
		text := fmt.Sprintf("%s %s: by %s until %s", g[0].Code, g.about(), w.Owner, w.Until.Format(time.DateOnly))
		if w.Reason != "" {
			text += ", " + w.Reason
		}
		p.item(yellow, strings.TrimSpace(stateWord(g.state())+" "+text))
	}
}

// waits says how long a run that waited had to, the slowest guest first.
func (p *printer) waits(r Result) {
	after := map[string]time.Duration{}
	var guests []string
	for _, n := range r.NICs {
		if n.ReachableAfter == 0 {
			continue
		}
		if _, ok := after[n.Guest]; !ok {
			guests = append(guests, n.Guest)
		}
		after[n.Guest] = max(after[n.Guest], n.ReachableAfter)
	}
	if len(guests) == 0 {
		return
	}
	slices.SortStableFunc(guests, func(a, b string) int { return cmp.Compare(after[b], after[a]) })
	for i, g := range guests {
		guests[i] = fmt.Sprintf("%s %.1f s", g, after[g].Seconds())
	}
	p.line("")
	p.line("%s", p.paint(dim, "reachable after"))
	p.item("", brief(guests, 12))
}

// notes lists what is worth knowing and changes no verdict.
func (p *printer) notes(r Result) {
	if len(r.Notes) == 0 {
		return
	}
	p.line("")
	p.line("%s", p.paint(dim, "notes"))
	for _, note := range r.Notes {
		p.item("", note)
	}
}
