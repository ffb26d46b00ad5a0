// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestColumns checks the wire notation of RFC 7047, 5.1, both ways.
func TestColumns(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`5`, `{}`, `["map"]`, `["map",5]`, `["map",[["a"]],1]`, `["set",[]]`, `[]`, `null`, `["map",[[1,2]]]`,
	} {
		var d dict
		if err := json.Unmarshal([]byte(text), &d); err == nil && text != "null" {
			t.Errorf("%s is a map: %v", text, d)
		}
	}
	for _, text := range []string{`"x"`, `["set"]`, `["set",["x"]]`, `["map",[]]`, `[]`, `{}`, `["set",[1],2]`} {
		var s set[int]
		if err := json.Unmarshal([]byte(text), &s); err == nil {
			t.Errorf("%s is a set of integers: %v", text, s)
		}
	}
	for text, want := range map[string]portRow{
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
		var got portRow
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(portRow{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	sent := row{"a": set[int](nil), "b": set[int]{1, 2}, "c": dict{"k": "v"}, "d": uuid("u1"), "e": namedUUID("n1"), "f": true}
	text, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"a":["set",[]],"b":["set",[1,2]],"c":["map",[["k","v"]]],"d":["uuid","u1"],"e":["named-uuid","n1"],"f":true}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
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
	f.Fuzz(func(_ *testing.T, text []byte) {
		var p portRow // must not panic
		_ = json.Unmarshal(text, &p)
		_ = json.Unmarshal(text, &p.ExternalIDs)
		_ = json.Unmarshal(text, &p.Interfaces)
		parseFDB(string(text), map[string]string{"1": "vnet0"})
		decode(parseColumns(string(text)))
	})
}
