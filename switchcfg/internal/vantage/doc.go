// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package vantage is what drivers share when they lend a device to look from
// (switchcfg.Vantager): its name, the mark by which a later process tells
// whether the one that made it still lives, and keeping the host's own IP stack
// off it.
//
// Out of scope: making the device, which is each switch's own business.
package vantage
