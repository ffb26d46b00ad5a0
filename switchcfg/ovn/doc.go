// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package ovn drives OVN through its northbound database (ovn-nb(5)), and looks
// at this host's chassis through OVSDB (RFC 7047).
//
// A network is the logical switch of its name, with external_ids
// virt-vnet-network.
package ovn
