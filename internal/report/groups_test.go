// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"testing"

	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestGroups checks that NICs with the same fault read as one, and that causes
// which many share do not.
func TestGroups(t *testing.T) {
	of := func(subject string, guests ...string) verify.Problem {
		p := verify.Problem{Problem: vnet.Problem{Code: "C", Subject: subject, Got: "down"}}
		for _, g := range guests {
			p.Affects = append(p.Affects, verify.Endpoint{Guest: g})
		}
		return p
	}
	got := groups(Result{}, []verify.Problem{
		of("guest a, NIC vnet0", "a"), of("uplink eth0", "a", "b"), of("guest b, NIC vnet1", "b"), of("uplink eth1", "c", "d"),
	})
	if len(got) != 3 || len(got[0]) != 2 || len(got[1]) != 1 || len(got[2]) != 1 {
		t.Errorf("got %d groups: %+v", len(got), got)
	}
}
