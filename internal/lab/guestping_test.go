// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"testing"
	"time"
)

func TestParsePing(t *testing.T) {
	const answer = "64 bytes from 10.0.0.1: seq="
	for _, tt := range []struct {
		out  string
		want PingLoss
	}{
		{"", PingLoss{}},
		{"--- 10.0.0.1 ping statistics ---\n0 packets transmitted, 0 packets received\n", PingLoss{}},
		{
			answer + "0 ttl=64 time=1 ms\n" + answer + "3 ttl=64 time=1 ms\n" + answer + "1 ttl=64 time=120 ms\n" +
				answer + "1 ttl=64 time=121 ms (DUP!)\n" + answer + "6 ttl=64 time=1 ms\n" +
				"\n--- 10.0.0.1 ping statistics ---\n8 packets transmitted, 4 packets received, 1 duplicates\n",
			PingLoss{Sent: 7, Lost: 3, Duplicates: 1, Gap: 100 * time.Millisecond},
		},
	} {
		got, err := parsePing(tt.out, 50*time.Millisecond)
		if got != tt.want || (err != nil) != (tt.out == "") {
			t.Errorf("%q: got %v, %v, want %v", tt.out, got, err, tt.want)
		}
	}
}
