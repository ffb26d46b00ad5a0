// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// VLANID is an IEEE 802.1Q VLAN identifier. Zero means none; 1 to 4094 are
// valid; 4095 is reserved by the standard (802.1Q table 9-2).
type VLANID uint16

// MaxVLANID is the highest VLAN a port can be a member of.
const MaxVLANID VLANID = 4094

// Valid reports whether id names a VLAN: 1 to 4094.
func (id VLANID) Valid() bool { return id >= 1 && id <= MaxVLANID }

// VLANRange is the VLANs from First to Last, both included.
type VLANRange struct {
	First VLANID `json:"first"`
	Last  VLANID `json:"last"`
}

// String returns "20" or "20-29".
func (r VLANRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// VLANRanges is a set of VLANs kept as ranges, because a trunk of 4,094 VLANs
// is one of them. The normal form, which [ParseVLANRanges] and
// [VLANRanges.Normal] return, is sorted and has no touching ranges.
type VLANRanges []VLANRange

// AllVLANs is every VLAN a port can carry.
func AllVLANs() VLANRanges { return VLANRanges{{1, MaxVLANID}} }

// ParseVLANRanges reads "10,20-29" or "all". The error says what would be
// right.
func ParseVLANRanges(text string) (VLANRanges, error) {
	if strings.TrimSpace(text) == "all" {
		return AllVLANs(), nil
	}
	var ranges VLANRanges
	for item := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(item), "-")
		if !isRange {
			last = first
		}
		lo, errLo := parseVLANID(first)
		hi, errHi := parseVLANID(last)
		if errLo != nil || errHi != nil || lo > hi {
			return nil, fmt.Errorf("%q is no VLAN list: want IDs from 1 to 4094 and ranges, such as 10,20-29, or all", text)
		}
		ranges = append(ranges, VLANRange{lo, hi})
	}
	return ranges.Normal(), nil
}

// ParseVLANID reads one VLAN ID, 1 to 4094.
func ParseVLANID(text string) (VLANID, error) {
	id, err := parseVLANID(text)
	if err != nil {
		return 0, fmt.Errorf("%q is no VLAN ID: want a number from 1 to 4094", text)
	}
	return id, nil
}

func parseVLANID(text string) (VLANID, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
	if err != nil {
		return 0, err
	}
	if id := VLANID(n); id.Valid() {
		return id, nil
	}
	return 0, strconv.ErrRange
}

