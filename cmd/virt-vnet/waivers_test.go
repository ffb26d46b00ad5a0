// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"testing"

	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestKnownCodes(t *testing.T) {
	if err := knownCodes([]vnet.Waiver{{Code: verify.CodeWrongVLAN}, {Guest: "web1"}}); err != nil {
		t.Error(err)
	}
	const want = "spec.yaml:3: no problem has the code WRONG_VLNA; docs/checks.md lists them"
	if err := knownCodes([]vnet.Waiver{{Code: "WRONG_VLNA", Where: "spec.yaml:3"}}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
