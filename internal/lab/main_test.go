// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab_test

import (
	"net/netip"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}
