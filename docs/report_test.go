// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package docs_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/virt-vnet/virt-vnet/internal/golden"
	"github.com/virt-vnet/virt-vnet/internal/report"
)

const reportIntro = `# The report of verify

` + "`verify -o FORM`" + ` writes the report to standard output, or to ` + "`--output-file FILE`" + `; ` + "`--write FORM=FILE`" + ` writes it to a
file as well, any number of times. So one run in the night can leave everything:

    virt-vnet verify --write json=/var/lib/virt-vnet/report.json \
        --write junit=/var/lib/virt-vnet/report.xml \
        --write prometheus=/var/lib/prometheus/node-exporter/virt_vnet.prom

A file is replaced as a whole when the run has come to its end, with mode 0644; readers never see half of one, and a run
that could not be done leaves the last report in place. A pipe, a device or a link is written as it is. Whether a file can
be written is found out before the run begins.

| form | for |
|---|---|
`

const reportForms = `
## JUnit

A suite for the run, one for each network, one for the expectations of the spec, and one for what no other case tells of.
Cases are named alike in every run:
` + "`web1: vlan`" + ` for a NIC and a rung (with the MAC address when the guest has two NICs in the network), ` + "`pairs: kept apart from blue`" + `
for the pairs between two networks, and an expectation by its own words.

| what verify says | JUnit |
|---|---|
| pass | the case has no child |
| fail, leak | ` + "`failure`" + `: the type is the code, the message what was found and wanted, the text evidence and repair |
| inconclusive, and what limited the run | ` + "`error`" + ` of type ` + "`inconclusive`" + `: what could not be told must not look like a pass |
| skipped, not reached, waived | ` + "`skipped`" + `, with the reason |

## Nagios

One line, ` + "`VIRT-VNET STATE - text | performance data`" + `, and the exit codes of the Monitoring Plugins Development Guidelines; see
[exit-codes.md](exit-codes.md). A problem that is waived changes no state: it is counted in the text.

## Prometheus

All metrics are gauges. When a run could not be done, the file stays as it is: alert on the age of
` + "`virt_vnet_verify_last_run_timestamp_seconds`" + ` too.

| metric | labels | meaning |
|---|---|---|
`

func TestReportPage(t *testing.T) {
	data, err := report.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(reportIntro)
	for _, f := range report.Forms() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f.Name, f.For)
	}
	b.WriteString(reportForms)
	for _, m := range report.Metrics() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m.Name, code(m.Labels), m.Help)
	}
	b.WriteString("\n## JSON\n\nTimes are as in RFC 3339, durations are whole nanoseconds. A field that is empty, zero or false may be missing.\n" +
		"Readers should pass over fields that they do not know: new ones come without a new `version`.\n")
	section(&b, "The report", &schema)
	of := func(s *jsonschema.Schema, path ...string) *jsonschema.Schema {
		for _, name := range path {
			if s = s.Properties[name]; s.Items != nil {
				s = s.Items
			}
		}
		return s
	}
	for _, at := range []string{
		"nics", "nics.latency", "nics.rungs", "pairs", "pairs.from", "checks", "switches", "problems", "problems.waived",
		"past", "past.changes", "past.trends", "past.trends.samples", "past.runs",
	} {
		title := "`" + at + "`"
		if at == "pairs.from" {
			title += ", also `pairs.to` and `problems.affects`"
		}
		section(&b, title, of(&schema, strings.Split(at, ".")...))
	}
	golden.Check(t, "report.md", b.String())
}
