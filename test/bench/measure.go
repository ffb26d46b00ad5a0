// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// contender does a job whose cost is measured.
type contender struct {
	name string
	// reset brings everything back to how it was before the job, check finds
	// out whether the job was done. Neither is part of the cost. Nil does
	// nothing.
	reset func(context.Context) error
	check func(context.Context) error
	// run does the job and returns what it cost: wall or CPU time.
	run func(context.Context) (time.Duration, error)
}

// effort says how often contenders take turns: until limit is over, but at
// least and at most so many times.
type effort struct {
	least, most int
	limit       time.Duration
}

// medians is what contenders cost, by their names.
type medians struct {
	rounds int
	of     map[string]time.Duration
	// megabytes are what took memory rather than time.
	megabytes map[string]float64
}

// interleave lets the contenders do their jobs in turns, so that what else the
// machine does meets all of them alike. Each round begins with the next one.
// The first round warms up and does not count.
func interleave(ctx context.Context, e effort, contenders ...contender) (medians, error) {
	costs := map[string][]time.Duration{}
	begun := time.Now()
	rounds := -1
	for rounds < e.most && (rounds < e.least || time.Since(begun) < e.limit) {
		for i := range contenders {
			c := contenders[(i+rounds+1)%len(contenders)]
			cost, err := c.turn(ctx)
			if err != nil {
				return medians{}, fmt.Errorf("%s, round %d: %w", c.name, rounds+1, err)
			}
			if rounds >= 0 {
				costs[c.name] = append(costs[c.name], cost)
			}
		}
		rounds++
	}
	m := medians{rounds: rounds, of: map[string]time.Duration{}}
	for name, list := range costs {
		m.of[name] = median(list)
	}
	return m, nil
}

// turn is the job once, with what belongs around it.
func (c contender) turn(ctx context.Context) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if c.reset != nil {
		if err := c.reset(ctx); err != nil {
			return 0, fmt.Errorf("reset: %w", err)
		}
	}
	cost, err := c.run(ctx)
	if err != nil {
		return 0, err
	}
	if cost <= 0 {
		return 0, errors.New("it took no time")
	}
	if c.check != nil {
		if err := c.check(ctx); err != nil {
			return 0, fmt.Errorf("the job was not done: %w", err)
		}
	}
	return cost, nil
}

// median returns the middle of list, or the mean of the two in the middle. Of
// nothing it is zero.
func median(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
