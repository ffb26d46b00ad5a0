// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestWhole(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name  string
		fails int // the first dumps
		with  error
		dumps int
		err   error
	}{
		{"whole at once", 0, nil, 1, nil},
		{"links keep changing for a while", 7, netlink.ErrDumpInterrupted, 8, nil},
		{"links never come to rest", 100, netlink.ErrDumpInterrupted, 9, netlink.ErrDumpInterrupted},
		{"not interrupted", 1, broken, 1, broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dumps := 0
			list, err := whole(func() ([]int, error) {
				if dumps++; dumps <= tt.fails {
					return []int{1}, tt.with
				}
				return []int{1, 2}, nil
			})
			if !errors.Is(err, tt.err) || dumps != tt.dumps {
				t.Fatalf("after %d dumps: %v, want after %d: %v", dumps, err, tt.dumps, tt.err)
			}
			if err == nil && len(list) != 2 {
				t.Errorf("list is %v, want the whole one", list)
			}
		})
	}
}
