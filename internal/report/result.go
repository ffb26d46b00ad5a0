// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/verify"
)

// Result is what is to be written: a report, and what is known of the runs
// before.
type Result struct {
	verify.Report

	// Past is nil where no history is kept.
	Past *history.Past
}
