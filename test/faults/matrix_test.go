// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package faults

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/golden"
	"github.com/virt-vnet/virt-vnet/verify"
)

// row is what became of one fault.
type row struct {
	fault
	// named are the codes that verify named, and blamed whom.
	named, blamed []string
}

func newRow(f fault, r verify.Report) row {
	out := row{fault: f}
	for _, p := range r.Problems {
		out.named = append(out.named, p.Code)
		out.blamed = append(out.blamed, names(p.Affects)...)
	}
	slices.Sort(out.named)
	slices.Sort(out.blamed)
	out.blamed = slices.Compact(out.blamed)
	return out
}

// checkMatrix holds the documentation to what was found, and prints the matrix.
func checkMatrix(t *testing.T, rows []row, healthy int) {
	t.Helper()
	matrix := confusion(rows)
	t.Logf("rows: the cause, columns: what verify named:\n%s", matrix)
	golden.Check(t, "../../docs/fault-matrix.md", document(rows, matrix, healthy))
}

// confusion is the matrix of true causes and named codes, both in the order of
// the ladder. Everything off the diagonal is a wrong diagnosis.
func confusion(rows []row) string {
	count := map[[2]string]int{}
	present := map[string]bool{}
	for _, r := range rows {
		present[r.code] = true
		for _, code := range r.named {
			present[code] = true
			count[[2]string{r.code, code}]++
		}
	}
	var codes []string
	for _, c := range verify.Codes() {
		if present[c.Code] {
			codes = append(codes, c.Code)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-22s", "")
	for i := range codes {
		fmt.Fprintf(&b, "%3d", i+1)
	}
	b.WriteString("\n")
	for i, cause := range codes {
		fmt.Fprintf(&b, "%2d %-19s", i+1, cause)
		for _, code := range codes {
			cell := "."
			if n := count[[2]string{cause, code}]; n > 0 {
				cell = fmt.Sprint(n)
			}
			fmt.Fprintf(&b, "%3s", cell)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// document is docs/fault-matrix.md.
func document(rows []row, matrix string, healthy int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Faults, and what verify says of them

The test in `+"`test/faults`"+` puts %d faults, one at a time, into a host with real guests, runs `+"`virt-vnet verify`"+`
as a user would, and heals them. This page is what it found; the test fails when that changes.

## Confusion matrix

Rows are what was broken, columns what was named, both in the order of [the ladder](checks.md); numbers are faults.
A number off the diagonal is a wrong diagnosis.

`+"```text\n%s```"+`

%d healthy runs under load, %d at a time: no failure.

## Every fault

| injected | named | blamed | healed by the printed fix |
|---|---|---|---|
`, len(rows), matrix, healthy, atOnce)
	for _, r := range rows {
		by := ""
		if r.fixes {
			by = "yes"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", r.name, strings.Join(r.named, "`, `"), strings.Join(r.blamed, ", "), by)
	}
	return b.String()
}
