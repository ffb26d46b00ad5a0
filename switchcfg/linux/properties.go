// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"fmt"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
)

// Property is something that the driver can make a port, or a bridge, do.
type Property struct {
	// Name is unique; the tests prove each by it.
	Name string
	// Keys are the keys of the spec that ask for it.
	Keys []string
	// Feature is what a host must be able to do for it, if it may lack it.
	Feature switchcfg.Feature
	// Kernel is the first version of Linux that can, and Options what it must be
	// built with (zcat /proc/config.gz), beyond CONFIG_BRIDGE.
	Kernel  string
	Options []string
}

// Properties returns them all, in the order of docs/drivers.md.
func Properties() []Property {
	vlan, nft := []string{"CONFIG_BRIDGE_VLAN_FILTERING"}, []string{"CONFIG_NF_TABLES", "CONFIG_NF_TABLES_BRIDGE"}
	police := []string{"CONFIG_NET_SCH_INGRESS", "CONFIG_NET_CLS_MATCHALL", "CONFIG_NET_ACT_POLICE"}
	flag := func(f switchcfg.Flag, key, kernel string) Property {
		return Property{Name: f.String(), Keys: []string{key}, Feature: f.Feature(), Kernel: kernel}
	}
	fastLeave := flag(switchcfg.FlagFastLeave, "fast_leave", "3.8")
	fastLeave.Options = []string{"CONFIG_BRIDGE_IGMP_SNOOPING"}
	return []Property{
		{"access VLAN", []string{"vlan"}, switchcfg.FeatureVLAN, "5.6", vlan},
		{"trunk", []string{"trunk"}, switchcfg.FeatureVLAN, "5.6", vlan},
		{"native VLAN", []string{"native", "native_tagged"}, switchcfg.FeatureVLAN, "5.6", vlan},
		{"uplink VLANs", []string{"uplink", "bridge"}, switchcfg.FeatureVLAN, "5.6", vlan},
		{"bridge settings", []string{"bridge"}, switchcfg.FeatureBridge, "4.4", vlan},
		{"MTU", []string{"mtu"}, "", "2.6", nil},
		flag(switchcfg.FlagIsolated, "isolated", "4.18"),
		flag(switchcfg.FlagLearning, "learning", "3.11"),
		flag(switchcfg.FlagFlood, "flood", "3.11"),
		flag(switchcfg.FlagMulticastFlood, "mcast_flood", "4.9"),
		flag(switchcfg.FlagBroadcastFlood, "bcast_flood", "4.12"),
		fastLeave,
		flag(switchcfg.FlagNeighSuppress, "neigh_suppress", "4.15"),
		flag(switchcfg.FlagBPDUGuard, "bpdu_guard", "3.8"),
		flag(switchcfg.FlagRootBlock, "root_block", "3.8"),
		{"anti-spoofing", []string{"anti_spoof", "allow"}, switchcfg.FeatureAntiSpoof, "5.6", nft},
		{"DHCP guard", []string{"dhcp_guard"}, switchcfg.FeatureDHCPGuard, "5.6", nft},
		{"RA guard", []string{"ra_guard"}, switchcfg.FeatureRAGuard, "5.6", nft},
		{"inbound rate", []string{"qos.inbound"}, switchcfg.FeatureInbound, "3.15", []string{"CONFIG_NET_SCH_TBF"}},
		{"outbound rate", []string{"qos.outbound"}, switchcfg.FeatureOutbound, "4.8", police},
		{"priority", []string{"qos.priority"}, switchcfg.FeaturePriority, "5.6", nft},
	}
}

// lacks says that this kernel cannot do something, and what it would need.
func lacks(f switchcfg.Feature) string {
	for _, p := range Properties() {
		if p.Feature == f {
			return fmt.Sprintf("this kernel has no %s (%s, Linux %s)", p.Name, strings.Join(p.Options, ", "), p.Kernel)
		}
	}
	return fmt.Sprintf("this kernel has no %s", f)
}
