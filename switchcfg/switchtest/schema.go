// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchtest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Schema writes the schema in file, of a database of OVSDB (RFC 7047, 3.2), with
// another version and the tables as edit makes them, for ovsdb-client convert.
func Schema(t *testing.T, file, version string, edit func(tables map[string]any)) (edited string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	edit(schema["tables"].(map[string]any))
	schema["version"] = version
	delete(schema, "cksum")
	text, err = json.Marshal(schema)
	if err != nil {
		t.Fatal(err)
	}
	edited = filepath.Join(t.TempDir(), "edited.ovsschema")
	if err := os.WriteFile(edited, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return edited
}

// Newer is the schema in file as that of a version that nobody has seen, with a
// table, and a column of every other, that drivers know nothing of.
func Newer(t *testing.T, file string) (edited string) {
	t.Helper()
	return Schema(t, file, "99.0.0", func(tables map[string]any) {
		for _, table := range tables {
			columns := table.(map[string]any)["columns"].(map[string]any)
			columns["from_the_future"] = map[string]any{"type": map[string]any{"key": "string", "min": 0, "max": "unlimited"}}
		}
		tables["Future"] = map[string]any{"isRoot": true, "columns": map[string]any{"name": map[string]any{"type": "string"}}}
	})
}
