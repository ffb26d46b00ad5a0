// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// mostMemory is what a process may take that verifies ten thousand guests, in
// megabytes.
const mostMemory = 64

// throng measures asking thousands of guests, which is a benchmark of package
// verify: what asks is not for others to call.
func throng(ctx context.Context, _ *bench) (medians, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkAsk$", "-benchtime", "9x", "./verify")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return medians{}, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return parseThrong(string(out))
}

// parseThrong reads what the benchmark prints: for each of its parts the
// number of rounds, and pairs of a figure and its unit.
func parseThrong(out string) (medians, error) {
	m := medians{of: map[string]time.Duration{}}
	for line := range strings.Lines(out) {
		name, rest, _ := strings.Cut(line, " ")
		name, ok := strings.CutPrefix(name, "BenchmarkAsk/")
		f := strings.Fields(rest)
		if !ok || len(f) < 3 {
			continue
		}
		if i := strings.LastIndex(name, "-"); i > 0 {
			name = name[:i] // the number of processors
		}
		rounds, err := strconv.Atoi(f[0])
		if err != nil {
			return m, fmt.Errorf("rounds: %w: %s", err, line)
		}
		m.rounds = rounds
		for i := 1; i+1 < len(f); i += 2 {
			value, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return m, fmt.Errorf("figure: %w: %s", err, line)
			}
			what, isTime := strings.CutPrefix(f[i+1], "ms/")
			if isTime {
				m.of[name+" "+what] = time.Duration(value * float64(time.Millisecond))
			}
			if f[i+1] == "MB/peak" && value > mostMemory {
				return m, fmt.Errorf("%s guests: the process took %.0f MB, want %d at most", name, value, mostMemory)
			}
		}
	}
	if len(m.of) == 0 {
		return m, fmt.Errorf("no figures: %s", lastLines(out, 10))
	}
	return m, nil
}
