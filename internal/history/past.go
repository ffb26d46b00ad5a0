// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"time"

	"github.com/virt-vnet/virt-vnet/verify"
)

// State is how a problem compares with the runs before.
type State string

// The states.
const (
	// StateNew is a problem that the last night did not have.
	StateNew State = "new"
	// StateStill is one that it had, too.
	StateStill State = "still"
	// StateFixed is one that it had and that is gone now.
	StateFixed State = "fixed"
	// StateFlapping is one that comes and goes.
	StateFlapping State = "flapping"
	// StateGone is a problem of a guest that is known to be no longer there to
	// have it.
	StateGone State = "gone"
)

// Change is a problem, of this run or the one before, and its state.
type Change struct {
	State   State          `json:"state"`
	Problem verify.Problem `json:"problem"`
	// Since is when it was first seen in the present row of nights, or when a
	// flapping one began to come and go.
	Since time.Time `json:"since"`
	// Fresh is whether the state is another than after the night before, as it
	// always is for new, fixed and gone, or the problem is waived no longer.
	Fresh bool `json:"fresh,omitempty"`
}

// Sample is what one run measured of a NIC.
type Sample struct {
	Time   time.Time     `json:"time"`
	Status verify.Status `json:"status"`
	// Median is the median latency, or zero when there was none.
	Median time.Duration `json:"medianNanoseconds,omitempty"`
}

// Trend is a NIC over the nights, the oldest sample first.
type Trend struct {
	verify.Endpoint

	Samples []Sample `json:"samples"`
	// Median and MAD are of the samples' medians, without the last sample: what
	// is usual, and by how much it usually differs (median absolute deviation).
	Median time.Duration `json:"usualNanoseconds,omitempty"`
	MAD    time.Duration `json:"deviationNanoseconds,omitempty"`
}

// Run is a run of the past.
type Run struct {
	ID       int64          `json:"id"`
	Started  time.Time      `json:"started"`
	Duration time.Duration  `json:"durationNanoseconds"`
	Verdict  verify.Verdict `json:"verdict"`
	// Nightly is whether it was a nightly run, which others are compared with.
	Nightly bool `json:"nightly,omitempty"`
	// Guests and Networks are what it was narrowed to; empty means the whole
	// site.
	Guests   []string `json:"guests,omitempty"`
	Networks []string `json:"networks,omitempty"`
	// Here means that the guests of other hosts were left out.
	Here     bool `json:"here,omitempty"`
	NICs     int  `json:"nics"`
	Problems int  `json:"problems"`
}

// Narrowed reports whether the run looked at a part of the site only.
func (r Run) Narrowed() bool { return r.Here || len(r.Guests)+len(r.Networks) > 0 }

// Past is what history knows beyond a report.
type Past struct {
	// Changes are the problems of the run, and those that went.
	Changes []Change `json:"changes,omitempty"`
	Trends  []Trend  `json:"trends,omitempty"`
	// Runs are the nightly runs before, the newest first, at most 14.
	Runs []Run `json:"runs,omitempty"`
}
