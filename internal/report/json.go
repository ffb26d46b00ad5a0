// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/virt-vnet/virt-vnet/verify"
)

// JSON writes the report as one JSON object: the fields of [verify.Report], and
// its verdict. The field version is [verify.ReportVersion].
func JSON(w io.Writer, r verify.Report) error {
	document := struct {
		Verdict verify.Verdict `json:"verdict"`
		verify.Report
	}{r.Verdict(), r}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	// Fixes are shell commands, with & and > in them.
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(document); err != nil {
		return fmt.Errorf("write JSON report: %w", err)
	}
	return nil
}
