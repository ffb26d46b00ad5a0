// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/verify"
)

const (
	// mostNights is how many runs are shown in a row.
	mostNights = 60
	// mostTrends is how many NICs get a line, those furthest from their usual
	// first.
	mostTrends = 100
	// usualBand is how many deviations still count as usual.
	usualBand = 3
)

// The size of a sparkline, and the room around its line.
const (
	sparkWidth, sparkHeight = 180.0, 36.0
	sparkMargin             = 4.0
)

// trends is the present run among those before.
type trends struct {
	// Nights are the runs, the oldest first; the last is the present one.
	Nights []night
	Lines  []trendLine
	More   int
}

type night struct {
	history.Run

	Present bool
	Says    string
}

// trendLine is one NIC's latency over the nights.
type trendLine struct {
	history.Trend

	Now   time.Duration
	Spark spark
	// Unusual says how far from usual the last value is, or is empty.
	Unusual string
	far     float64
}

// spark is a sparkline, in the units of its SVG.
type spark struct {
	// Line is the path of the values; a missing one interrupts it.
	Line string
	// Top and Height are of the band of usual values.
	Top, Height float64
	// Bad are the places of runs in which the NIC did not pass.
	Bad []float64
	// X and Y are the last value's place, when HasLast.
	X, Y    float64
	HasLast bool
	Says    string
}

func newTrends(r Result) trends {
	var t trends
	runs := slices.Clone(r.Past.Runs[:min(len(r.Past.Runs), mostNights)])
	slices.Reverse(runs)
	for _, run := range runs {
		t.Nights = append(t.Nights, night{Run: run, Says: fmt.Sprintf("run %d, %s: %s, %s, %s",
			run.ID, stamp(run.Started), run.Verdict, count(run.NICs, "NIC"), count(run.Problems, "problem"))})
	}
	now := history.Run{Started: r.Started, Duration: r.Duration, Verdict: r.Verdict(), NICs: len(r.NICs), Problems: len(r.Problems)}
	t.Nights = append(t.Nights, night{Run: now, Present: true, Says: fmt.Sprintf("this run: %s", now.Verdict)})
	for _, trend := range r.Past.Trends {
		t.Lines = append(t.Lines, newTrendLine(trend))
	}
	slices.SortStableFunc(t.Lines, func(a, b trendLine) int { return -cmp.Compare(a.far, b.far) })
	t.More = max(0, len(t.Lines)-mostTrends)
	t.Lines = t.Lines[:len(t.Lines)-t.More]
	return t
}

func newTrendLine(t history.Trend) trendLine {
	line := trendLine{Trend: t, Spark: newSpark(t)}
	if n := len(t.Samples); n > 0 {
		line.Now = t.Samples[n-1].Median
	}
	if line.Now == 0 || t.Median == 0 {
		return line
	}
	away := line.Now - t.Median
	line.far = max(float64(away), float64(-away)) / float64(max(t.MAD, 1))
	switch {
	case away > usualBand*t.MAD:
		line.Unusual = fmt.Sprintf("%.1f times the usual", float64(line.Now)/float64(t.Median))
	case -away > usualBand*t.MAD:
		line.Unusual = "faster than usual"
	}
	return line
}

func newSpark(t history.Trend) spark {
	low, high := t.Median-usualBand*t.MAD, t.Median+usualBand*t.MAD
	for _, s := range t.Samples {
		if s.Median > 0 {
			low, high = min(low, s.Median), max(high, s.Median)
		}
	}
	low = max(low, 0)
	y := func(d time.Duration) float64 {
		if high == low {
			return sparkHeight / 2
		}
		part := float64(d-low) / float64(high-low)
		return sparkHeight - sparkMargin - part*(sparkHeight-2*sparkMargin)
	}
	x := func(i int) float64 {
		if len(t.Samples) < 2 {
			return sparkWidth - sparkMargin
		}
		return sparkMargin + float64(i)*(sparkWidth-2*sparkMargin)/float64(len(t.Samples)-1)
	}
	var sp spark
	if t.Median > 0 {
		sp.Top = y(min(high, t.Median+usualBand*t.MAD))
		sp.Height = max(1, y(max(low, t.Median-usualBand*t.MAD))-sp.Top)
	}
	var path strings.Builder
	letter := "M"
	for i, s := range t.Samples {
		if s.Status != verify.StatusPass {
			sp.Bad = append(sp.Bad, x(i))
		}
		if s.Median == 0 {
			letter = "M"
			continue
		}
		fmt.Fprintf(&path, "%s%.1f %.1f", letter, x(i), y(s.Median))
		letter = "L"
		if i == len(t.Samples)-1 {
			sp.X, sp.Y, sp.HasLast = x(i), y(s.Median), true
		}
	}
	sp.Line = path.String()
	sp.Says = fmt.Sprintf("%s over %s, between %s and %s", t.Endpoint, count(len(t.Samples), "run"), took(low), took(high))
	return sp
}
