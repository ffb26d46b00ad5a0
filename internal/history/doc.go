// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package history remembers what verifications found, and says what changed
// between them.
package history
