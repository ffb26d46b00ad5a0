// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package leftovers holds the tests which look at labs from outside: that they
// run side by side, that they pass signals and exit statuses on, and that they
// leave nothing behind in whatever way they end. It has no code of its own;
// what a lab does inside is tested in package lab.
package leftovers
