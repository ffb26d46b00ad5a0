// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package guardtest holds what a guard lets through, frame by frame, so that every
// driver's guards can be shown to mean the same, and a wire to send the frames
// over.
//
// Out of scope: how a driver puts a guard into force.
package guardtest
