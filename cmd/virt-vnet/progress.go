// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// showProgress shows on w, one line long, what a run is doing and for how long
// it has. The line is gone after done.
func showProgress(w io.Writer, guests int) (step func(string), done func()) {
	bar := progressbar.NewOptions(-1,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetElapsedTime(true),
		progressbar.OptionSpinnerType(14),
		progressbar.OptionThrottle(50*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
	many := fmt.Sprintf("%d guests", guests)
	if guests == 1 {
		many = "1 guest"
	}
	n := 0
	step = func(what string) {
		n++
		bar.Describe(fmt.Sprintf("%s, step %d: %s", many, n, what))
	}
	return step, func() { _ = bar.Finish() }
}
