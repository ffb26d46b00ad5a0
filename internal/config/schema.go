// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package config

import (
	"encoding/json"
	"net/netip"
	"reflect"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Schema returns the JSON Schema (draft 2020-12) of the spec, which editors use
// to complete and check YAML.
func Schema() ([]byte, error) {
	schema, err := jsonschema.ForType(reflect.TypeFor[rawSpec](), &jsonschema.ForOptions{TypeSchemas: scalarSchemas()})
	if err != nil {
		return nil, err
	}
	schema.Schema = "https://json-schema.org/draft/2020-12/schema"
	schema.Title = "virt-vnet spec"
	text, err := json.MarshalIndent(schema, "", "  ")
	return append(text, '\n'), err
}

// scalarSchemas says what the YAML of each scalar looks like.
func scalarSchemas() map[reflect.Type]*jsonschema.Schema {
	text := func() *jsonschema.Schema { return &jsonschema.Schema{Type: "string"} }
	id := &jsonschema.Schema{Type: "integer", Minimum: bound(1), Maximum: bound(float64(vnet.MaxVLANID))}
	list := &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
		id,
		{Type: "string", Pattern: `^(all|[0-9]+(-[0-9]+)?(,\s*[0-9]+(-[0-9]+)?)*)$`},
		{Type: "array", Items: &jsonschema.Schema{Types: []string{"integer", "string"}}},
	}}
	return map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[scalar[bool]]():               {Type: "boolean"},
		reflect.TypeFor[scalar[int]]():                {Type: "integer"},
		reflect.TypeFor[scalar[vnet.VLANID]]():        id,
		reflect.TypeFor[scalar[vnet.VLANRanges]]():    list,
		reflect.TypeFor[scalar[vnet.MAC]]():           {Type: "string", Pattern: "^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$"},
		reflect.TypeFor[scalar[netip.Prefix]]():       text(),
		reflect.TypeFor[scalar[netip.Addr]]():         text(),
		reflect.TypeFor[scalar[collector]]():          {Type: "string", Pattern: `^.+:[0-9]{1,5}$`},
		reflect.TypeFor[scalar[defaultPVID]]():        {Type: "integer", Minimum: bound(0), Maximum: bound(float64(vnet.MaxVLANID))},
		reflect.TypeFor[scalar[vnet.BitRate]]():       {Type: "string", Pattern: `^[0-9.]+ ?([kmg]?bit)$`},
		reflect.TypeFor[scalar[vnet.ByteSize]]():      {Type: "string", Pattern: `^[0-9.]+ ?([kmg]?b)$`},
		reflect.TypeFor[scalar[service]]():            {Type: "string", Pattern: ":[0-9]{1,5}$"},
		reflect.TypeFor[scalar[socket]]():             {Type: "string", Pattern: ":[0-9]{1,5}$"},
		reflect.TypeFor[scalar[vnet.Backend]]():       {Type: "string", Pattern: ":[0-9]{1,5}$"},
		reflect.TypeFor[scalar[below]]():              {Type: "string", Pattern: "^< ?[0-9.]+(ns|us|µs|ms|s|m)"},
		reflect.TypeFor[scalar[share]]():              {Type: "string", Pattern: "^< ?[0-9.]+%$"},
		reflect.TypeFor[scalar[day]]():                {Type: "string", Pattern: "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
		reflect.TypeFor[scalar[vnet.Endpoints]]():     {Type: "string", Pattern: "^(unix:/|(tcp|ssl):.+:[0-9]{1,5})"},
		reflect.TypeFor[scalar[vnet.Allow]]():         {Types: []string{"string", "array"}, Items: text()},
		reflect.TypeFor[scalar[prefix]]():             text(),
		reflect.TypeFor[scalar[vnet.Peer]]():          text(),
		reflect.TypeFor[scalar[vnet.PortRanges]]():    {Types: []string{"integer", "string", "array"}, Items: &jsonschema.Schema{Types: []string{"integer", "string"}}},
		reflect.TypeFor[scalar[vnet.Encap]]():         oneOf(vnet.Encaps()),
		reflect.TypeFor[scalar[vnet.Direction]]():     oneOf(vnet.Directions()),
		reflect.TypeFor[scalar[vnet.Action]]():        oneOf(vnet.Actions()),
		reflect.TypeFor[scalar[vnet.Protocol]]():      oneOf(vnet.Protocols()),
		reflect.TypeFor[scalar[vnet.BondMode]]():      oneOf(vnet.BondModes()),
		reflect.TypeFor[scalar[vnet.LACP]]():          oneOf(vnet.LACPs()),
		reflect.TypeFor[scalar[lacpTime]]():           oneOf([]string{"slow", "fast"}),
		reflect.TypeFor[scalar[vnet.Profile]]():       oneOf(vnet.Profiles()),
		reflect.TypeFor[scalar[vnet.Mode]]():          oneOf(vnet.Modes()),
		reflect.TypeFor[scalar[vnet.MacvtapMode]]():   oneOf(vnet.MacvtapModes()),
		reflect.TypeFor[scalar[vnet.Driver]]():        oneOf(vnet.Drivers()),
		reflect.TypeFor[scalar[vnet.Model]]():         oneOf(vnet.Models()),
		reflect.TypeFor[scalar[vnet.FailurePolicy]](): oneOf(vnet.FailurePolicies()),
	}
}

func bound(n float64) *float64 { return &n }

func oneOf(words []string) *jsonschema.Schema {
	schema := &jsonschema.Schema{Type: "string"}
	for _, w := range words {
		schema.Enum = append(schema.Enum, w)
	}
	return schema
}
