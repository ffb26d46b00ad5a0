// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package switchtest holds what tests of switches share: [Conformance], the
// suite that every driver passes against the real thing, and [Host], a host in
// memory whose driver passes it too, for tests of what stands on drivers.
//
// Out of scope: making real switches (internal/lab does), and traffic, which
// each driver proves in its own tests.
package switchtest
