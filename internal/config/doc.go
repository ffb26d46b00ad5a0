// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package config reads and writes the spec: the YAML in which a site declares
// its switches, networks and guests.
//
// Reading is strict. A key that is not known, a key given twice or a value that
// makes no sense is an [*Error] naming file and line, what was wrong and what
// would be right; all of a file's are reported at once. The result is a
// [vnet.Topology] that passed [vnet.Topology.Validate].
//
// Out of scope: what the words mean, which is package vnet's.
package config
