// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet_test

import (
	"testing"

	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestUnits(t *testing.T) {
	for _, tt := range []struct {
		text string
		bits vnet.BitRate
		back string
	}{
		{"", 0, ""},
		{"100", 0, ""},
		{"7bit", 0, ""},
		{"-1mbit", 0, ""},
		{"1e99gbit", 0, ""},
		{"NaNbit", 0, ""},
		{"fast", 0, ""},
		{"10mb", 0, ""},
		{"100mbit", 100e6, "100mbit"},
		{"1.5 Gbit", 15e8, "1500mbit"},
		{"8bit", 8, "8bit"},
		{"1000kbit", 1e6, "1mbit"},
	} {
		var got vnet.BitRate
		err := got.UnmarshalText([]byte(tt.text))
		if (err == nil) != (tt.bits != 0) || err == nil && (got != tt.bits || got.String() != tt.back) {
			t.Errorf("%q: got %d, %s and error %v; want %d, %s", tt.text, got, got, err, tt.bits, tt.back)
		}
	}
	for _, tt := range []struct {
		text  string
		bytes vnet.ByteSize
		back  string
	}{
		{"64", 0, ""},
		{"0b", 0, ""},
		{"1mbit", 0, ""},
		{"64kb", 64 << 10, "64kb"},
		{"1.5MB", 3 << 19, "1536kb"},
		{"1500b", 1500, "1500b"},
	} {
		var got vnet.ByteSize
		err := got.UnmarshalText([]byte(tt.text))
		if (err == nil) != (tt.bytes != 0) || err == nil && (got != tt.bytes || got.String() != tt.back) {
			t.Errorf("%q: got %d, %s and error %v; want %d, %s", tt.text, got, got, err, tt.bytes, tt.back)
		}
	}
}

func TestExactQoS(t *testing.T) {
	for _, tt := range []struct{ rate, inbound, outbound vnet.Rate }{
		{vnet.Rate{}, vnet.Rate{}, vnet.Rate{}},
		{vnet.Rate{Burst: 1}, vnet.Rate{}, vnet.Rate{}},
		{vnet.Rate{Bits: 1e6}, vnet.Rate{Bits: 1e6, Burst: 64 << 10}, vnet.Rate{Bits: 1e6, Burst: 64 << 10}},
		{vnet.Rate{Bits: 81920003}, vnet.Rate{Bits: 81920000, Burst: 1000 << 10}, vnet.Rate{Bits: 81920000, Burst: 5000 << 10}},
		{vnet.Rate{Bits: 8, Burst: 1500}, vnet.Rate{Bits: 8, Burst: 2048}, vnet.Rate{Bits: 8, Burst: 2048}},
		{vnet.Rate{Bits: 100e9}, vnet.Rate{Bits: 100e9, Burst: 256 << 20}, vnet.Rate{Bits: 100e9, Burst: 256 << 20}},
	} {
		got := vnet.QoS{Inbound: tt.rate, Outbound: tt.rate, Priority: 3}.Exact()
		if want := (vnet.QoS{Inbound: tt.inbound, Outbound: tt.outbound, Priority: 3}); got != want || got.Exact() != got {
			t.Errorf("%+v: got %+v, want %+v", tt.rate, got, want)
		}
	}
}
