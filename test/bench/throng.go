// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

// throng measures asking thousands of guests, and the memory of a process that
// does nothing else. Both are benchmarks of package verify: what asks is not for
// others to call.
func throng(ctx context.Context, _ *bench) (medians, error) {
	return goBenchmarks(ctx, "./verify",
		[]string{"-bench", "^BenchmarkAsk$", "-benchtime", "9x"},
		[]string{"-bench", "^BenchmarkMemory$", "-benchtime", "1x"})
}

// goBenchmarks runs benchmarks of a package, in a lab of their own.
func goBenchmarks(ctx context.Context, pkg string, runs ...[]string) (medians, error) {
	m := medians{of: map[string]time.Duration{}, megabytes: map[string]float64{}}
	for _, args := range runs {
		cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-run", "^$", pkg}, args...)...)
		cmd.Env = append(lab.Outside(), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return m, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
		}
		if err := m.parseThrong(string(out)); err != nil {
			return m, err
		}
	}
	return m, nil
}

// parseThrong reads what the benchmark prints: for each of its parts the
// number of rounds, and pairs of a figure and its unit.
func (m *medians) parseThrong(out string) error {
	figures := 0
	for line := range strings.Lines(out) {
		name, rest, _ := strings.Cut(line, " ")
		name, ok := strings.CutPrefix(name, "Benchmark")
		name = strings.TrimPrefix(name, "Ask/")
		f := strings.Fields(rest)
		if !ok || len(f) < 3 {
			continue
		}
		if i := strings.LastIndex(name, "-"); i > 0 {
			name = name[:i] // the number of processors
		}
		rounds, err := strconv.Atoi(f[0])
		if err != nil {
			return fmt.Errorf("rounds: %w: %s", err, line)
		}
		m.rounds = max(m.rounds, rounds)
		for i := 1; i+1 < len(f); i += 2 {
			value, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return fmt.Errorf("figure: %w: %s", err, line)
			}
			unit, what, _ := strings.Cut(f[i+1], "/")
			switch unit {
			case "ms":
				m.of[name+" "+what] = time.Duration(value * float64(time.Millisecond))
				figures++
			case "MB":
				m.megabytes[name+" "+what] = value
				figures++
			}
		}
	}
	if figures == 0 {
		return fmt.Errorf("no figures: %s", lastLines(out, 10))
	}
	return nil
}
