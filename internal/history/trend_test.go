// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/verify"
)

func TestSlow(t *testing.T) {
	const ms = time.Millisecond
	steady := []time.Duration{1000, 1010, 990, 1005, 995, 1000} // microseconds
	for name, tt := range map[string]struct {
		before []time.Duration // microseconds
		now    time.Duration
		want   bool
	}{
		"as usual":                    {steady, 1 * ms, false},
		"above all deviation, by 30%": {steady, 1300 * time.Microsecond, false},
		"twice as slow":               {steady, 2 * ms, true},
		"many times next to nothing, below the floor": {[]time.Duration{50, 50, 51, 49, 50}, 900 * time.Microsecond, false},
		"restless before":        {[]time.Duration{500, 3000, 900, 2500, 1500, 700}, 2900 * time.Microsecond, false},
		"too few nights to tell": {steady[:4], 20 * ms, false},
		"no answer tonight":      {steady, 0, false},
		"no answer some nights":  {append([]time.Duration{0, 0}, steady...), 2 * ms, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t, t.TempDir())
			night := func(i int, median time.Duration) verify.Report {
				r := report(i, map[verify.Endpoint]rune{web1: '-', web2: '-'})
				r.NICs[0].Latency = &verify.Latency{Sent: 5, Received: 5, Median: median}
				if median == 0 {
					r.NICs[0].Latency.Received = 0
				}
				return r
			}
			for i, median := range tt.before {
				remember(t, s, night(i, median*time.Microsecond), nightly)
			}
			tonight := len(tt.before)
			r := night(tonight, tt.now)
			past, err := s.Remember(t.Context(), &r, nightly)
			if err != nil {
				t.Fatal(err)
			}
			want := ""
			if tt.want {
				want = fmt.Sprintf("new SLOW %d*", tonight)
			}
			if got := lines(past.Changes); got != want {
				t.Errorf("%q, want %q: %+v", got, want, past.Trends[0])
			}
			if got := slices.ContainsFunc(r.Problems, IsNote); got != tt.want {
				t.Errorf("in the report: %t, want %t", got, tt.want)
			}
			if v := r.Verdict(); v != verify.VerdictPass {
				t.Errorf("a note made the verdict %s", v)
			}
			if n := len(past.Trends[0].Samples); n != min(tonight, trendNights)+1 {
				t.Errorf("%d samples", n)
			}
			if !tt.want {
				return
			}
			// Without an answer nobody knows; with a quick one it is over.
			if got := lines(remember(t, s, night(tonight+1, 0), nightly).Changes); got != "" {
				t.Errorf("without an answer: %q", got)
			}
			want = fmt.Sprintf("fixed SLOW %d*", tonight)
			if got := lines(remember(t, s, night(tonight+2, 1*ms), nightly).Changes); got != want {
				t.Errorf("quick again: %q, want %q", got, want)
			}
		})
	}
}

func TestMedian(t *testing.T) {
	middle, deviation := usual([]Sample{{Median: 3}, {Median: 1}, {}, {Median: 100}, {Median: 5}})
	if middle != 4 || deviation != 2 {
		t.Errorf("median %d, MAD %d, want 4 and 2", middle, deviation)
	}
}
