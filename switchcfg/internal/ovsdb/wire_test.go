// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovsdb

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// record is a row with a column of each kind.
type record struct {
	UUID      UUID
	Name      string
	Devices   Set[UUID]
	Protected bool
	Number    int
	Tag       Set[int]
	Mode      Set[string]
	IDs       Dict
}

func (r *record) Column(name string) any {
	return map[string]any{
		"_uuid": &r.UUID, "name": &r.Name, "interfaces": &r.Devices, "protected": &r.Protected, "next_cfg": &r.Number,
		"tag": &r.Tag, "vlan_mode": &r.Mode, "external_ids": &r.IDs,
	}[name]
}

// TestColumns checks the wire notation of RFC 7047, 5.1, both ways.
func TestColumns(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`5`, `{}`, `null`, `["map"]`, `["map",5]`, `["map",[["a"]],1]`, `["set",[]]`, `[]`, `["map",[[1,2]]]`, `["map",["a"]]`,
	} {
		var d Dict
		if err := d.read(parse(text)); err == nil {
			t.Errorf("%s is a map: %v", text, d)
		}
	}
	for _, text := range []string{
		`"x"`, `1.5`, `null`, `["set"]`, `["set",5]`, `["set",["x"]]`, `["map",[]]`, `[]`, `{}`, `["set",[1],2]`,
	} {
		var s Set[int]
		if err := s.read(parse(text)); err == nil {
			t.Errorf("%s is a set of integers: %v", text, s)
		}
	}
	for _, text := range []string{`[]`, `{"name":5}`, `{"protected":"yes"}`, `{"_uuid":["uuid",""]}`, `{"next_cfg":true}`} {
		var r record
		if err := readRow(&r, parse(text)); err == nil {
			t.Errorf("%s is a row: %v", text, r)
		}
	}
	for text, want := range map[string]record{
		`{"_uuid":["uuid","u1"],"name":"vnet0","interfaces":["uuid","u2"],"tag":["set",[]],"trunks":["set",[10,20]],
		  "vlan_mode":"trunk","protected":true,"external_ids":["map",[["k","v"]]]}`: {
			UUID: "u1", Name: "vnet0", Devices: Set[UUID]{"u2"}, Protected: true, IDs: Dict{"k": "v"},
			Tag: Set[int]{}, Mode: Set[string]{"trunk"},
		},
		`{"_uuid":["uuid","u1"],"interfaces":["set",[["uuid","u2"],["uuid","u3"]]],"tag":20,"external_ids":["map",[]]}`: {
			UUID: "u1", Devices: Set[UUID]{"u2", "u3"}, IDs: Dict{},
			Tag: Set[int]{20},
		},
	} {
		var got record
		if err := readRow(&got, parse(text)); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

// TestRequests checks what goes over the wire.
func TestRequests(t *testing.T) {
	t.Parallel()
	now := 0
	for want, sent := range map[string]writable{
		`["set",[]]`:                        Set[int](nil),
		`["set",[1,2]]`:                     Set[int]{1, 2},
		`["set",[["uuid","u1"]]]`:           Set[UUID]{"u1"},
		`["map",[]]`:                        Dict{},
		`["map",[["k","v"]]]`:               Dict{"k": "v"},
		`["named-uuid","n1"]`:               NamedUUID("n1"),
		`{"f":true}`:                        Row{"f": true},
		`["map",[[0,["named-uuid","n1"]]]]`: Numbered{0: "n1"},
		`{"a":"\"\\\n\u0001é"}`:             Row{"a": "\"\\\n\x01é"},
		`{"op":"wait","table":"T","where":[["c","==",1]],"columns":["c","d"],"rows":[],"until":"==","timeout":0}`: Operation{
			Op: "wait", Table: "T", Where: Where("c", 1), Columns: []string{"c", "d"}, Rows: []Row{}, Until: "==", Timeout: &now,
		},
		`{"op":"insert","row":{"a":"b"},"uuid-name":"n"}`: Operation{Op: "insert", Row: Row{"a": "b"}, Name: "n"},
		`{"op":"mutate","where":[],"mutations":[["c","+=",1]],"comment":"x"}`: Operation{
			Op: "mutate", Where: []Condition{}, Mutations: []Condition{{"c", "+=", 1}}, Comment: "x",
		},
	} {
		got := string(sent.appendTo(nil))
		if diff := cmp.Diff(want, got); diff != "" || !json.Valid([]byte(got)) {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// parse reads JSON as a connection does.
func parse(text string) (v any) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if decoder.Decode(&v) != nil {
		return nil
	}
	return v
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`["set",[["uuid","u"]]]`))
	f.Add([]byte(`[{"rows":[{"_uuid":["uuid","u"],"tag":["set",[1]]}]},null,{"error":"?"}]`))
	f.Fuzz(func(_ *testing.T, text []byte) {
		v := parse(string(text)) // reading it must not panic
		_ = readRow(new(record), v)
		_ = new(Dict).read(v)
		_ = new(Set[UUID]).read(v)
		var r Results
		_ = r.read(v)
		for i := range r {
			_, _ = Rows[record](r, i)
		}
	})
}
