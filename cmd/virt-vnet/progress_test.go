// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// TestProgress shows one line that tells the step, moves by itself, and leaves
// nothing behind.
func TestProgress(t *testing.T) {
	var w screen
	step, done := showProgress(&w)
	for _, want := range []string{"opening vantages", "asking the guests"} {
		step(want)
		w.until(t, func(line string) bool { return strings.Contains(line, want) })
	}
	before := w.line()
	w.until(t, func(line string) bool { return line != before && strings.Contains(line, "asking") })
	done()
	w.until(t, func(line string) bool { return strings.TrimSpace(line) == "" })
	if strings.Contains(w.text(), "\n") {
		t.Errorf("more than one line: %q", w.text())
	}
}

// screen is what a terminal gets.
type screen struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// line is what a terminal shows of one line: a carriage return has what follows
// written over what is there.
func (s *screen) line() string {
	var shown []rune
	for part := range strings.SplitSeq(s.text(), "\r") {
		runes := []rune(part)
		shown = append(runes, shown[min(len(runes), len(shown)):]...)
	}
	return string(shown)
}

func (s *screen) until(t *testing.T, ok func(line string) bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(s.line()); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the line is %q", s.line())
		}
	}
}
