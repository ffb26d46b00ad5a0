// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package labtest starts a lab for a test. It is apart from package lab, which
// the demo uses, so that programs do not import package testing.
package labtest

import (
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

// Start returns a lab that is closed when the test or benchmark ends. Call
// [lab.Need] before.
func Start(t testing.TB, opts lab.Options) *lab.Lab {
	t.Helper()
	l, err := lab.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(t.Context()); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return l
}

// StartCluster is Start for a lab with hosts in it.
func StartCluster(t testing.TB, opts lab.ClusterOptions) *lab.Cluster {
	t.Helper()
	c, err := lab.StartCluster(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(t.Context()); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return c
}
