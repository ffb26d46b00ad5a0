// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// result is one measured row.
type result struct {
	Name   string        `json:"name"`
	PeerIs string        `json:"peerIs"`
	Ours   time.Duration `json:"oursNs"`
	Peer   time.Duration `json:"peerNs"`
	// OursMB is what a row about memory has instead of times.
	OursMB float64 `json:"oursMB,omitempty"`
	// Ratio is ours to peer where the budget is "<= Nx", else peer to ours.
	Ratio   float64 `json:"ratio"`
	Budget  string  `json:"budget"`
	Verdict string  `json:"verdict"` // ok, missed, error, or - without a budget
	Rounds  int     `json:"rounds"`
	Error   string  `json:"error,omitempty"`

	limit budget
}

// report is bin/bench.json.
type report struct {
	Version int      `json:"version"`
	Machine machine  `json:"machine"`
	Rows    []result `json:"rows"`
}

type machine struct {
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	// Load is how many threads wanted a core in the minute before: what is
	// not ours makes figures, and even ratios, uncertain.
	Load float64 `json:"load"`
}

// reportVersion is the format of the report.
const reportVersion = 1

func thisMachine() machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(text), &m.Load)
	}
	return m
}

func writeJSON(path string, m machine, rows []result) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // budgets have "<="
	e.SetIndent("", "  ")
	if err := e.Encode(report{Version: reportVersion, Machine: m, Rows: rows}); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text.Bytes(), 0o644)
}

// table prints results as they come, so its columns are as wide as the rows
// that are to come need.
type table struct {
	out         io.Writer
	name, limit int
}

func newTable(out io.Writer, rows []row) *table {
	t := &table{out: out, name: len("WHAT"), limit: len("BUDGET")}
	for _, r := range rows {
		t.name = max(t.name, len(r.name))
		t.limit = max(t.limit, len(r.budget.String()))
	}
	return t
}

func (t *table) head(m machine) {
	_, _ = fmt.Fprintf(t.out, "%d cores, Linux %s, %s, load %.1f before; medians, measured in turns\n", m.Cores, m.Kernel, m.Go, m.Load)
	t.print("WHAT", "OURS", "PEER", "RATIO", "BUDGET", "RESULT", "PEER IS")
}

func (t *table) line(r result) {
	if r.Verdict == verdictError {
		t.print(r.Name, "-", "-", "-", r.Budget, r.Verdict, r.PeerIs)
		return
	}
	if r.OursMB > 0 {
		t.print(r.Name, fmt.Sprintf("%.1f MB", r.OursMB), "-", r.limit.ratioText(r.Ratio), r.Budget, r.Verdict, r.PeerIs)
		return
	}
	t.print(r.Name, text(r.Ours), text(r.Peer), r.limit.ratioText(r.Ratio), r.Budget, r.Verdict, r.PeerIs)
}

func (t *table) print(cells ...any) {
	format := fmt.Sprintf("%%-%ds  %%9s  %%9s  %%13s  %%-%ds  %%-6s  %%s\n", t.name, t.limit)
	_, _ = fmt.Fprintf(t.out, format, cells...)
}

// foot counts the verdicts.
func (t *table) foot(results []result) {
	count := map[string]int{}
	for _, r := range results {
		count[r.Verdict]++
	}
	_, _ = fmt.Fprintf(t.out, "%d ok, %d missed, %d without a budget, %d could not be measured\n",
		count[verdictOK], count[verdictMissed], count[verdictNone], count[verdictError])
}

// text is a duration with a unit and three digits, all in milliseconds up to a
// second, so that figures of neighbouring rows compare.
func text(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 1:
		return fmt.Sprintf("%.3f ms", ms)
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.2f s", ms/1000)
}

// progress says on a terminal what is being measured, until done is called.
func progress(out *os.File, what string) (done func()) {
	if !term.IsTerminal(int(out.Fd())) {
		return func() {}
	}
	_, _ = fmt.Fprintf(out, "... measuring: %s", what)
	return func() { _, _ = fmt.Fprint(out, "\r\x1b[K") }
}
