// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestColumns checks the wire notation of RFC 7047, 5.1, both ways.
func TestColumns(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`5`, `{}`, `null`, `["map"]`, `["map",5]`, `["map",[["a"]],1]`, `["set",[]]`, `[]`, `["map",[[1,2]]]`, `["map",["a"]]`,
	} {
		var d dict
		if err := d.read(parse(text)); err == nil {
			t.Errorf("%s is a map: %v", text, d)
		}
	}
	for _, text := range []string{
		`"x"`, `1.5`, `null`, `["set"]`, `["set",5]`, `["set",["x"]]`, `["map",[]]`, `[]`, `{}`, `["set",[1],2]`,
	} {
		var s set[int]
		if err := s.read(parse(text)); err == nil {
			t.Errorf("%s is a set of integers: %v", text, s)
		}
	}
	for _, text := range []string{`[]`, `{"name":5}`, `{"protected":"yes"}`, `{"_uuid":["uuid",""]}`, `{"next_cfg":true}`} {
		var r record
		if err := r.read(parse(text)); err == nil {
			t.Errorf("%s is a row: %v", text, r)
		}
	}
	for text, want := range map[string]record{
		`{"_uuid":["uuid","u1"],"name":"vnet0","interfaces":["uuid","u2"],"tag":["set",[]],"trunks":["set",[10,20]],
		  "vlan_mode":"trunk","protected":true,"external_ids":["map",[["k","v"]]]}`: {
			UUID: "u1", Name: "vnet0", Interfaces: set[uuid]{"u2"}, Protected: true, ExternalIDs: dict{"k": "v"},
			vlanColumns: vlanColumns{Tag: set[int]{}, Trunks: set[int]{10, 20}, Mode: set[string]{"trunk"}},
		},
		`{"_uuid":["uuid","u1"],"interfaces":["set",[["uuid","u2"],["uuid","u3"]]],"tag":20,"external_ids":["map",[]]}`: {
			UUID: "u1", Interfaces: set[uuid]{"u2", "u3"}, ExternalIDs: dict{},
			vlanColumns: vlanColumns{Tag: set[int]{20}},
		},
	} {
		var got record
		if err := got.read(parse(text)); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(record{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

// TestRequests checks what goes over the wire.
func TestRequests(t *testing.T) {
	t.Parallel()
	now := 0
	for want, sent := range map[string]writable{
		`["set",[]]`:              set[int](nil),
		`["set",[1,2]]`:           set[int]{1, 2},
		`["set",[["uuid","u1"]]]`: set[uuid]{"u1"},
		`["map",[]]`:              dict{},
		`["map",[["k","v"]]]`:     dict{"k": "v"},
		`["named-uuid","n1"]`:     namedUUID("n1"),
		`{"f":true}`:              row{"f": true},
		`{"a":"\"\\\n\u0001é"}`:   row{"a": "\"\\\n\x01é"},
		`{"op":"wait","table":"T","where":[["c","==",1]],"columns":["c","d"],"rows":[],"until":"==","timeout":0}`: operation{
			Op: "wait", Table: "T", Where: where("c", 1), Columns: []string{"c", "d"}, Rows: []row{}, Until: "==", Timeout: &now,
		},
		`{"op":"insert","row":{"a":"b"},"uuid-name":"n"}`: operation{Op: "insert", Row: row{"a": "b"}, Name: "n"},
		`{"op":"mutate","where":[],"mutations":[["c","+=",1]],"comment":"x"}`: operation{
			Op: "mutate", Where: []condition{}, Mutations: []condition{{"c", "+=", 1}}, Comment: "x",
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

func TestParseFDB(t *testing.T) {
	t.Parallel()
	names := map[string]string{"1": "vnet0", "2": "vnet1"}
	table := ` port  VLAN  MAC                Age
LOCAL     0  52:54:00:00:00:09    3
    1    20  52:54:00:00:00:01    0
    2     0  52:54:00:00:00:02  static
    3     0  52:54:00:00:00:03    0
    1  many  52:54:00:00:00:04    0
    1    20  nonsense             0
    1    20
`
	want := []switchcfg.Learned{
		{MAC: vnet.MAC{0x52, 0x54, 0, 0, 0, 1}, VLAN: 20, Device: "vnet0"},
		{MAC: vnet.MAC{0x52, 0x54, 0, 0, 0, 2}, Device: "vnet1"},
	}
	if diff := cmp.Diff(want, parseFDB(table, names)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNewUUID(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 100 {
		id := newUUID()
		if len(id) != 36 || id[14] != '4' || (id[19] != '8' && id[19] != '9' && id[19] != 'a' && id[19] != 'b') || seen[id] {
			t.Fatalf("%q is no version 4 UUID, or not new", id)
		}
		seen[id] = true
	}
}

func FuzzColumns(f *testing.F) {
	f.Add([]byte(`["set",[["uuid","u"]]]`))
	f.Add([]byte(`[{"rows":[{"_uuid":["uuid","u"],"tag":["set",[1]]}]},null,{"error":"?"}]`))
	f.Fuzz(func(_ *testing.T, text []byte) {
		v := parse(string(text)) // reading it must not panic
		_ = new(record).read(v)
		_ = new(dict).read(v)
		_ = new(set[uuid]).read(v)
		var r results
		_ = r.read(v)
		parseFDB(string(text), map[string]string{"1": "vnet0"})
		decode(parseColumns(string(text)))
	})
}
