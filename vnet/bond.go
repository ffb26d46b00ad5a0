// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Bond is the uplink of an Open vSwitch bridge as a bond of several devices
// (ovs-vswitchd.conf.db(5), Port table, "Bonding Configuration"). Without members
// the uplink is none, or somebody else's.
type Bond struct {
	Members []string `json:"members,omitempty"` // devices of the host
	Mode    BondMode `json:"mode,omitempty"`
	LACP    LACP     `json:"lacp,omitempty"`
	// Fast has LACP's partner tell every second, and not every 30, that it is there.
	Fast bool `json:"fast,omitempty"`
	// Fallback makes the bond active-backup as long as LACP finds no partner.
	Fallback bool `json:"fallback,omitempty"`
	// Primary is the member that an active-backup bond uses if it can.
	Primary string `json:"primary,omitempty"`
}

// IsZero reports whether there is none.
func (b Bond) IsZero() bool { return len(b.Members) == 0 }

// String returns such as "eth0 eth1, balance-tcp, LACP active fast", or "none".
func (b Bond) String() string {
	if b.IsZero() {
		return "none"
	}
	text := fmt.Sprintf("%s, %s, LACP %s", strings.Join(b.Members, " "), b.Mode, b.LACP)
	if b.Fast {
		text += " fast"
	}
	if b.Fallback {
		text += ", falls back"
	}
	if b.Primary != "" {
		text += ", primary " + b.Primary
	}
	return text
}

// BondMode is how a bond uses its members. The zero BondMode means active-backup.
type BondMode int

// The bond modes.
const (
	// BondActiveBackup uses one, and another when it fails.
	BondActiveBackup BondMode = iota
	// BondSLB spreads by source MAC address and VLAN.
	BondSLB
	// BondTCP spreads by connections. It needs LACP.
	BondTCP
)

var bondNames = names{"active-backup", "balance-slb", "balance-tcp"}

// String returns the word that the spec and Open vSwitch use.
func (m BondMode) String() string { return bondNames.name(int(m)) }

// MarshalText implements [encoding.TextMarshaler].
func (m BondMode) MarshalText() ([]byte, error) { return bondNames.marshal(int(m)) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *BondMode) UnmarshalText(text []byte) error {
	n, err := bondNames.parse("bond mode", text)
	*m = BondMode(n)
	return err
}

// BondModes returns the words [BondMode] reads.
func BondModes() []string { return slices.Clone(bondNames) }

// LACP is whether a bond negotiates with what is at the other end (IEEE 802.1AX).
// The zero LACP means off.
type LACP int

// The ways.
const (
	LACPOff     LACP = iota
	LACPPassive      // if the other end asks
	LACPActive
)

var lacpNames = names{"off", "passive", "active"}

// String returns the word that the spec and Open vSwitch use.
func (l LACP) String() string { return lacpNames.name(int(l)) }

// MarshalText implements [encoding.TextMarshaler].
func (l LACP) MarshalText() ([]byte, error) { return lacpNames.marshal(int(l)) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (l *LACP) UnmarshalText(text []byte) error {
	n, err := lacpNames.parse("LACP", text)
	*l = LACP(n)
	return err
}

// LACPs returns the words [LACP] reads.
func LACPs() []string { return slices.Clone(lacpNames) }

// bond checks the uplink that is to be made of several devices.
func (o object) bond(s Switch) {
	b := s.Bond
	if reflect.DeepEqual(b, Bond{}) {
		return
	}
	if s.Driver != DriverOVS && s.Driver != 0 {
		o.conflict("bond", "bond with driver: "+s.Driver.String(), "driver: ovs")
	}
	if s.Uplink == "" {
		o.missing("uplink", "uplink: what the bond is called on the bridge")
	}
	seen := map[string]bool{s.Uplink: true}
	for i, device := range b.Members {
		field := fmt.Sprintf("bond.members.%d", i)
		o.device(field, device)
		if seen[device] {
			o.duplicate(field, device+" twice, or as the bond's own name", "each device once")
		}
		seen[device] = true
	}
	o.bondMode(b)
}

// bondMode checks what goes together.
func (o object) bondMode(b Bond) {
	switch {
	case len(b.Members) < 2:
		o.missing("bond.members", "bond.members: two devices at least")
	case b.Mode == BondTCP && b.LACP == LACPOff:
		o.conflict("bond.lacp", "mode: balance-tcp without LACP", "lacp: active or passive")
	case b.LACP == LACPOff && (b.Fast || b.Fallback):
		o.conflict("bond.lacp", "lacp_time or lacp_fallback without LACP", "lacp: active or passive")
	case b.Primary != "" && (!slices.Contains(b.Members, b.Primary) || b.Mode != BondActiveBackup):
		o.conflict("bond.primary", "primary: "+b.Primary, "a member of a bond with mode: active-backup")
	}
}
