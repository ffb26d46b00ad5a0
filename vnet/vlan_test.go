// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestParseVLANRanges(t *testing.T) {
	tests := []struct {
		text string
		want string
		ok   bool
	}{
		{"", "", false},
		{"0", "", false},
		{"4095", "", false},
		{"-1", "", false},
		{"20-10", "", false},
		{"10,,20", "", false},
		{"10-20-30", "", false},
		{"ten", "", false},
		{"65546", "", false}, // 10 modulo 2^16
		{"20", "20", true},
		{"1-4094", "1-4094", true},
		{"all", "1-4094", true},
		{"20-29, 10", "10,20-29", true},
		{"10-12,13,11-14,20", "10-14,20", true},
	}
	for _, tt := range tests {
		got, err := vnet.ParseVLANRanges(tt.text)
		if (err == nil) != tt.ok || got.String() != tt.want {
			t.Errorf("ParseVLANRanges(%q) = %q, %v; want %q, ok %t", tt.text, got, err, tt.want, tt.ok)
		}
	}
}

func TestVLANSet(t *testing.T) {
	ranges := func(text string) vnet.VLANRanges {
		rs, err := vnet.ParseVLANRanges(text)
		if err != nil {
			t.Fatal(err)
		}
		return rs
	}
	tests := []struct {
		set      vnet.VLANSet
		text     string
		pvid     vnet.VLANID
		carries  []vnet.VLANID
		excludes []vnet.VLANID
	}{
		{vnet.VLANSet{}, "untagged", 0, nil, []vnet.VLANID{0, 1, 20}},
		{vnet.VLANSet{Access: 20}, "access 20", 20, []vnet.VLANID{20}, []vnet.VLANID{0, 1, 21}},
		{vnet.VLANSet{Trunk: ranges("10,20-29")}, "trunk 10,20-29", 0, []vnet.VLANID{10, 25}, []vnet.VLANID{0, 11}},
		{vnet.VLANSet{Trunk: ranges("20-29"), Native: 10}, "trunk 10,20-29 native 10", 10, []vnet.VLANID{10, 20}, []vnet.VLANID{30}},
		{
			vnet.VLANSet{Trunk: ranges("20"), Native: 20, NativeTagged: true},
			"trunk 20 native 20 tagged", 20,
			[]vnet.VLANID{20},
			[]vnet.VLANID{10},
		},
	}
	for _, tt := range tests {
		if got := tt.set.String(); got != tt.text {
			t.Errorf("got %q, want %q", got, tt.text)
		}
		if got := tt.set.PVID(); got != tt.pvid {
			t.Errorf("%s: PVID %d, want %d", tt.text, got, tt.pvid)
		}
		for _, id := range tt.carries {
			if !tt.set.Contains(id) {
				t.Errorf("%s does not carry %d", tt.text, id)
			}
		}
		for _, id := range tt.excludes {
			if tt.set.Contains(id) {
				t.Errorf("%s carries %d", tt.text, id)
			}
		}
	}
}

func TestVLANSetEqual(t *testing.T) {
	listed := vnet.VLANSet{Trunk: vnet.VLANRanges{{First: 10, Last: 10}, {First: 20, Last: 20}}, Native: 10}
	implied := vnet.VLANSet{Trunk: vnet.VLANRanges{{First: 20, Last: 20}}, Native: 10}
	if !listed.Equal(implied) {
		t.Error("the native VLAN is part of the trunk, listed or not")
	}
	if listed.Equal(vnet.VLANSet{Trunk: listed.Trunk}) {
		t.Error("a trunk without native VLAN is another")
	}
	if (vnet.VLANSet{}).Equal(vnet.VLANSet{Access: 1}) {
		t.Error("untagged is not access 1")
	}
}

