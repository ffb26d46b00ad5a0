// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Command bench measures virt-vnet against its peers: what a start of a guest
// costs with the hook and with the scripts that administrators write, and what
// defining networks and planning cost; whether a port costs more when there are a
// thousand others; and how long verify asks guests, and what memory it takes. It
// prints a line for each row with its budget, and writes the same to
// bin/bench.json. Run it with make bench.
//
// Both sides of a row do the same real work in the same run, in turns, in a lab
// of its own: real taps on a real bridge, a real Open vSwitch, a real libvirtd.
// What they did is looked at after every repetition, by other means than
// virt-vnet's own, and taken back, so that nobody is measured doing nothing. A
// row is medians.
//
// A missed budget is reported and is no failure; a row that could not be
// measured is one.
//
// Out of scope: figures that hold beyond the machine they were taken on: only the
// ratios do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

// limit bounds the whole run.
const limit = 15 * time.Minute

func main() {
	selected := flag.String("run", "", "measure only the rows whose name and peer match this `regexp`")
	output := flag.String("o", "bin/bench.json", "write the results to this `file`, as JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, limit)
	inside, code, err := lab.Enter(ctx)
	if err == nil && inside {
		err = run(ctx, *selected, *output)
	}
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// run measures the selected rows, prints them as they come, and writes the
// file.
func run(ctx context.Context, selected, output string) (err error) {
	pattern, err := regexp.Compile(selected)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	chosen := choose(rows(), pattern)
	if len(chosen) == 0 {
		return fmt.Errorf("-run %s: no row has such a name", selected)
	}
	m := thisMachine()
	b, err := newBench(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	t := newTable(os.Stdout, chosen)
	t.head(m)
	var results []result
	var failed []error
	for _, g := range groups() {
		mine := of(chosen, g.name)
		if len(mine) == 0 {
			continue
		}
		done := progress(os.Stderr, g.name)
		medians, err := g.measure(ctx, b)
		done()
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", g.name, err))
		}
		for _, r := range mine {
			res := r.result(medians, err)
			t.line(res)
			results = append(results, res)
		}
		if ctx.Err() != nil {
			break
		}
	}
	t.foot(results)
	if err := ctx.Err(); err != nil {
		return errors.Join(append(failed, err)...) // a file of some of the rows would pass for the whole
	}
	return errors.Join(append(failed, writeJSON(output, m, results))...)
}
