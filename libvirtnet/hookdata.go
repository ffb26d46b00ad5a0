// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet

import (
	"errors"
	"fmt"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// HookNetwork is what libvirt tells its network hook
// (https://libvirt.org/hooks.html#etc-libvirt-hooks-network).
type HookNetwork struct {
	// Name, UUID and Bridge are the network's. Bridge is empty where guests
	// plug into a host device.
	Name   string `json:"name"`
	UUID   string `json:"uuid,omitempty"`
	Bridge string `json:"bridge,omitempty"`
	// Owned reports whether the network carries our mark.
	Owned bool `json:"owned,omitempty"`
	// Record is what the network itself says of the spec: see [WithRecord].
	Record string `json:"record,omitempty"`
	// Port is the guest NIC that plugs in or out; nil when the event is about
	// the network alone.
	Port *HookPort `json:"port,omitempty"`
}

// HookPort is a guest NIC at a network. Its device does not exist yet.
type HookPort struct {
	UUID      string        `json:"uuid,omitempty"`
	Owner     vnet.GuestRef `json:"owner"`
	MAC       vnet.MAC      `json:"mac"`
	Portgroup string        `json:"portgroup,omitempty"`
	// Bridge is the switch it will be on.
	Bridge string `json:"bridge,omitempty"`
}

type hookDataXML struct {
	Network struct {
		Name   string `xml:"name"`
		UUID   string `xml:"uuid"`
		Bridge struct {
			Name string `xml:"name,attr"`
		} `xml:"bridge"`
		Marks []markXML `xml:"metadata>network"`
	} `xml:"network"`
	Port *struct {
		UUID  string `xml:"uuid"`
		Owner struct {
			Name string `xml:"name"`
			UUID string `xml:"uuid"`
		} `xml:"owner"`
		MAC struct {
			Address string `xml:"address,attr"`
		} `xml:"mac"`
		Group string `xml:"group"`
		Plug  struct {
			Bridge string `xml:"bridge,attr"`
		} `xml:"plug"`
	} `xml:"networkport"`
}

// ParseHookNetwork reads the <hookData> on the standard input of a network
// hook, in the form it has since libvirt 5.5.0. Errors are as with
// [ParseDomain].
func ParseHookNetwork(data []byte) (HookNetwork, error) {
	var x hookDataXML
	if err := decode(data, "hookData", &x); err != nil {
		return HookNetwork{}, err
	}
	if x.Network.Name == "" {
		return HookNetwork{}, errors.New("hookData XML: /hookData/network/name: missing: want the name of the network")
	}
	n := HookNetwork{Name: x.Network.Name, Bridge: x.Network.Bridge.Name, Owned: ours(x.Network.Marks), Record: record(x.Network.Marks)}
	var err error
	if x.Network.UUID != "" {
		if n.UUID, err = parseUUID("hookData XML: /hookData/network/uuid", x.Network.UUID); err != nil {
			return HookNetwork{}, err
		}
	}
	if x.Port == nil {
		return n, nil
	}
	const path = "hookData XML: /hookData/networkport"
	port := &HookPort{Portgroup: x.Port.Group, Bridge: x.Port.Plug.Bridge, Owner: vnet.GuestRef{Name: x.Port.Owner.Name}}
	if port.UUID, err = parseUUID(path+"/uuid", x.Port.UUID); err != nil {
		return HookNetwork{}, err
	}
	if port.Owner.UUID, err = parseUUID(path+"/owner/uuid", x.Port.Owner.UUID); err != nil {
		return HookNetwork{}, err
	}
	if port.MAC, err = vnet.ParseMAC(x.Port.MAC.Address); err != nil {
		return HookNetwork{}, fmt.Errorf("%s/mac/@address: %w", path, err)
	}
	n.Port = port
	return n, nil
}
