// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab_test

import (
	"net/netip"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// start returns a lab that is closed when the test ends.
func start(t *testing.T, opts lab.Options) *lab.Lab {
	t.Helper()
	l, err := lab.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}

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
