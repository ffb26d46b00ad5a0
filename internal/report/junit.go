// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"github.com/virt-vnet/virt-vnet/verify"
)

// JUnit writes the report as JUnit XML, as CI systems read it: a suite for the
// run itself, one for every network with a case for each NIC and rung and for
// each group of pairs, and one for the spec's expectations.
//
// What failed is a failure, whose type is the problem's code. What could not be
// told is an error, so that no CI passes on it. What is skipped, not reached or
// waived is skipped, with the reason. Names of cases stay the same from run to
// run.
func JUnit(w io.Writer, r Result) error {
	j := &junitWriter{result: r, shown: map[string]bool{}, named: map[string]int{}}
	suites := junit.Testsuites{Name: "virt-vnet verify", Time: xmlSeconds(r.Duration)}
	networks := j.networks()
	for _, s := range slices.Concat([]junit.Testsuite{j.run()}, networks, j.expectations(), j.others()) {
		s.ID = len(suites.Suites)
		suites.AddSuite(s)
	}
	var text bytes.Buffer
	text.WriteString(xml.Header)
	if err := suites.WriteXML(&text); err != nil {
		return fmt.Errorf("write JUnit report: %w", err)
	}
	if _, err := w.Write(text.Bytes()); err != nil {
		return fmt.Errorf("write JUnit report: %w", err)
	}
	return nil
}

// junitWriter turns a result into suites.
type junitWriter struct {
	result Result
	// shown are the causes that a case has told of.
	shown map[string]bool
	// named counts the cases of a suite by name.
	named map[string]int
}

func (j *junitWriter) suite(name string) junit.Testsuite {
	s := junit.Testsuite{Name: xmlText(name), Hostname: xmlText(j.result.Host), Time: xmlSeconds(0)}
	s.SetTimestamp(j.result.Started.UTC())
	s.AddProperty("program", xmlText(cmp.Or(j.result.Program, "virt-vnet")))
	s.AddProperty("report.version", fmt.Sprint(j.result.Version))
	s.AddProperty("host", xmlText(j.result.Host))
	s.AddProperty("started", j.result.Started.UTC().Format(time.RFC3339))
	return s
}

// newCase makes a case without a result, which is one that passed. Readers take
// two cases of the same name for one, so a name that is there again is numbered.
func (j *junitWriter) newCase(suite junit.Testsuite, name string) junit.Testcase {
	key := suite.Name + "/" + name
	if j.named[key]++; j.named[key] > 1 {
		name += fmt.Sprintf(" (%d)", j.named[key])
	}
	// The last dot of a class name ends the package for most readers.
	class := "virt-vnet." + strings.ReplaceAll(suite.Name, ".", "_")
	return junit.Testcase{Name: xmlText(name), Classname: class, Time: xmlSeconds(0)}
}

// run is the suite of the run itself: it says what limited it.
func (j *junitWriter) run() junit.Testsuite {
	s := j.suite("run")
	c := j.newCase(s, "nothing limited the run")
	c.Time, s.Time = xmlSeconds(j.result.Duration), xmlSeconds(j.result.Duration)
	limits := slices.Clone(j.result.Limits)
	if len(j.result.NICs) == 0 {
		limits = append(limits, "no NIC was checked")
	}
	if len(limits) > 0 {
		c.Error = inconclusive(limits[0], limits)
	}
	s.AddTestcase(c)
	for _, note := range j.result.Notes {
		s.AddProperty("note", xmlText(note))
	}
	return s
}

func (j *junitWriter) networks() []junit.Testsuite {
	suites := map[string]*junit.Testsuite{}
	of := func(network string) *junit.Testsuite {
		if suites[network] == nil {
			s := j.suite("network " + network)
			suites[network] = &s
		}
		return suites[network]
	}
	names := nicNames(j.result.NICs)
	for i, n := range j.result.NICs {
		s := of(n.Network)
		for _, rung := range n.Rungs {
			c := j.newCase(*s, names[i]+": "+string(rung.Name))
			j.judgeRung(&c, n, *rung)
			s.AddTestcase(c)
		}
	}
	for _, g := range pairGroups(j.result.Pairs) {
		s := of(g[0].From.Network)
		c := j.newCase(*s, g.name())
		j.judgePairs(&c, g)
		s.AddTestcase(c)
	}
	var list []junit.Testsuite
	for _, name := range slices.Sorted(maps.Keys(suites)) {
		list = append(list, *suites[name])
	}
	return list
}

