// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// showProgress shows on w, one line long, what a run is doing and for how long
// it has. The line is gone after done.
func showProgress(w io.Writer) (step func(string), done func()) {
	bar := progressbar.NewOptions(-1,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetElapsedTime(true),
		progressbar.OptionSpinnerType(14),
		progressbar.OptionThrottle(50*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
	step = func(what string) {
		text := []rune(what)
		// A line that wraps would not go away: leave room for the time.
		bar.Describe(string(text[:min(len(text), max(0, width(w)-14))]))
	}
	return step, func() { _ = bar.Finish() }
}
