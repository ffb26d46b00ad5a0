// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package docs holds the reference pages. Its tests make them from the code, so
// that they cannot be out of date.
package docs
