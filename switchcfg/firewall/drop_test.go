// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package firewall

import (
	"slices"
	"testing"
)

// FuzzTake checks that no message makes the collector panic.
func FuzzTake(f *testing.F) {
	f.Add([]byte{7, 0, 0, 0, 8, 0, 4, 0, 0, 0, 0, 3, 12, 0, 5, 0, 8, 0, 1, 0, 0, 0, 0, 0})
	f.Add([]byte{2, 0, 0, 0, 18, 0, 7, 0, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 8, 6, 0, 0})
	f.Add([]byte{2, 0})
	f.Fuzz(func(_ *testing.T, data []byte) {
		c := collector{frames: map[uint32]frame{}, found: map[Drop]int{}}
		_ = c.take(data)
	})
}

// TestLegacy compares two prints of iptables-save.
func TestLegacy(t *testing.T) {
	before := parseSaved("*filter\n:INPUT DROP [1:1]\n[0:0] -A INPUT -j other\n[0:0] -A other -j DROP\n:FORWARD DROP [5:420]\n:OUTPUT ACCEPT [9:9]\n:mine - [0:0]\n" +
		"[2:168] -A FORWARD -j mine\n[1:84] -A mine -p icmp -j DROP\n[0:0] -A mine -j REJECT --reject-with icmp-port-unreachable\nCOMMIT\n")
	after := parseSaved(":INPUT DROP [99:1]\n[7:0] -A INPUT -j other\n[7:0] -A other -j DROP\n[9:9] -A FORWARD -j mine\n:FORWARD DROP [8:672]\n:OUTPUT ACCEPT [19:9]\n:mine - [0:0]\n" +
		"[9:168] -A FORWARD -j mine\n[1:84] -A mine -p icmp -j DROP\n[7:7] -A mine -j REJECT --reject-with icmp-port-unreachable\n")
	want := []Drop{
		{EtherType: 0x800, Family: FamilyLegacy, Table: "filter", Chain: "FORWARD", Rule: "policy DROP", Frames: 3},
		{EtherType: 0x800, Family: FamilyLegacy, Table: "filter", Chain: "mine", Rule: "-A mine -j REJECT --reject-with icmp-port-unreachable", Frames: 7},
	}
	if got := after.since(before); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
