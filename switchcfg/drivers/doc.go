// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package drivers is the one place that knows every switch driver: [Open] opens
// the one that a switch names, [Detect] finds out which one a switch needs.
//
// Out of scope: everything else. A caller that has opened a driver speaks
// through the interfaces of package switchcfg.
package drivers
