// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Domain is the part of a libvirt domain that wiring needs.
type Domain struct {
	Name string `json:"name"`
	// UUID is in libvirt's form, lower case with dashes. It is empty in XML
	// that libvirt has not seen yet.
	UUID string `json:"uuid,omitempty"`
	// NICs are in the order of the XML.
	NICs []DomainNIC `json:"nics,omitempty"`
	// Record is what the guest's metadata says of the spec: see [GuestRecord].
	Record string `json:"record,omitempty"`
	// Agent is set in the XML of a running guest in which a QEMU guest agent
	// has opened its channel.
	Agent bool `json:"agent,omitempty"`
}

// Ref returns the name and UUID of the domain.
func (d Domain) Ref() vnet.GuestRef { return vnet.GuestRef{Name: d.Name, UUID: d.UUID} }

// NIC returns the NIC with that MAC address.
func (d Domain) NIC(mac vnet.MAC) (DomainNIC, bool) {
	for _, nic := range d.NICs {
		if nic.MAC == mac {
			return nic, true
		}
	}
	return DomainNIC{}, false
}

// DomainNIC is one <interface> of a domain. What the XML does not say is zero.
//
// A NIC in a libvirt network has Type "network" while the guest is off. In the
// XML of a running one Type is what the network made of it: "bridge" on a switch,
// "direct" on a host device, and still "network" on a bridge that libvirt made.
// Network names the network in any case.
type DomainNIC struct {
	// Index counts the NICs of the domain from zero.
	Index int `json:"index"`
	// Type is libvirt's: network, bridge, direct, ethernet, user, hostdev, ...
	Type  string   `json:"type"`
	MAC   vnet.MAC `json:"mac"`
	Model string   `json:"model,omitempty"`
	// Network and Portgroup are those of <source>.
	Network   string `json:"network,omitempty"`
	Portgroup string `json:"portgroup,omitempty"`
	// Bridge is the switch that libvirt plugs the NIC into.
	Bridge string `json:"bridge,omitempty"`
	// SourceDev and SourceMode are the host device of a macvtap and its mode.
	SourceDev  string `json:"sourceDev,omitempty"`
	SourceMode string `json:"sourceMode,omitempty"`
	// Device is the host's end, such as vnet0, known once libvirt has made it.
	Device string `json:"device,omitempty"`
	// VirtualPort is the type of <virtualport>: openvswitch, 802.1Qbg, ...
	VirtualPort string `json:"virtualPort,omitempty"`
	// InterfaceID is the id that Open vSwitch and OVN know the port by.
	InterfaceID string `json:"interfaceID,omitempty"`
	// VLAN is nil when the XML has no <vlan>. Tag 0 is an untagged port.
	VLAN *vnet.VLANSet `json:"vlan,omitempty"`
	// MTU is in bytes.
	MTU      int  `json:"mtu,omitempty"`
	Queues   int  `json:"queues,omitempty"`
	Isolated bool `json:"isolated,omitempty"`
	// LinkDown is set when the guest is shown an unplugged cable.
	LinkDown bool `json:"linkDown,omitempty"`
	// Limited is set when libvirt limits the NIC (<bandwidth>).
	Limited bool `json:"limited,omitempty"`
	// MACTable is set when libvirt fills the MAC table of the NIC's bridge
	// itself (macTableManager='libvirt'), and sets its ports up for that.
	MACTable bool `json:"macTable,omitempty"`
	// Alias is the name of the device in the domain, such as net0.
	Alias string `json:"alias,omitempty"`
}

