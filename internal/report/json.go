// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/virt-vnet/virt-vnet/verify"
)

// document is the JSON form.
type document struct {
	Verdict verify.Verdict `json:"verdict"`
	Result
}

// JSON writes the report as one JSON object: the fields of [Result], and the
// verdict. The field version is [verify.ReportVersion], and [Schema] says what
// is in the others.
func JSON(w io.Writer, r Result) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	// Fixes are shell commands, with & and > in them.
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(document{r.Verdict(), r}); err != nil {
		return fmt.Errorf("write JSON report: %w", err)
	}
	return nil
}
