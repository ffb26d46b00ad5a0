// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard_test

import (
	"fmt"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/guard"
)

// present is how many guarded ports there are already.
func present() []int { return []int{10, 1000} }

// crowd guards n ports.
func crowd(b *testing.B, n int) *guard.Conn {
	b.Helper()
	lab.Need(b)
	labtest.Start(b, lab.Options{})
	c := open(b)
	if err := c.Sweep(b.Context(), func(int) bool { return false }); err != nil {
		b.Fatal(err)
	}
	ports := make([]guard.Port, n)
	for i := range ports {
		ports[i] = portN(100 + i)
	}
	set(b, c, ports...)
	return c
}

// BenchmarkSet guards one more port, and lets go of it.
func BenchmarkSet(b *testing.B) {
	for _, n := range present() {
		b.Run(fmt.Sprint("ports=", n), func(b *testing.B) {
			c := crowd(b, n)
			for b.Loop() {
				set(b, c, portN(7))
				set(b, c, guard.Port{Index: 7})
			}
		})
	}
}

// BenchmarkPorts asks for one port.
func BenchmarkPorts(b *testing.B) {
	for _, n := range present() {
		b.Run(fmt.Sprint("ports=", n), func(b *testing.B) {
			c := crowd(b, n)
			for b.Loop() {
				if got, err := c.Ports(b.Context(), []int{101}); err != nil || len(got) != 1 {
					b.Fatal(got, err)
				}
			}
		})
	}
}

// BenchmarkAllPorts asks for all.
func BenchmarkAllPorts(b *testing.B) {
	for _, n := range present() {
		b.Run(fmt.Sprint("ports=", n), func(b *testing.B) {
			c := crowd(b, n)
			for b.Loop() {
				if got, err := c.Ports(b.Context(), nil); err != nil || len(got) != n {
					b.Fatal(len(got), err)
				}
			}
		})
	}
}

// BenchmarkFirst opens a connection, makes the table and removes it.
func BenchmarkFirst(b *testing.B) {
	c := crowd(b, 1)
	for b.Loop() {
		if err := c.Sweep(b.Context(), func(int) bool { return false }); err != nil {
			b.Fatal(err)
		}
		first := open(b)
		set(b, first, portN(7))
	}
}

// BenchmarkNothing asks where there is no table.
func BenchmarkNothing(b *testing.B) {
	c := crowd(b, 0)
	for b.Loop() {
		if _, err := c.Ports(b.Context(), []int{7}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTry(b *testing.B) {
	crowd(b, 0)
	for b.Loop() {
		if reason := guard.Try(b.Context()); reason != "" {
			b.Fatal(reason)
		}
	}
}
