// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"fmt"
	"time"
)

// budget is what a row has to keep. The zero budget is none: the ratio is then
// how many times faster we are.
type budget struct {
	most   float64       // ours / peer, at most
	faster float64       // peer / ours, at least
	asFast float64       // the same, where ours is the slower one
	within time.Duration // ours, at most
	memory float64       // ours, in megabytes, at most
}

func atMost(ratio float64) budget       { return budget{most: ratio} }
func fasterBy(ratio float64) budget     { return budget{faster: ratio} }
func asFastAs(ratio float64) budget     { return budget{asFast: ratio} }
func megabytes(most float64) budget     { return budget{memory: most} }
func within(limit time.Duration) budget { return budget{within: limit} }

// The verdicts. A row without a budget has none.
const (
	verdictOK     = "ok"
	verdictMissed = "missed"
	verdictNone   = "-"
	verdictError  = "error"
)

// String returns the budget in words.
func (b budget) String() string {
	switch {
	case b.most > 0:
		return fmt.Sprintf("<= %gx", b.most)
	case b.faster > 0:
		return fmt.Sprintf(">= %gx faster", b.faster)
	case b.asFast > 0:
		return fmt.Sprintf(">= %gx as fast", b.asFast)
	case b.within > 0:
		return "<= " + text(b.within)
	case b.memory > 0:
		return fmt.Sprintf("<= %g MB", b.memory)
	}
	return "none"
}

// judge returns the ratio in the sense of the budget, and the verdict. No work
// takes no time, so a figure that is not positive keeps no budget.
func (b budget) judge(ours, peer time.Duration) (ratio float64, verdict string) {
	if ours <= 0 || peer <= 0 {
		return 0, verdictMissed
	}
	o, p := float64(ours), float64(peer)
	switch {
	case b.most > 0:
		return o / p, verdictOf(o/p <= b.most)
	case b.faster > 0:
		return p / o, verdictOf(p/o >= b.faster)
	case b.asFast > 0:
		return p / o, verdictOf(p/o >= b.asFast)
	case b.within > 0:
		return p / o, verdictOf(ours <= b.within)
	}
	return p / o, verdictNone
}

// ratioText is a ratio of this budget in words.
func (b budget) ratioText(ratio float64) string {
	switch {
	case b.most > 0 || b.memory > 0:
		return fmt.Sprintf("%.2fx", ratio)
	case b.asFast > 0:
		return fmt.Sprintf("%.2fx as fast", ratio)
	case ratio > 0 && ratio < 1:
		return fmt.Sprintf("%.1fx slower", 1/ratio)
	}
	return fmt.Sprintf("%.1fx faster", ratio)
}

func verdictOf(kept bool) string {
	if kept {
		return verdictOK
	}
	return verdictMissed
}
