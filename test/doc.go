// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package test holds the whole-system tests: the programs as they are built,
// on a real libvirtd, real QEMU guests and real switches, in a lab.
package test
