// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet

import (
	"fmt"

	"libvirt.org/go/libvirtxml"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// InterfaceXML returns the <interface> of a guest for nic in the network n
// (https://libvirt.org/formatdomain.html#network-interfaces). A network whose
// mode is zero is one that the spec does not know: only its name is used. A
// NIC without a MAC address gets one from libvirt.
//
// VLANs and isolation are the network's and its portgroup's: they are not
// copied into the guest, where they would stay when the network changes. The
// MTU of a bridge network is, because only the interface can carry it, and
// because a virtio guest then sees it too. It is for guests on a switch:
// libvirt refuses it on a macvtap, which has the MTU of its device.
//
// The interface id is for guests on OVN. Without one libvirt makes up another
// each time that the guest starts, and on each host that it moves to.
//
// Queues and ring sizes are QEMU's to honour: a transmit ring above 256 has an
// effect only on vhost-user ports. The vhost driver is not named: libvirt
// takes vhost-net where the host has it, and QEMU's own where not.
func InterfaceXML(nic vnet.NIC, n vnet.Network) (string, error) {
	if _, ok := n.PolicyFor(nic.Portgroup); !ok && n.Mode != 0 {
		return "", fmt.Errorf("network %s: portgroup %s: not there: want one of the network's, or none", n.Name, nic.Portgroup)
	}
	x := libvirtxml.DomainInterface{
		Source: &libvirtxml.DomainInterfaceSource{
			Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: n.Name, PortGroup: nic.Portgroup},
		},
		Model: &libvirtxml.DomainInterfaceModel{Type: nic.Model.String()},
	}
	if !nic.MAC.IsZero() {
		x.MAC = &libvirtxml.DomainInterfaceMAC{Address: nic.MAC.String()}
	}
	if nic.InterfaceID != "" {
		x.VirtualPort = &libvirtxml.DomainInterfaceVirtualPort{
			Params: &libvirtxml.DomainInterfaceVirtualPortParams{
				OpenVSwitch: &libvirtxml.DomainInterfaceVirtualPortParamsOpenVSwitch{InterfaceID: nic.InterfaceID},
			},
		}
	}
	if nic.Queues != 0 || nic.RXRing != 0 || nic.TXRing != 0 {
		x.Driver = &libvirtxml.DomainInterfaceDriver{
			Queues:      uint(nic.Queues),
			RXQueueSize: uint(nic.RXRing),
			TXQueueSize: uint(nic.TXRing),
		}
	}
	if n.MTU != 0 && n.Mode == vnet.ModeBridge {
		x.MTU = &libvirtxml.DomainInterfaceMTU{Size: uint(n.MTU)}
	}
	text, err := x.Marshal()
	return tidy(text), err
}

// InterfaceElement returns the <interface> with that MAC address as it stands in
// a domain's XML, which is what libvirt wants to see to take it out again. It is
// empty when there is none. Errors are as with [ParseDomain].
func InterfaceElement(domainXML []byte, mac vnet.MAC) (string, error) {
	domain, err := parseTree(domainXML, "domain")
	if err != nil {
		return "", err
	}
	devices := domain.child("devices")
	if devices == nil {
		return "", nil
	}
	for _, c := range devices.children {
		if c.name.Local != "interface" {
			continue
		}
		if got, err := vnet.ParseMAC(c.child("mac").attr("address")); err == nil && got == mac {
			return string(c.raw), nil
		}
	}
	return "", nil
}
