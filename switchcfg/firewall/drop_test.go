// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package firewall

import "testing"

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