func TestVLANSetWithAndWithout(t *testing.T) {
	ranges := func(text string) vnet.VLANRanges {
		if text == "" {
			return nil
		}
		rs, err := vnet.ParseVLANRanges(text)
		if err != nil {
			t.Fatal(err)
		}
		return rs
	}
	for _, tt := range []struct {
		set           vnet.VLANSet
		vlans         string
		with, without string
	}{
		{vnet.VLANSet{}, "20", "trunk 20", "untagged"},
		{vnet.VLANSet{Access: 1}, "20-29", "trunk 1,20-29 native 1", "access 1"},
		{vnet.VLANSet{Access: 20}, "20", "access 20", "access 20"},
		{vnet.VLANSet{Trunk: ranges("20-29"), Native: 1}, "25-35", "trunk 1,20-35 native 1", "trunk 1,20-24 native 1"},
		{vnet.VLANSet{Trunk: ranges("20"), Native: 1}, "20", "trunk 1,20 native 1", "access 1"},
		{vnet.VLANSet{Trunk: ranges("20"), Native: 1, NativeTagged: true}, "20", "trunk 1,20 native 1 tagged", "trunk 1 native 1 tagged"},
		{vnet.VLANSet{Access: 1, Extra: "untagged 20,30"}, "20", "trunk 1,20 native 1 and untagged 30", "access 1 and untagged 20,30"},
		{vnet.VLANSet{Access: 1, Extra: "untagged 20"}, "20", "trunk 1,20 native 1", "access 1 and untagged 20"},
		{vnet.VLANSet{Trunk: vnet.AllVLANs()}, "7", "trunk 1-4094", "trunk 1-6,8-4094"},
		{vnet.VLANSet{Trunk: ranges("5")}, "", "trunk 5", "trunk 5"},
	} {
		before := tt.set.String()
		if got := tt.set.With(ranges(tt.vlans)).String(); got != tt.with {
			t.Errorf("%s with %s: got %s, want %s", tt.set, tt.vlans, got, tt.with)
		}
		if got := tt.set.Without(ranges(tt.vlans)).String(); got != tt.without {
			t.Errorf("%s without %s: got %s, want %s", tt.set, tt.vlans, got, tt.without)
		}
		if tt.set.String() != before {
			t.Errorf("%s became %s", before, tt.set)
		}
	}
}

func TestVLANRangesMinus(t *testing.T) {
	for _, tt := range []struct {
		from, cuts vnet.VLANRanges
		want       string
	}{
		{nil, vnet.AllVLANs(), ""},
		{vnet.AllVLANs(), vnet.AllVLANs(), ""},
		{vnet.AllVLANs(), nil, "1-4094"},
		{vnet.AllVLANs(), vnet.VLANRanges{{First: 1, Last: 1}, {First: 20, Last: 29}, {First: 4094, Last: 4094}}, "2-19,30-4093"},
		{vnet.VLANRanges{{First: 20, Last: 29}, {First: 10, Last: 10}}, vnet.VLANRanges{{First: 25, Last: 40}}, "10,20-24"},
	} {
		if got := tt.from.Minus(tt.cuts).String(); got != tt.want {
			t.Errorf("%s minus %s: got %q, want %q", tt.from, tt.cuts, got, tt.want)
		}
	}
}

func TestVLANRangesNormalKeepsReceiver(t *testing.T) {
	given := vnet.VLANRanges{{First: 20, Last: 29}, {First: 10, Last: 19}}
	normal := given.Normal()
	if diff := cmp.Diff(vnet.VLANRanges{{First: 10, Last: 29}}, normal); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if given[0].First != 20 {
		t.Error("Normal changed its receiver")
	}
}

func FuzzParseVLANRanges(f *testing.F) {
	for _, seed := range []string{"10,20-29", "all", "4094", "1-1,1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ranges, err := vnet.ParseVLANRanges(text)
		if err != nil {
			return
		}
		again, err := vnet.ParseVLANRanges(ranges.String())
		if err != nil || again.String() != ranges.String() {
			t.Fatalf("%q reads back as %q, %v", ranges, again, err)
		}
		for _, r := range ranges {
			if !r.First.Valid() || !r.Last.Valid() || r.First > r.Last {
				t.Fatalf("%q gave the range %v", text, r)
			}
		}
	})
}
