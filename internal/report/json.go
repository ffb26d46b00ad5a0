// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/virt-vnet/virt-vnet/verify"
)

// document is the JSON form.
type document struct {
	Verdict verify.Verdict `json:"verdict"`
	Result
}

// JSON writes the report as one JSON object: the fields of [Result], and the
// verdict. The field version is [verify.ReportVersion], and [Schema] says what
// is in the others. No more than one NIC or pair, of which there may be hundreds
// of thousands, is in memory as text.
func JSON(w io.Writer, r Result) error {
	out := bufio.NewWriter(w)
	if err := errors.Join(writeDocument(out, r), out.Flush()); err != nil {
		return fmt.Errorf("write JSON report: %w", err)
	}
	return nil
}

// writeDocument leaves it to Flush to say what went wrong with w.
func writeDocument(w *bufio.Writer, r Result) error {
	rest := document{r.Verdict(), r}
	rest.NICs, rest.Pairs = nil, nil
	var text bytes.Buffer
	if err := newEncoder(&text, "").Encode(rest); err != nil {
		return err
	}
	// This is a field of the outermost object: within text no line ends.
	before, after, _ := strings.Cut(text.String(), "\n  \"nics\": null")
	fmt.Fprint(w, before)
	err := writeList(w, "nics", r.NICs)
	if len(r.Pairs) > 0 {
		fmt.Fprint(w, ",")
		err = errors.Join(err, writeList(w, "pairs", r.Pairs))
	}
	fmt.Fprint(w, after)
	return err
}

// writeList writes a field of the outermost object, an element at a time.
func writeList[T any](w *bufio.Writer, name string, list []T) error {
	var text bytes.Buffer
	encoder := newEncoder(&text, "    ")
	separator, end := "\n    ", "]"
	fmt.Fprintf(w, "\n  %q: [", name)
	for _, element := range list {
		text.Reset()
		if err := encoder.Encode(element); err != nil {
			return err
		}
		fmt.Fprintf(w, "%s%s", separator, bytes.TrimSpace(text.Bytes()))
		separator, end = ",\n    ", "\n  ]"
	}
	fmt.Fprint(w, end)
	return nil
}

// newEncoder makes what writes JSON in lines, with prefix before each but the
// first.
func newEncoder(w io.Writer, prefix string) *json.Encoder {
	encoder := json.NewEncoder(w)
	encoder.SetIndent(prefix, "  ")
	// Fixes are shell commands, with & and > in them.
	encoder.SetEscapeHTML(false)
	return encoder
}
