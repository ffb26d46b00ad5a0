// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"fmt"
	"io"
	"strings"
)

// format is a form that a report is written in.
type format struct {
	name  string
	write func(io.Writer, Result, Style) error
}

func formats() []format {
	plain := func(write func(io.Writer, Result) error) func(io.Writer, Result, Style) error {
		return func(w io.Writer, r Result, _ Style) error { return write(w, r) }
	}
	return []format{
		{"table", Table},
		{"json", plain(JSON)},
		{"junit", plain(JUnit)},
		{"prometheus", plain(Prometheus)},
		{"nagios", plain(Nagios)},
	}
}

// Formats returns the names of the forms that [Write] knows; the first is the
// one for people.
func Formats() []string {
	var names []string
	for _, f := range formats() {
		names = append(names, f.name)
	}
	return names
}

// Write writes r in the named form. The style is for the form that people read,
// the others do without.
func Write(name string, w io.Writer, r Result, style Style) error {
	for _, f := range formats() {
		if f.name == name {
			return f.write(w, r, style)
		}
	}
	return fmt.Errorf("there is no form %q: want one of %s", name, strings.Join(Formats(), ", "))
}
