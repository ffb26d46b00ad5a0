// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"fmt"
	"net"
)

// MAC is an Ethernet address (IEEE 802 EUI-48). It is comparable, unlike
// [net.HardwareAddr]. The zero MAC means none.
type MAC [6]byte

// ParseMAC reads an Ethernet address in any form [net.ParseMAC] takes.
func ParseMAC(text string) (MAC, error) {
	addr, err := net.ParseMAC(text)
	if err != nil || len(addr) != len(MAC{}) {
		return MAC{}, fmt.Errorf("%q is no MAC address: want one such as 52:54:00:12:34:56", text)
	}
	return MAC(addr), nil
}

// IsZero reports whether there is no address.
func (m MAC) IsZero() bool { return m == MAC{} }

// IsGroup reports whether m is a multicast or broadcast address.
func (m MAC) IsGroup() bool { return m[0]&1 == 1 }

// HardwareAddr returns m as the standard library has it.
func (m MAC) HardwareAddr() net.HardwareAddr { return net.HardwareAddr(m[:]) }

// String returns "52:54:00:12:34:56", or "" for none.
func (m MAC) String() string {
	if m.IsZero() {
		return ""
	}
	return m.HardwareAddr().String()
}

// MarshalText implements [encoding.TextMarshaler].
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *MAC) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*m = MAC{}
		return nil
	}
	parsed, err := ParseMAC(string(text))
	*m = parsed
	return err
}
