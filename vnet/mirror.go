// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"net/netip"
	"slices"
	"strings"
)

// Mirror has an Open vSwitch bridge send a copy of frames somewhere else
// (ovs-vswitchd.conf.db(5), Mirror table). What it takes are the frames of All
// ports, or else those of Ports, Guests and Networks; with VLANs, only those in
// these. It sends them to exactly one of ToPort, ToGuest, ToVLAN and ToAddress.
type Mirror struct {
	Name string `json:"name"`

	// All takes the frames of every port. VLANs alone imply it.
	All bool `json:"all,omitempty"`
	// Ports are devices on the bridge, Guests names of guests, or GUEST/NETWORK
	// for the NICs in one network, and Networks those whose guests are meant.
	Ports    []string `json:"ports,omitempty"`
	Guests   []string `json:"guests,omitempty"`
	Networks []string `json:"networks,omitempty"`
	// Direction is seen from what is behind the port, as with QoS: in is what
	// leaves the bridge there. Zero is both.
	Direction Direction  `json:"direction,omitempty"`
	VLANs     VLANRanges `json:"vlans,omitempty"`

	// ToPort is a device on the bridge, which is then for nothing else (SPAN).
	ToPort string `json:"toPort,omitempty"`
	// ToGuest is a guest, or GUEST/NETWORK, whose port is then for nothing else.
	ToGuest string `json:"toGuest,omitempty"`
	// ToVLAN is a VLAN of the bridge, which learns no addresses in it (RSPAN).
	ToVLAN VLANID `json:"toVLAN,omitempty"`
	// ToAddress is where the frames are sent in GRE (ERSPAN), with Session, 0 to
	// 1023, and ERSPAN's Version, 1 or 2; zero is 1.
	ToAddress netip.Addr `json:"toAddress,omitzero"`
	Session   int        `json:"session,omitempty"`
	Version   int        `json:"version,omitempty"`

	// Snaplen is how many bytes of a frame are sent, 14 to 65535. Zero is all.
	Snaplen int `json:"snaplen,omitempty"`
}

// Takes reports whether the frames of the guest's NIC in that network are taken.
func (m Mirror) Takes(guest, network string) bool {
	return slices.Contains(m.Networks, network) ||
		slices.ContainsFunc(m.Guests, func(who string) bool { return isNIC(who, guest, network) })
}

// IsTo reports whether the frames are sent to the guest's NIC in that network.
func (m Mirror) IsTo(guest, network string) bool { return isNIC(m.ToGuest, guest, network) }

// isNIC reports whether who, GUEST or GUEST/NETWORK, is that NIC.
func isNIC(who, guest, network string) bool {
	name, only, one := strings.Cut(who, "/")
	return who != "" && name == guest && (!one || only == network)
}
