// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/virt-vnet/virt-vnet/internal/golden"
	"github.com/virt-vnet/virt-vnet/internal/report"
)

// TestSchema holds what JSON writes against the schema, and the schema against
// what is none of ours.
func TestSchema(t *testing.T) {
	data, err := report.Schema()
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "../../docs/report.schema.json", string(data))
	var schema jsonschema.Schema
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	validate := func(text string) error {
		var document any
		if err := json.Unmarshal([]byte(text), &document); err != nil {
			t.Fatal(err)
		}
		return resolved.Validate(document)
	}
	for name, r := range map[string]report.Result{
		"night": night(), "healthy": {Report: healthy()}, "crowded": {Report: crowded()}, "unsure": {Report: unsure()}, "evil": evil(),
	} {
		if err := validate(text(t, "json", r, report.Style{})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := text(t, "json", night(), report.Style{})
	for _, change := range [][2]string{
		{`"version": 1`, `"version": 2`},
		{`"verdict": "leak"`, `"verdict": "good"`},
		{`"status": "not-reached"`, `"status": "unreached"`},
		{`"52:54:00:00:77:31"`, `"52-54-00-00-77-31"`},
		{`"10.0.20.11"`, `"localhost"`},
		{`"durationNanoseconds": 712000000`, `"durationNanoseconds": "0.7s"`},
		{`"name": "vlan"`, `"name": "vlans"`},
		{`"driver": "ovs"`, `"driver": "vpp"`},
		{`"expect": "isolation"`, `"expect": "apart"`},
		{`"state": "flapping"`, `"state": "flaky"`},
		{`"guest": "web2",`, ``},
		{`"subject": `, `"about": `},
	} {
		bad := strings.ReplaceAll(good, change[0], change[1])
		if bad == good {
			t.Fatalf("there is no %s in the report", change[0])
		}
		if validate(bad) == nil {
			t.Errorf("the schema takes %s in the place of %s", change[1], change[0])
		}
	}
	if err := validate(strings.Replace(good, `"version": 1`, `"version": 1, "later": [null]`, 1)); err != nil {
		t.Errorf("the schema does not take a field that is new: %v", err)
	}
}
