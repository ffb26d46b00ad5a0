// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func vlans(first, last vnet.VLANID) vlanEntry {
	return vlanEntry{VLANRange: vnet.VLANRange{First: first, Last: last}}
}

func (e vlanEntry) as(pvid, untagged bool) vlanEntry {
	e.pvid, e.untagged = pvid, untagged
	return e
}

// TestMembership also checks that entries leads back from membership.
func TestMembership(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		entries []vlanEntry
		want    string
	}{
		"two untagged":         {[]vlanEntry{vlans(10, 10).as(false, true), vlans(20, 20).as(true, true)}, "access 20 and untagged 10"},
		"untagged, no PVID":    {[]vlanEntry{vlans(10, 12).as(false, true)}, "untagged and untagged 10-12"},
		"none":                 {nil, "untagged"},
		"access":               {[]vlanEntry{vlans(20, 20).as(true, true)}, "access 20"},
		"PVID that is tagged":  {[]vlanEntry{vlans(20, 20).as(true, false)}, "trunk 20 native 20 tagged"},
		"trunk":                {[]vlanEntry{vlans(10, 10), vlans(20, 29)}, "trunk 10,20-29"},
		"trunk, native":        {[]vlanEntry{vlans(10, 10).as(true, true), vlans(20, 29)}, "trunk 10,20-29 native 10"},
		"trunk, native tagged": {[]vlanEntry{vlans(10, 10).as(true, false), vlans(20, 29)}, "trunk 10,20-29 native 10 tagged"},
		"native in the middle": {[]vlanEntry{vlans(1, 9), vlans(10, 10).as(true, true), vlans(11, 4094)}, "trunk 1-4094 native 10"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := membership(c.entries)
			if got := set.String(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if again := membership(entries(*set)); !set.Equal(*again) {
				t.Errorf("there and back: got %s, want %s", again, set)
			}
		})
	}
}

func TestVLANChanges(t *testing.T) {
	t.Parallel()
	set := func(access vnet.VLANID, trunk string, native vnet.VLANID) *vnet.VLANSet {
		s := &vnet.VLANSet{Access: access, Native: native}
		if trunk != "" {
			ranges, err := vnet.ParseVLANRanges(trunk)
			if err != nil {
				t.Fatal(err)
			}
			s.Trunk = ranges
		}
		return s
	}
	for name, c := range map[string]struct {
		before, after *vnet.VLANSet
		pvid          vnet.VLANID
		add           []vlanEntry
		remove        string
	}{
		"leave alone":                   {set(20, "", 0), nil, 1, nil, ""},
		"same":                          {set(20, "", 0), set(20, "", 0), 1, nil, ""},
		"new port":                      {nil, set(20, "", 0), 1, []vlanEntry{vlans(20, 20).as(true, true)}, "1"},
		"new port, no default":          {nil, set(20, "", 0), 0, []vlanEntry{vlans(20, 20).as(true, true)}, ""},
		"new port in the default":       {nil, set(1, "", 0), 1, []vlanEntry{vlans(1, 1).as(true, true)}, ""},
		"access to access":              {set(20, "", 0), set(30, "", 0), 1, []vlanEntry{vlans(30, 30).as(true, true)}, "20"},
		"access to trunk that has it":   {set(20, "", 0), set(0, "20-29", 0), 1, []vlanEntry{vlans(20, 29)}, ""},
		"trunk loses its middle":        {set(0, "1-4094", 0), set(0, "1-9,20-4094", 0), 1, []vlanEntry{vlans(1, 9), vlans(20, 4094)}, "10-19"},
		"native within the trunk":       {set(1, "", 0), set(0, "1-4094", 10), 1, []vlanEntry{vlans(10, 10).as(true, true), vlans(1, 9), vlans(11, 4094)}, ""},
		"native listed is not repeated": {set(0, "10,20", 10), set(0, "20", 0), 1, []vlanEntry{vlans(20, 20)}, "10"},
		"to nothing":                    {set(20, "", 0), &vnet.VLANSet{}, 0, nil, "20"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			add, remove := vlanChanges(c.before, c.after, c.pvid)
			if diff := cmp.Diff(c.add, add, cmp.AllowUnexported(vlanEntry{})); diff != "" {
				t.Errorf("add (-want +got):\n%s", diff)
			}
			if got := remove.String(); got != c.remove {
				t.Errorf("remove %q, want %q", got, c.remove)
			}
		})
	}
}

// FuzzParse feeds the parsers of kernel messages.
func FuzzParse(f *testing.F) {
	f.Add(vlanHeader(7))
	f.Fuzz(func(_ *testing.T, msg []byte) {
		_ = parseVLANs(msg, map[int][]vlanEntry{}) // must not panic
		_, _ = parseNeighbour(msg)
		_, _ = parseShape(rtnl.Answer{Payloads: [][]byte{msg}}, parseTBF)
		_, _ = parseShape(rtnl.Answer{Payloads: [][]byte{msg}}, parsePolice)
	})
}
