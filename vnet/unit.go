// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// BitRate is bits per second.
type BitRate uint64

// ByteSize is a number of bytes.
type ByteSize uint64

// unit is a word behind a number, and how many it stands for.
type unit struct {
	word string
	size uint64
}

// The units of tc(8), the largest first. Rates are decimal, sizes are not.
var (
	rateUnits = []unit{{"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}}
	sizeUnits = []unit{{"gb", 1 << 30}, {"mb", 1 << 20}, {"kb", 1 << 10}, {"b", 1}}
)

// String returns "100mbit".
func (r BitRate) String() string { return format(uint64(r), rateUnits) }

// MarshalText implements [encoding.TextMarshaler].
func (r BitRate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads "100mbit" or "1.5gbit", of which there is at least one
// byte in a second.
func (r *BitRate) UnmarshalText(text []byte) error {
	n, err := parseUnits(string(text), rateUnits)
	if err != nil || n < 8 {
		return fmt.Errorf("%q is no rate: want one such as 100mbit, in bit, kbit, mbit or gbit", text)
	}
	*r = BitRate(n)
	return nil
}

// String returns "64kb".
func (s ByteSize) String() string { return format(uint64(s), sizeUnits) }

// MarshalText implements [encoding.TextMarshaler].
func (s ByteSize) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads "64kb", which is 65,536 bytes as it is to tc(8).
func (s *ByteSize) UnmarshalText(text []byte) error {
	n, err := parseUnits(string(text), sizeUnits)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is no size: want one such as 256kb, in b, kb, mb or gb", text)
	}
	*s = ByteSize(n)
	return nil
}

// format writes a number with the largest unit that leaves it whole.
func format(n uint64, units []unit) string {
	i := slices.IndexFunc(units, func(u unit) bool { return n%u.size == 0 && n >= u.size })
	if i < 0 {
		i = len(units) - 1
	}
	return strconv.FormatUint(n/units[i].size, 10) + units[i].word
}

// parseUnits reads a number, perhaps with a fraction, and a unit. Without one
// it is an error: bits, bytes or thousands of them are too easily mistaken.
func parseUnits(text string, units []unit) (uint64, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.word)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		f = math.Round(f * float64(u.size))
		if err != nil || !(f >= 0 && f < 1<<53) {
			return 0, strconv.ErrRange
		}
		return uint64(f), nil
	}
	return 0, strconv.ErrSyntax
}
