// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/verify"
)

// NagiosState is a service's state. Its number is the exit code that the
// Monitoring Plugins Development Guidelines give it.
type NagiosState int

// The states. The guidelines' 1, WARNING, is never used: a network talks as it
// should, or it does not, or that cannot be told. What somebody has waived is
// no reason to warn.
const (
	NagiosOK       NagiosState = 0
	NagiosCritical NagiosState = 2
	NagiosUnknown  NagiosState = 3
)

// String returns the state's word.
func (s NagiosState) String() string {
	switch s {
	case NagiosOK:
		return "OK"
	case NagiosCritical:
		return "CRITICAL"
	case NagiosUnknown:
	}
	return "UNKNOWN"
}

// NagiosStateOf returns the state that a verdict stands for.
func NagiosStateOf(v verify.Verdict) NagiosState {
	switch v {
	case verify.VerdictPass:
		return NagiosOK
	case verify.VerdictFail, verify.VerdictLeak:
		return NagiosCritical
	case verify.VerdictInconclusive:
	}
	return NagiosUnknown
}

// nagiosProblems is how many problems the line names.
const nagiosProblems = 3

// Nagios writes the report as the one line of a monitoring plugin: state, text
// and performance data (Monitoring Plugins Development Guidelines, "Plugin
// Output for Nagios"). [NagiosStateOf] gives the exit code that goes with it.
func Nagios(w io.Writer, r Result) error {
	verdict := r.Verdict()
	text := summary(r)
	if verdict == verify.VerdictLeak {
		text = "LEAK: " + text
	}
	open, _ := r.open()
	for i, g := range groups(r, open) {
		if i == nagiosProblems {
			text += fmt.Sprintf("; and more, %s in all", count(len(open), "problem"))
			break
		}
		text += fmt.Sprintf("; %s %s", g[0].Code, g.about())
	}
	if reasons := unsure(r); verdict == verify.VerdictInconclusive && len(reasons) > 0 {
		text += "; could not tell: " + reasons[0].text
	}
	return NagiosLine(w, NagiosStateOf(verdict), text, perfdata(r)...)
}

// NagiosLine writes a plugin's line of any text, which may be an error's.
func NagiosLine(w io.Writer, state NagiosState, text string, perfdata ...string) error {
	// A bar begins the performance data, wherever it stands.
	text = strings.ReplaceAll(oneLine(text), "|", "/")
	line := fmt.Sprintf("VIRT-VNET %s - %s", state, text)
	if len(perfdata) > 0 {
		line += " | " + strings.Join(perfdata, " ")
	}
	if _, err := fmt.Fprintln(w, line); err != nil {
		return fmt.Errorf("write Nagios line: %w", err)
	}
	return nil
}

// oneLine takes out what would end the line or steer a terminal.
func oneLine(text string) string { return clean(strings.Join(strings.Fields(text), " ")) }

// perfdata returns 'label'=value[unit];[warn];[crit];[min];[max] items.
func perfdata(r Result) []string {
	statuses, pairs := map[verify.Status]int{}, map[verify.Status]int{}
	var slowest time.Duration
	measured := false
	for _, n := range r.NICs {
		statuses[counted(n.Status, n.Waived)]++
		if n.Latency != nil && n.Latency.Received > 0 {
			measured, slowest = true, max(slowest, n.Latency.Median)
		}
	}
	for _, p := range r.Pairs {
		pairs[counted(p.Status, p.Waived)]++
	}
	open, waived := r.open()
	number := func(label string, n int) string { return fmt.Sprintf("%s=%d;;;0", label, n) }
	seconds := func(label string, d time.Duration) string {
		return fmt.Sprintf("%s=%ss;;;0", label, strconv.FormatFloat(d.Round(time.Microsecond).Seconds(), 'f', -1, 64))
	}
	list := []string{
		fmt.Sprintf("nics_fine=%d;;;0;%d", statuses[verify.StatusPass], len(r.NICs)),
		number("nics_failed", statuses[verify.StatusFail]),
		number("nics_unsure", statuses[verify.StatusInconclusive]),
		number("problems", len(open)),
		number("waived", len(waived)),
		number("pairs_leaking", pairs[verify.StatusLeak]),
		seconds("duration", r.Duration),
	}
	if measured {
		list = append(list, seconds("slowest_latency", slowest))
	}
	return list
}
