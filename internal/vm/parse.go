// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vm

import (
	"slices"
	"strings"
)

// Result is what became of one test, or of one sub-test.
type Result struct {
	Name    string // "TestX/a/b" as the testing package has it
	Verdict string // PASS, FAIL or SKIP; empty when the test did not end
	Output  string // what it printed, by itself or through t.Log
	Subs    []*Result
}

// Parse reads what a test binary prints with -test.v. Lines that belong to no
// test are left out. The results are in the order in which the tests started.
func Parse(output string) []*Result {
	var top []*Result
	all := map[string]*Result{}
	var current *Result
	for line := range strings.Lines(output) {
		event, name := readEvent(line)
		r := all[name]
		switch {
		case event == "":
			if current != nil {
				current.Output += line
			}
		case event == "RUN" && r == nil:
			current = &Result{Name: name}
			all[name] = current
			if parent := parentOf(name, all); parent != nil {
				parent.Subs = append(parent.Subs, current)
			} else {
				top = append(top, current)
			}
		case slices.Contains([]string{"PASS", "FAIL", "SKIP"}, event):
			if r != nil {
				r.Verdict = event
			}
			current = nil
		default: // CONT, NAME or PAUSE: whose output follows
			current = r
		}
	}
	return top
}

// readEvent takes a line like "=== RUN   TestX/a" or "    --- PASS: TestX/a
// (0.01s)" apart. The event is empty when the line is none.
func readEvent(line string) (event, name string) {
	words := strings.Fields(line)
	switch {
	case len(words) == 3 && words[0] == "===":
		event, name = words[1], words[2]
	case len(words) == 4 && words[0] == "---":
		event, name = strings.TrimSuffix(words[1], ":"), words[2]
	}
	if !slices.Contains([]string{"RUN", "CONT", "NAME", "PAUSE", "PASS", "FAIL", "SKIP"}, event) {
		return "", ""
	}
	return event, name
}

// parentOf finds the test that started another. The parent's name may be
// shorter by more than one slash, as the names of sub-tests may have slashes.
func parentOf(name string, all map[string]*Result) *Result {
	for {
		cut := strings.LastIndexByte(name, '/')
		if cut < 0 {
			return nil
		}
		name = name[:cut]
		if r := all[name]; r != nil {
			return r
		}
	}
}
