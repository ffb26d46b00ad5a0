// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard_test

import (
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/guard"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest/guardtest"
)

func TestMain(m *testing.M) { lab.Main(m) }

// newWire starts a lab with a wire.
func newWire(t *testing.T) *guardtest.Wire {
	t.Helper()
	lab.Need(t)
	l := labtest.Start(t, lab.Options{})
	if err := l.AddLinuxBridge(t.Context(), "br0"); err != nil {
		t.Fatal(err)
	}
	return guardtest.NewWire(t, l, "br0")
}

func open(t testing.TB) *guard.Conn {
	t.Helper()
	c, err := guard.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func set(t testing.TB, c *guard.Conn, ports ...guard.Port) {
	t.Helper()
	if err := c.Set(t.Context(), ports); err != nil {
		t.Fatal(err)
	}
}

// TestTraffic sends each frame without a tag and with one of either kind, first
// past no guard, so that the probe is known to see what must not be, and then
// past the guard.
func TestTraffic(t *testing.T) {
	w := newWire(t)
	c := open(t)
	for _, tt := range guardtest.Cases() {
		t.Run(tt.Name, func(t *testing.T) {
			trySamples(t, w, c, guard.Port{Index: w.Index, Guard: tt.Guard}, tt.Samples)
		})
	}
	t.Run("priority", func(t *testing.T) {
		trySamples(t, w, c, guard.Port{Index: w.Index, Priority: 5}, guardtest.Unguarded())
	})
}

func trySamples(t *testing.T, w *guardtest.Wire, c *guard.Conn, port guard.Port, samples []guardtest.Sample) {
	t.Helper()
	for _, s := range samples {
		set(t, c, guard.Port{Index: w.Index})
		for _, v := range guardtest.Variants(s) {
			if !w.Passes(t, v.Frame) {
				t.Errorf("%s: does not pass without a guard", v.Name)
			}
		}
		set(t, c, port)
		for _, v := range guardtest.Variants(s) {
			if got := w.Passes(t, v.Frame); got != v.Passes {
				t.Errorf("%s: passes: %t, want %t", v.Name, got, v.Passes)
			}
		}
	}
}