// nicNames names NICs for people: by guest, and by MAC address too where a guest
// has several in the network.
func nicNames(nics []verify.NICResult) []string {
	times := map[string]int{}
	for _, n := range nics {
		times[n.String()]++
	}
	names := make([]string, len(nics))
	for i, n := range nics {
		names[i] = n.Guest
		if times[n.String()] > 1 {
			names[i] += " " + cmp.Or(n.MAC.String(), n.Device)
		}
	}
	return names
}

func (j *junitWriter) judgeRung(c *junit.Testcase, n verify.NICResult, rung verify.Rung) {
	switch rung.Status {
	case verify.StatusFail, verify.StatusLeak:
		p := j.problem(func(p verify.Problem) bool {
			return p.Rung == rung.Name && slices.Contains(p.Affects, n.Endpoint)
		})
		if p == nil {
			c.Failure = failure("FAILED", cmp.Or(rung.Reason, "the check failed"), rung.Evidence)
			return
		}
		j.blame(c, *p)
	case verify.StatusInconclusive:
		c.Error = inconclusive(rung.Reason, rung.Evidence)
	case verify.StatusNotReached:
		reason := "not reached"
		if i := slices.IndexFunc(n.Rungs, func(r *verify.Rung) bool { return r.Status == verify.StatusFail }); i >= 0 {
			reason += ": broken at " + string(n.Rungs[i].Name)
		}
		c.Skipped = skippedBecause(reason)
	case verify.StatusSkip:
		c.Skipped = skippedBecause(rung.Reason)
	case verify.StatusPass:
	}
}

// pairGroup is the pairs between the same two networks.
type pairGroup []verify.PairResult

func pairGroups(pairs []verify.PairResult) []pairGroup {
	type key struct {
		from, to string
		expect   verify.Expectation
	}
	groups := map[key]pairGroup{}
	var order []key
	for _, p := range pairs {
		k := key{p.From.Network, p.To.Network, p.Expect}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], p)
	}
	list := make([]pairGroup, len(order))
	for i, k := range order {
		list[i] = groups[k]
	}
	return list
}

func (g pairGroup) name() string {
	from, to := g[0].From.Network, g[0].To.Network
	switch {
	case from == to && g[0].Expect == verify.ExpectReach:
		return "pairs: guests reach each other"
	case from == to:
		return "pairs: isolated guests are kept apart"
	case g[0].Expect == verify.ExpectReach:
		return "pairs: reaches " + to
	}
	return "pairs: kept apart from " + to
}

func (g pairGroup) with(s verify.Status) pairGroup {
	return slices.DeleteFunc(slices.Clone(g), func(p verify.PairResult) bool { return p.Status != s })
}

// lines says of each pair what became of it.
func (g pairGroup) lines() []string {
	var lines []string
	for _, p := range g {
		line := fmt.Sprintf("%s -> %s: %s", p.From, p.To, p.Status)
		if len(p.Delivered) > 0 {
			line += ", delivered as " + strings.Join(p.Delivered, " and ")
		}
		for _, more := range []string{p.Reason, p.Cause} {
			if more != "" {
				line += ": " + more
			}
		}
		lines = append(lines, line)
	}
	return limited(lines, 100)
}

// judgePairs gives the group the result of its worst pair.
func (j *junitWriter) judgePairs(c *junit.Testcase, g pairGroup) {
	leaks, failed, unsure := g.with(verify.StatusLeak), g.with(verify.StatusFail), g.with(verify.StatusInconclusive)
	switch {
	case len(leaks) > 0:
		j.blamePairs(c, leaks, verify.CodeLeak)
	case len(failed) > 0:
		j.blamePairs(c, failed, "FAILED")
	case len(unsure) > 0:
		c.Error = inconclusive(unsure[0].Reason, unsure.lines())
	case len(g.with(verify.StatusPass)) == 0:
		c.Skipped = skippedBecause(cmp.Or(g[0].Reason, "no pair was reached, because of something else that is broken"))
	}
}

// blamePairs tells of pairs that went wrong, for the first cause that nobody
// has waived.
func (j *junitWriter) blamePairs(c *junit.Testcase, bad pairGroup, code string) {
	var waived *verify.Problem
	for _, pair := range bad {
		p := j.problem(func(p verify.Problem) bool { return cause(p) == pair.Cause })
		if p == nil || p.Waived == nil {
			if p != nil && code != verify.CodeLeak {
				code = p.Code
			}
			message := fmt.Sprintf("%s: %s", count(len(bad), "pair"), bad.lines()[0])
			c.Failure = failure(code, message, bad.lines())
			if p != nil {
				c.Failure.Data += "\n\n" + details(*p)
			}
			return
		}
		waived = p
	}
	j.blame(c, *waived)
}

