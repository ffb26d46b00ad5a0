// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"slices"

	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Recall returns dom with the networks of NICs that libvirt has forgotten.
// Changing a NIC of a running guest, as virsh domif-setlink does, makes libvirt
// take its own live XML as the definition, and that says only which bridge or
// device the NIC is on (seen with 9.0.0). The record of the guest knows the
// network of every NIC that was wired, by MAC and device.
func Recall(store state.Store, dom libvirtnet.Domain) libvirtnet.Domain {
	forgotten := func(nic libvirtnet.DomainNIC) bool {
		return nic.Network == "" && nic.Device != "" && (nic.Type == "bridge" || nic.Type == "direct")
	}
	if !slices.ContainsFunc(dom.NICs, forgotten) {
		return dom
	}
	record, err := store.Guest(dom.UUID)
	if err != nil {
		return dom // no record: nothing of this guest was ours
	}
	dom.NICs = slices.Clone(dom.NICs)
	for i, nic := range dom.NICs {
		known := slices.IndexFunc(record.Ports, func(p vnet.Port) bool { return p.MAC == nic.MAC && p.Device == nic.Device })
		if forgotten(nic) && known >= 0 {
			dom.NICs[i].Network, dom.NICs[i].Portgroup = record.Ports[known].Network, record.Ports[known].Portgroup
		}
	}
	return dom
}
