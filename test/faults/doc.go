// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package faults proves that virt-vnet verify names causes and blames nobody
// else. Its tests put one fault after the other into a lab with real guests, run
// the program as a user would, and heal the fault, where that can be by the very
// command that the finding names.
//
// Faults of a Linux bridge's VLANs need Debian's kernel, and are in TestVLANHost.
//
// To add a fault, add an entry to the table in table_test.go.
package faults
