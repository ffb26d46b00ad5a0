// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// The values of Port.vlan_mode that this package sets.
const (
	modeAccess         = "access"
	modeTrunk          = "trunk"
	modeNativeTagged   = "native-tagged"
	modeNativeUntagged = "native-untagged"
	modeTunnel         = "dot1q-tunnel"
)

// vlanColumns is the columns of a Port that make its VLAN membership
// (ovs-vswitchd.conf.db(5), "VLAN Configuration").
type vlanColumns struct {
	Tag    ovsdb.Set[int]
	Trunks ovsdb.Set[int]
	Mode   ovsdb.Set[string]
	// Customer is the column cvlans.
	Customer ovsdb.Set[int]
}

// row is the columns as a row to write.
func (c vlanColumns) row() ovsdb.Row {
	return ovsdb.Row{"tag": c.Tag, "trunks": c.Trunks, "vlan_mode": c.Mode, "cvlans": c.Customer}
}

// decode is what the columns mean. What a [vnet.VLANSet] cannot say is in its
// Extra, from which encode makes the same columns again.
func decode(c vlanColumns) *vnet.VLANSet {
	s := plain(c)
	if !encode(s).equal(c) {
		s.Extra = c.String()
	}
	return &s
}

// plain is decode for the columns that a VLANSet can express.
func plain(c vlanColumns) vnet.VLANSet {
	mode := c.Mode.First()
	if mode == "" {
		mode = modeTrunk
		if len(c.Tag) > 0 {
			mode = modeAccess
		}
	}
	tag := vnet.VLANID(c.Tag.First())
	trunk := vnet.AllVLANs()
	if len(c.Trunks) > 0 {
		trunk = ranges(slices.DeleteFunc(slices.Clone(c.Trunks), func(id int) bool { return !vnet.VLANID(id).Valid() }))
	}
	switch mode {
	case modeTrunk:
		return vnet.VLANSet{Trunk: trunk}
	case modeTunnel:
		return vnet.VLANSet{Service: tag, Customer: ranges(c.Customer)}
	case modeNativeTagged, modeNativeUntagged:
		return vnet.VLANSet{Trunk: trunk, Native: tag, NativeTagged: mode == modeNativeTagged}
	}
	return vnet.VLANSet{Access: tag}
}

// encode is the columns that make a port a member of s, as libvirt would write
// them.
func encode(s vnet.VLANSet) vlanColumns {
	if s.Extra != "" {
		return parseColumns(s.Extra)
	}
	if s.Service != 0 {
		return vlanColumns{
			Tag: ovsdb.Set[int]{int(s.Service)}, Mode: ovsdb.Set[string]{modeTunnel}, Customer: ids(s.Customer),
		}
	}
	if !s.IsTrunk() {
		return vlanColumns{Tag: ovsdb.Set[int]{int(s.Access)}}
	}
	var c vlanColumns
	if !slices.Equal(s.Trunk.Normal(), vnet.AllVLANs()) {
		c.Trunks = ids(s.Trunk)
	}
	if s.Native == 0 {
		return c
	}
	c.Tag = ovsdb.Set[int]{int(s.Native)}
	c.Mode = ovsdb.Set[string]{modeNativeUntagged}
	if s.NativeTagged {
		c.Mode = ovsdb.Set[string]{modeNativeTagged}
	}
	if len(s.Trunk) == 0 {
		c.Trunks = ovsdb.Set[int]{int(s.Native)} // no trunks at all would be all VLANs
	}
	return c
}

// equal reports whether both mean the same to ovs-vswitchd. Saying the mode
// that goes without saying makes no difference.
func (c vlanColumns) equal(other vlanColumns) bool {
	return slices.Equal(c.Tag, other.Tag) && c.mode() == other.mode() &&
		sameIDs(c.Trunks, other.Trunks) && sameIDs(c.Customer, other.Customer)
}

func sameIDs(a, b []int) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func (c vlanColumns) mode() string {
	switch mode := c.Mode.First(); {
	case mode == modeAccess && len(c.Tag) > 0, mode == modeTrunk && len(c.Tag) == 0:
		return ""
	default:
		return mode
	}
}

// String returns the columns as ovs-vsctl(8) takes them, such as
// "tag=20 trunks=0,10-12 vlan_mode=dot1q-tunnel".
func (c vlanColumns) String() string {
	var words []string
	if len(c.Tag) > 0 {
		words = append(words, "tag="+strconv.Itoa(c.Tag.First()))
	}
	if len(c.Trunks) > 0 {
		words = append(words, "trunks="+ranges(c.Trunks).String())
	}
	if len(c.Mode) > 0 {
		words = append(words, "vlan_mode="+c.Mode.First())
	}
	if len(c.Customer) > 0 {
		words = append(words, "cvlans="+ranges(c.Customer).String())
	}
	return strings.Join(words, " ")
}

// parseColumns reads what String wrote.
func parseColumns(text string) vlanColumns {
	var c vlanColumns
	for word := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "tag":
			var tag int
			if _, err := fmt.Sscan(value, &tag); err == nil {
				c.Tag = ovsdb.Set[int]{tag}
			}
		case "trunks":
			c.Trunks = parseIDs(value)
		case "cvlans":
			c.Customer = parseIDs(value)
		case "vlan_mode":
			c.Mode = ovsdb.Set[string]{value}
		}
	}
	return c
}

// parseIDs reads VLANs and ranges of them, zero included.
func parseIDs(text string) (list ovsdb.Set[int]) {
	for item := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		from, errFrom := strconv.ParseUint(first, 10, 12)
		to, errTo := strconv.ParseUint(last, 10, 12)
		for id := from; errFrom == nil && errTo == nil && id <= to; id++ {
			list = append(list, int(id))
		}
	}
	return list
}

// ranges makes ranges of single VLANs.
func ranges(ids []int) vnet.VLANRanges {
	var list vnet.VLANRanges
	for _, id := range ids {
		list = append(list, vnet.VLANRange{First: vnet.VLANID(id), Last: vnet.VLANID(id)})
	}
	return list.Normal()
}

// ids makes single VLANs of ranges.
func ids(list vnet.VLANRanges) ovsdb.Set[int] {
	var all ovsdb.Set[int]
	for _, r := range list.Normal() {
		for id := int(r.First); id <= int(r.Last); id++ {
			all = append(all, id)
		}
	}
	return all
}