// ParseDomain reads the parts of a domain XML that wiring needs
// (https://libvirt.org/formatdomain.html). It takes whatever libvirt writes,
// also settings that a spec could not have, so that it never stands in the way
// of a guest that is none of ours. Everything else (no XML, a truncated
// document, another root element, more than [MaxXML] bytes, a value that
// libvirt would not write) is an error that says where and what would be right.
func ParseDomain(data []byte) (Domain, error) {
	var x domainXML
	if err := decodeBy(data, "domain", x.read); err != nil {
		return Domain{}, err
	}
	d := Domain{Name: x.Name, Record: strings.TrimSpace(x.Record), Agent: x.Agent}
	if d.Name == "" {
		return Domain{}, errors.New("domain XML: /domain/name: missing: want the name of the guest")
	}
	var err error
	if x.UUID != "" {
		if d.UUID, err = parseUUID("domain XML: /domain/uuid", x.UUID); err != nil {
			return Domain{}, err
		}
	}
	for i := range x.NICs {
		nic, err := x.NICs[i].parse(fmt.Sprintf("domain XML: /domain/devices/interface[%d]", i+1))
		if err != nil {
			return Domain{}, err
		}
		nic.Index = i
		d.NICs = append(d.NICs, nic)
	}
	return d, nil
}

// parse returns the NIC as the model has it. path is where it stands.
func (x *nicXML) parse(path string) (DomainNIC, error) {
	if x.Type == "" {
		return DomainNIC{}, fmt.Errorf("%s/@type: missing: want network, bridge, direct or another of libvirt's", path)
	}
	nic := DomainNIC{
		Type:        x.Type,
		Model:       x.Model,
		Network:     x.Network,
		Portgroup:   x.Portgroup,
		Bridge:      x.Bridge,
		SourceDev:   x.SourceDev,
		SourceMode:  x.SourceMode,
		Device:      x.Device,
		VirtualPort: x.VirtualPort,
		InterfaceID: x.InterfaceID,
		Isolated:    x.Isolated == "yes",
		LinkDown:    x.Link == "down",
		Limited:     x.Inbound != "" || x.Outbound != "",
		MACTable:    x.MACTable == "libvirt",
		Alias:       x.Alias,
	}
	var err error
	if x.MAC != "" {
		if nic.MAC, err = vnet.ParseMAC(x.MAC); err != nil {
			return DomainNIC{}, fmt.Errorf("%s/mac/@address: %w", path, err)
		}
	}
	if nic.MTU, err = parseNumber(path+"/mtu/@size", x.MTU, vnet.MaxMTU); err != nil {
		return DomainNIC{}, err
	}
	if nic.Queues, err = parseNumber(path+"/driver/@queues", x.Queues, 1<<16); err != nil {
		return DomainNIC{}, err
	}
	if x.VirtualPort == "openvswitch" && x.InterfaceID != "" {
		if nic.InterfaceID, err = parseUUID(path+"/virtualport/parameters/@interfaceid", x.InterfaceID); err != nil {
			return DomainNIC{}, err
		}
	}
	nic.VLAN, err = x.VLAN.parse(path + "/vlan")
	return nic, err
}

// maxTag is the highest tag that libvirt takes. It is not a valid VLAN.
const maxTag = 4095

func tagError(path string, i int, text string) error {
	got := strconv.Quote(text)
	if text == "" {
		got = "missing"
	}
	return fmt.Errorf("%s/tag[%d]/@id: %s: want a number from 0 to %d", path, i+1, got, maxTag)
}

// parse returns nil for no tags. Libvirt takes several tags, or a native one,
// as a trunk even without trunk='yes' (virNetDevVlanParse).
func (x vlanXML) parse(path string) (*vnet.VLANSet, error) {
	if len(x.Tags) == 0 {
		return nil, nil //nolint:nilnil // no <vlan> is no error: nil is "the XML does not say"
	}
	var set vnet.VLANSet
	trunk := x.Trunk == "yes" || len(x.Tags) > 1
	for i, tag := range x.Tags {
		// Built only for an error: a trunk of all VLANs has 4,094 tags.
		n, err := parseNumber("", tag.ID, maxTag)
		if err != nil || tag.ID == "" {
			return nil, tagError(path, i, tag.ID)
		}
		id := vnet.VLANID(n)
		if tag.NativeMode != "" {
			trunk = true
			set.Native, set.NativeTagged = id, tag.NativeMode == "tagged"
		}
		set.Trunk = append(set.Trunk, vnet.VLANRange{First: id, Last: id})
	}
	if !trunk {
		return &vnet.VLANSet{Access: set.Trunk[0].First}, nil
	}
	set.Trunk = set.Trunk.Normal()
	return &set, nil
}