// Normal returns the same VLANs sorted, with overlapping and touching ranges
// made one. The receiver stays as it is.
func (rs VLANRanges) Normal() VLANRanges {
	sorted := slices.Clone(rs)
	slices.SortFunc(sorted, func(a, b VLANRange) int { return int(a.First) - int(b.First) })
	var out VLANRanges
	for _, r := range sorted {
		if n := len(out); n > 0 && r.First <= out[n-1].Last+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// Minus returns every VLAN of rs that is not in cuts, in normal form.
func (rs VLANRanges) Minus(cuts VLANRanges) VLANRanges {
	rest := rs.Normal()
	for _, cut := range cuts {
		var next VLANRanges
		for _, r := range rest {
			if r.Last < cut.First || r.First > cut.Last {
				next = append(next, r)
				continue
			}
			if r.First < cut.First {
				next = append(next, VLANRange{First: r.First, Last: cut.First - 1})
			}
			if r.Last > cut.Last {
				next = append(next, VLANRange{First: cut.Last + 1, Last: r.Last})
			}
		}
		rest = next
	}
	return rest
}

// Contains reports whether id is in the set.
func (rs VLANRanges) Contains(id VLANID) bool {
	return slices.ContainsFunc(rs, func(r VLANRange) bool { return r.First <= id && id <= r.Last })
}

// String returns the ranges as [ParseVLANRanges] reads them.
func (rs VLANRanges) String() string {
	texts := make([]string, len(rs))
	for i, r := range rs {
		texts[i] = r.String()
	}
	return strings.Join(texts, ",")
}

// VLANSet is the VLAN membership of one port: an access port has Access, a
// trunk has Trunk and perhaps Native, a tunnel has Service and perhaps Customer,
// never two of these.
//
// The zero VLANSet is untagged: the port sends and receives untagged frames
// only, in the VLAN the switch gives to such frames. It is not a trunk of all
// VLANs, which is what Open vSwitch makes of a port without a tag; that is
// spelled "trunk: all".
type VLANSet struct {
	// Access is the one VLAN of an access port: its PVID, untagged.
	Access VLANID `json:"access,omitempty"`
	// Trunk is the VLANs carried with a tag.
	Trunk VLANRanges `json:"trunk,omitempty"`
	// Native is the VLAN of a trunk's untagged frames: its PVID. It need not
	// be listed in Trunk.
	Native VLANID `json:"native,omitempty"`
	// NativeTagged makes the trunk send frames of Native with a tag too, and
	// still take untagged ones into it.
	NativeTagged bool `json:"nativeTagged,omitempty"`
	// Service is the VLAN that a tunnel carries all frames of the guest in, with
	// whatever tag they have: they get a service tag (IEEE 802.1ad; a dot1q-tunnel
	// port). Customer is the VLANs of the guest's own that it takes, or nil for
	// all; with some, it takes no untagged frames.
	Service  VLANID     `json:"service,omitempty"`
	Customer VLANRanges `json:"customer,omitempty"`
	// Extra is what a live port has beyond that, in its driver's words, such
	// as "untagged 30" for a second untagged VLAN. It is observed, never
	// wanted; a driver that undoes a change reads it back.
	Extra string `json:"extra,omitempty"`
}

// ExtraUntagged begins the Extra of a port from which more VLANs leave untagged
// than the one its untagged frames come into, such as "untagged 30".
const ExtraUntagged = "untagged "

// MoreUntagged is those VLANs, or nil where Extra says something else.
func (s VLANSet) MoreUntagged() VLANRanges {
	text, ok := strings.CutPrefix(s.Extra, ExtraUntagged)
	if !ok {
		return nil
	}
	more, _ := ParseVLANRanges(text) // what does not parse came from no driver
	return more
}

// IsZero reports whether the port is untagged.
func (s VLANSet) IsZero() bool {
	return s.Access == 0 && len(s.Trunk) == 0 && s.Native == 0 && s.Service == 0 && s.Extra == ""
}

// IsTrunk reports whether the port carries tagged frames.
func (s VLANSet) IsTrunk() bool { return len(s.Trunk) > 0 || s.Native != 0 }

// PVID is the VLAN of untagged frames: Access, or Native on a trunk, or Service of
// a tunnel, or zero.
func (s VLANSet) PVID() VLANID { return cmp.Or(s.Access, s.Native, s.Service) }

// Contains reports whether frames of VLAN id may pass the port.
func (s VLANSet) Contains(id VLANID) bool {
	return id != 0 && (id == s.PVID() || s.Trunk.Contains(id))
}

// All is every VLAN whose frames may pass the port, in normal form.
func (s VLANSet) All() VLANRanges {
	all := slices.Clone(s.Trunk)
	if pvid := s.PVID(); pvid != 0 {
		all = append(all, VLANRange{pvid, pvid})
	}
	return all.Normal()
}

// With is the membership that also carries more, with tags.
func (s VLANSet) With(more VLANRanges) VLANSet {
	more = more.Minus(s.All())
	if len(more) == 0 {
		return s
	}
	if bare := s.MoreUntagged(); len(bare) > 0 {
		if s.Extra = ""; len(bare.Minus(more)) > 0 {
			s.Extra = ExtraUntagged + bare.Minus(more).String()
		}
	}
	if s.Access != 0 {
		s.Native, s.Access = s.Access, 0
	}
	s.Trunk = append(slices.Clone(s.Trunk), more...).Normal()
	return s
}

// Without is the membership that does not carry less with a tag. The VLAN of
// untagged frames stays.
func (s VLANSet) Without(less VLANRanges) VLANSet {
	s.Trunk = s.Trunk.Minus(less)
	if len(s.Trunk) == 0 && !s.NativeTagged {
		s.Access, s.Native = s.PVID(), 0
	}
	return s
}

// Equal reports whether both are the same membership. A native VLAN counts as
// part of the trunk whether Trunk lists it or not.
func (s VLANSet) Equal(other VLANSet) bool {
	return s.Access == other.Access && s.Native == other.Native && s.NativeTagged == other.NativeTagged &&
		s.Service == other.Service && slices.Equal(s.Customer.Normal(), other.Customer.Normal()) &&
		s.Extra == other.Extra && slices.Equal(s.tagged(), other.tagged())
}

// tagged is the trunk in normal form with the native VLAN in it.
func (s VLANSet) tagged() VLANRanges {
	if s.Native == 0 {
		return s.Trunk.Normal()
	}
	return append(slices.Clone(s.Trunk), VLANRange{s.Native, s.Native}).Normal()
}

// String returns "untagged", "access 20", "trunk 10,20-29",
// "trunk 20-29 native 10" or "tunnel 20 customer 10-19".
func (s VLANSet) String() string {
	if extra := s.Extra; extra != "" {
		s.Extra = ""
		return s.String() + " and " + extra
	}
	switch {
	case s.IsZero():
		return "untagged"
	case s.Access != 0:
		return fmt.Sprintf("access %d", s.Access)
	case s.Service != 0 && len(s.Customer) == 0:
		return fmt.Sprintf("tunnel %d", s.Service)
	case s.Service != 0:
		return fmt.Sprintf("tunnel %d customer %s", s.Service, s.Customer.Normal())
	case s.Native == 0:
		return "trunk " + s.Trunk.String()
	}
	text := fmt.Sprintf("trunk %s native %d", s.tagged(), s.Native)
	if s.NativeTagged {
		text += " tagged"
	}
	return text
}
