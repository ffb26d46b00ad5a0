// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet

// ManagedMACTable returns the bridge whose MAC table libvirt fills itself for the
// network of that definition (macTableManager='libvirt'), or nothing. It sets the
// bridge's ports up for that: VLAN filtering on, learning and flooding off.
func ManagedMACTable(networkXML string) (bridge string) {
	t, err := parseTree([]byte(networkXML), "network")
	if err != nil {
		return ""
	}
	if b := t.child("bridge"); b.attr("macTableManager") == "libvirt" {
		return b.attr("name")
	}
	return ""
}
