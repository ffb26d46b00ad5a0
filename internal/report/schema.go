// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Schema returns the JSON Schema (draft 2020-12) of what [JSON] writes. A field
// that the schema does not know is no error: new ones come without a new
// version.
func Schema() ([]byte, error) {
	schema, err := jsonschema.ForType(reflect.TypeFor[document](), &jsonschema.ForOptions{TypeSchemas: scalars()})
	if err != nil {
		return nil, err
	}
	schema.Schema = "https://json-schema.org/draft/2020-12/schema"
	schema.Title = fmt.Sprintf("virt-vnet report, version %d", verify.ReportVersion)
	if err := describe(schema, ""); err != nil {
		return nil, err
	}
	var version any = verify.ReportVersion
	schema.Properties["version"].Const = &version
	text, err := json.MarshalIndent(schema, "", "  ")
	return append(text, '\n'), err
}

// scalars says what the JSON of each type that is no object looks like.
func scalars() map[reflect.Type]*jsonschema.Schema {
	return map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[time.Time]():     {Type: "string", Format: "date-time"},
		reflect.TypeFor[time.Duration](): {Type: "integer"},
		reflect.TypeFor[vnet.MAC]():      {Type: "string", Pattern: "^([0-9a-f]{2}:){5}[0-9a-f]{2}$"},
		reflect.TypeFor[netip.Addr]():    {Type: "string", Pattern: "^[0-9a-f.:]+(%.+)?$"},
		reflect.TypeFor[vnet.Driver]():   words(vnet.Drivers()),
		reflect.TypeFor[verify.Verdict](): words([]verify.Verdict{
			verify.VerdictPass, verify.VerdictInconclusive, verify.VerdictFail, verify.VerdictLeak,
		}),
		reflect.TypeFor[verify.Status](): words([]verify.Status{
			verify.StatusPass, verify.StatusFail, verify.StatusLeak, verify.StatusNotReached, verify.StatusSkip, verify.StatusInconclusive,
		}),
		reflect.TypeFor[verify.RungName]():    words(verify.Rungs()),
		reflect.TypeFor[verify.Expectation](): words([]verify.Expectation{verify.ExpectReach, verify.ExpectIsolation}),
		reflect.TypeFor[history.State](): words([]history.State{
			history.StateNew, history.StateStill, history.StateFlapping, history.StateFixed, history.StateGone,
		}),
	}
}

func words[T ~string](list []T) *jsonschema.Schema {
	schema := &jsonschema.Schema{Type: "string"}
	for _, w := range list {
		schema.Enum = append(schema.Enum, string(w))
	}
	return schema
}

// describe gives each property its meaning, and says what Go's types do not: no
// list and no object is ever null, for they are left out instead, and there may
// be more fields.
func describe(schema *jsonschema.Schema, parent string) error {
	schema.Types = slices.DeleteFunc(schema.Types, func(t string) bool { return t == "null" })
	if len(schema.Types) == 1 {
		schema.Type, schema.Types = schema.Types[0], nil
	}
	schema.AdditionalProperties = nil
	if schema.Items != nil {
		if err := describe(schema.Items, parent); err != nil {
			return err
		}
	}
	for name, p := range schema.Properties {
		meanings := meanings()
		p.Description = cmp.Or(meanings[parent+"."+name], meanings[name])
		if p.Description == "" {
			return fmt.Errorf("nothing says what the report's %s.%s means: add it to the meanings in internal/report/meanings.go", parent, name)
		}
		if err := describe(p, name); err != nil {
			return err
		}
	}
	return nil
}
