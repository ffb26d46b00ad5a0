// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

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
	f.Add(" port  VLAN  MAC                Age\n    1    20  52:54:00:00:00:01    0\n")
	f.Add("tag=20 trunks=0,10-12 vlan_mode=dot1q-tunnel")
	f.Fuzz(func(_ *testing.T, text string) {
		parseFDB(text, map[string]string{"1": "vnet0"}) // reading it must not panic
		decode(parseColumns(text))
	})
}
