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
	return func(what string) { bar.Describe(what) }, func() { _ = bar.Finish() }
}
