// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package config_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v3"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/golden"
)

func TestSchemaFileIsCurrent(t *testing.T) {
	got, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "../../docs/spec.schema.json", string(got))
}

func TestSchemaAgreesWithParse(t *testing.T) {
	data, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{
		"networks: {red: {switch: br0, vlna: 20}}":           false,
		"networks: {red: {switch: br0, vlan: 4095}}":         false,
		"networks: {red: {mode: bridged}}":                   false,
		"switches: {br0: {driver: cisco}}":                   false,
		"guests: {g: {nics: [{network: r, mac: nonsense}]}}": false,
		"switches: {br0: {driver: linux}}\nnetworks: {r: {switch: br0, portgroups: {a: {vlan: 2, default: true}}}}": true,
		full: true,
	}
	for text, ok := range tests {
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			t.Fatal(err)
		}
		_, parseErr := config.Parse("spec.yaml", []byte(text))
		if (parseErr == nil) != ok {
			t.Errorf("%s: Parse says %v", strings.TrimSpace(text), parseErr)
		}
		if err := resolved.Validate(value); (err == nil) != ok {
			t.Errorf("%s: the schema says %v", strings.TrimSpace(text), err)
		}
	}
}
