// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package switchcfg says how the ports of a switch should be, how they are, and
// what leads from one to the other.
//
//	want, _ := switchcfg.Desired(ports, sw)
//	have, _ := driver.Observe(ctx, switchcfg.Scope{Devices: want.Devices()})
//	plan, _ := switchcfg.Diff(want, have, owner)
//	applied, err := driver.Apply(ctx, plan)
//
// The package is pure. The drivers, which touch switches, are its
// subdirectories; package drivers maps their names to constructors, and
// switchtest holds the suite every driver passes.
//
// Out of scope: making bridges, and everything above layer 2 but the MTU.
package switchcfg
