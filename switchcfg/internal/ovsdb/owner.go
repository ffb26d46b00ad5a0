// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovsdb

import (
	"fmt"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// The keys of external_ids that make the mark of an owner, in the tables of Open
// vSwitch as in those of OVN.
const (
	KeyGuest   = "virt-vnet-guest"
	KeyMAC     = "virt-vnet-mac"
	KeyNetwork = "virt-vnet-network"
)

// Owner reads the mark in external_ids. A mark without a readable MAC is still
// ours.
func (d Dict) Owner() switchcfg.Owner {
	mac, _ := vnet.ParseMAC(d[KeyMAC])
	return switchcfg.Owner{Guest: d[KeyGuest], MAC: mac, Network: d[KeyNetwork]}
}

// PortNames names the ports that a transaction is about, for errors and comments:
// of many, the first.
func PortNames(devices []string) string {
	const most = 8
	if more := len(devices) - most; more > 0 {
		return fmt.Sprintf("port %s and %d more", strings.Join(devices[:most], ", "), more)
	}
	return "port " + strings.Join(devices, ", ")
}
