// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package archtest holds the rules of the repository as tests: which package
// may import which, what every package and file must have, and that no example
// is left untested. It has no code of its own.
package archtest
