// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import "github.com/virt-vnet/virt-vnet/vnet"

// vlanEntry is VLANs of a port that are alike, as the kernel keeps them.
type vlanEntry struct {
	vnet.VLANRange
	// pvid: untagged frames come into this VLAN. One VLAN at most.
	pvid bool
	// untagged: frames of this VLAN leave without a tag.
	untagged bool
}

// membership is what the kernel's entries mean.
func membership(entries []vlanEntry) *vnet.VLANSet {
	var set vnet.VLANSet
	var native *vlanEntry
	var extra vnet.VLANRanges
	for i, e := range entries {
		switch {
		case e.pvid:
			native = &entries[i]
		case e.untagged:
			extra = append(extra, e.VLANRange)
		default:
			set.Trunk = append(set.Trunk, e.VLANRange)
		}
	}
	set.Trunk = set.Trunk.Normal()
	if len(extra) > 0 {
		set.Extra = vnet.ExtraUntagged + extra.Normal().String()
	}
	switch {
	case native == nil:
	case native.untagged && len(set.Trunk) == 0:
		set.Access = native.First
	default:
		set.Native, set.NativeTagged = native.First, !native.untagged
	}
	return &set
}

// entries is what the kernel is to have for set.
func entries(set vnet.VLANSet) []vlanEntry {
	var list []vlanEntry
	if pvid := set.PVID(); pvid != 0 {
		list = append(list, vlanEntry{VLANRange: single(pvid), pvid: true, untagged: !set.NativeTagged})
	}
	for _, r := range set.Trunk.Minus(vnet.VLANRanges{single(set.PVID())}) {
		list = append(list, vlanEntry{VLANRange: r})
	}
	for _, r := range set.MoreUntagged() {
		list = append(list, vlanEntry{VLANRange: r, untagged: true})
	}
	return list
}

// members is every VLAN of the entries.
func members(list []vlanEntry) vnet.VLANRanges {
	ranges := make(vnet.VLANRanges, len(list))
	for i, e := range list {
		ranges[i] = e.VLANRange
	}
	return ranges.Normal()
}

func single(id vnet.VLANID) vnet.VLANRange { return vnet.VLANRange{First: id, Last: id} }