func (j *junitWriter) expectations() []junit.Testsuite {
	if len(j.result.Checks) == 0 {
		return nil
	}
	s := j.suite("expectations")
	for _, check := range j.result.Checks {
		c := j.newCase(s, check.Name)
		lines := check.Evidence
		for _, more := range []string{check.Value, check.Where} {
			if more != "" {
				lines = append(lines, more)
			}
		}
		switch check.Status {
		case verify.StatusFail, verify.StatusLeak:
			if p := j.problem(func(p verify.Problem) bool { return cause(p) == check.Cause }); p != nil {
				j.blame(&c, *p)
				if c.Failure != nil && len(lines) > 0 {
					c.Failure.Data = xmlText(strings.Join(lines, "\n")) + "\n\n" + c.Failure.Data
				}
			} else {
				c.Failure = failure("FAILED", cmp.Or(check.Reason, check.Value, "the expectation is not met"), lines)
			}
		case verify.StatusInconclusive:
			c.Error = inconclusive(check.Reason, lines)
		case verify.StatusSkip, verify.StatusNotReached:
			c.Skipped = skippedBecause(cmp.Or(check.Reason, check.Cause, string(check.Status)))
		case verify.StatusPass:
		}
		s.AddTestcase(c)
	}
	return []junit.Testsuite{s}
}

// others is a suite of the problems that no case before has told of.
func (j *junitWriter) others() []junit.Testsuite {
	s := j.suite("problems")
	for _, p := range j.result.Problems {
		if !j.shown[cause(p)] {
			c := j.newCase(s, cause(p))
			j.blame(&c, p)
			s.AddTestcase(c)
		}
	}
	if s.Tests == 0 {
		return nil
	}
	return []junit.Testsuite{s}
}

// problem returns the first problem that matches and marks it as told of, or
// nil.
func (j *junitWriter) problem(matches func(verify.Problem) bool) *verify.Problem {
	i := slices.IndexFunc(j.result.Problems, matches)
	if i < 0 {
		return nil
	}
	p := &j.result.Problems[i]
	j.shown[cause(*p)] = true
	return p
}

// cause names a problem as pairs and checks do that come from it.
func cause(p verify.Problem) string { return p.Code + ": " + p.Subject }

// blame gives the case the problem as its result.
func (j *junitWriter) blame(c *junit.Testcase, p verify.Problem) {
	if w := p.Waived; w != nil {
		reason := fmt.Sprintf("waived by %s until %s", w.Owner, w.Until.Format(time.DateOnly))
		for _, more := range []string{w.Reason, p.Code, p.String()} {
			if more != "" {
				reason += ": " + more
			}
		}
		c.Skipped = skippedBecause(reason)
		return
	}
	c.Failure = failure(p.Code, p.String(), nil)
	c.Failure.Data = details(p)
}

// details is all there is to say of a problem.
func details(p verify.Problem) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", cause(p))
	for _, f := range []struct {
		name  string
		lines []string
	}{
		{"found", []string{p.Got}},
		{"wanted", []string{p.Want}},
		{"evidence", p.Evidence},
		{"leaks", p.Leaks},
		{"affects", affected(p)},
		{"repair", []string{p.Fix}},
	} {
		for _, line := range f.lines {
			if line != "" {
				fmt.Fprintf(&b, "%s: %s\n", f.name, line)
			}
		}
	}
	return xmlText(strings.TrimSuffix(b.String(), "\n"))
}

func failure(code, message string, lines []string) *junit.Result {
	return &junit.Result{Message: xmlText(message), Type: code, Data: xmlText(strings.Join(lines, "\n"))}
}

func inconclusive(reason string, lines []string) *junit.Result {
	return failure(string(verify.StatusInconclusive), cmp.Or(reason, "it could not be told"), lines)
}

func skippedBecause(reason string) *junit.Result {
	return &junit.Result{Message: xmlText(cmp.Or(reason, "there is nothing to check"))}
}

func xmlSeconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

// xmlText leaves only characters that XML 1.0 has (2.2): the library writes
// text as it is.
func xmlText(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r >= 0x20 && r <= 0xd7ff || r >= 0xe000 && r <= 0xfffd || r >= 0x10000 {
			return r
		}
		return '?'
	}, text)
}
