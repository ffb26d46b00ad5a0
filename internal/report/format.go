// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"fmt"
	"io"
	"strings"
)

// Form is a form that a report is written in.
type Form struct {
	Name string
	// For is who it is for, for the documentation.
	For   string
	write func(io.Writer, Result, Style) error
}

// Forms returns the forms that [Write] knows; the first is the one for people.
func Forms() []Form {
	plain := func(write func(io.Writer, Result) error) func(io.Writer, Result, Style) error {
		return func(w io.Writer, r Result, _ Style) error { return write(w, r) }
	}
	return []Form{
		{"table", "people: what is broken first, grouped by cause, then what has changed, what is expected, and a line for each network", Table},
		{"json", "programs: everything, as the tables below and [report.schema.json](report.schema.json) say; `virt-vnet schema --report` prints that", plain(JSON)},
		{"junit", "CI systems", plain(JUnit)},
		{"prometheus", "the textfile collector of node_exporter", plain(Prometheus)},
		{"html", "people with a browser: one page that needs no network and no other file, with the topology drawn", plain(HTML)},
		{"nagios", "Nagios, Icinga and their like", plain(Nagios)},
	}
}

// Formats returns the names of the forms.
func Formats() []string {
	var names []string
	for _, f := range Forms() {
		names = append(names, f.Name)
	}
	return names
}

// Write writes r in the named form. The style is for the form that people read,
// the others do without.
func Write(name string, w io.Writer, r Result, style Style) error {
	for _, f := range Forms() {
		if f.Name == name {
			return f.write(w, r, style)
		}
	}
	return fmt.Errorf("there is no form %q: want one of %s", name, strings.Join(Formats(), ", "))
}
