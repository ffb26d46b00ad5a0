// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovsdb

import (
	"strings"
	"testing"
)

func TestPortNames(t *testing.T) {
	t.Parallel()
	for many, want := range map[string]string{
		"vnet0":               "port vnet0",
		"vnet0 vnet1":         "port vnet0, vnet1",
		"a b c d e f g h":     "port a, b, c, d, e, f, g, h",
		"a b c d e f g h i j": "port a, b, c, d, e, f, g, h and 2 more",
	} {
		if got := PortNames(strings.Fields(many)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
