// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"fmt"
	"slices"
	"time"

	"github.com/kballard/go-shellquote"

	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// When a NIC is slow: see the package's documentation.
const (
	trendNights = 14
	slowSamples = 5
	slowMADs    = 5
	slowPercent = 150
	slowFloor   = time.Millisecond
)

// slowField tells a note of ours from a latency that the spec forbids.
const slowField = "latency of the nights"

// IsNote reports whether p is a note of [Store.Remember]: that a NIC is slower
// than in the nights before.
func IsNote(p verify.Problem) bool { return p.Code == verify.CodeSlow && p.Field == slowField }

// trends puts this run's samples behind those of the nights before.
func trends(report verify.Report, before map[endpoint][]Sample) []Trend {
	list := make([]Trend, 0, len(report.NICs))
	for _, n := range report.NICs {
		t := Trend{Endpoint: n.Endpoint}
		t.Samples = append(t.Samples, before[endpointOf(n.Endpoint)]...)
		t.Median, t.MAD = usual(t.Samples)
		t.Samples = append(t.Samples, sampleOf(report.Started, n))
		list = append(list, t)
	}
	return list
}

func sampleOf(started time.Time, n verify.NICResult) Sample {
	s := Sample{Time: started, Status: n.Status}
	if n.Latency != nil && n.Latency.Received > 0 {
		s.Median = n.Latency.Median
	}
	return s
}

// usual is the median of what was measured, and the median absolute deviation
// from it.
func usual(samples []Sample) (middle, deviation time.Duration) {
	values := measured(samples)
	middle = median(values)
	for i, v := range values {
		values[i] = (v - middle).Abs()
	}
	return middle, median(values)
}

func measured(samples []Sample) []time.Duration {
	var values []time.Duration
	for _, s := range samples {
		if s.Median > 0 {
			values = append(values, s.Median)
		}
	}
	return values
}

// median is zero when there are no values. It sorts them.
func median(values []time.Duration) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	half := len(values) / 2
	if len(values)%2 == 1 {
		return values[half]
	}
	return (values[half-1] + values[half]) / 2
}

// slow reports whether the last sample is slower than the ones before let
// expect.
func (t Trend) slow() bool {
	last := len(t.Samples) - 1
	now := t.Samples[last].Median
	return len(measured(t.Samples[:last])) >= slowSamples &&
		now > t.Median+slowMADs*t.MAD && 100*now >= slowPercent*t.Median && now-t.Median >= slowFloor
}

// slowNotes are the problems of NICs that are slower than usual and of which
// the report does not say so already.
func slowNotes(report verify.Report, trends []Trend) []verify.Problem {
	var notes []verify.Problem
	for _, t := range trends {
		said := func(p verify.Problem) bool {
			return p.Code == verify.CodeSlow && slices.ContainsFunc(p.Affects, func(e verify.Endpoint) bool {
				return endpointOf(e) == endpointOf(t.Endpoint)
			})
		}
		if t.slow() && !slices.ContainsFunc(report.Problems, said) {
			notes = append(notes, slowNote(t))
		}
	}
	return notes
}

func slowNote(t Trend) verify.Problem {
	last := len(t.Samples) - 1
	name := t.Device
	if name == "" {
		name = t.MAC.String()
	}
	nights := len(measured(t.Samples[:last]))
	return verify.Problem{
		Problem: vnet.Problem{
			Code: verify.CodeSlow, Subject: fmt.Sprintf("guest %s, NIC %s", t.Guest, name), Field: slowField,
			Want: fmt.Sprintf("about %s, as in %d nights before", brief(t.Median), nights),
			Got:  "median " + brief(t.Samples[last].Median),
			Evidence: []string{fmt.Sprintf("nights before: median %s, median absolute deviation %s",
				brief(t.Median), brief(t.MAD))},
			Fix: "virsh domstats --vcpu --interface " + shellquote.Join(t.Guest) + "; uptime",
		},
		Network: t.Network, Affects: []verify.Endpoint{t.Endpoint},
	}
}

// brief is a duration in milliseconds.
func brief(d time.Duration) string { return fmt.Sprintf("%.3g ms", d.Seconds()*1000) }
