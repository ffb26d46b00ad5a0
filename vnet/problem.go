// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import "strings"

// Problem is something wrong with a spec or a network, as data. It is never a
// Go error: an error means that something could not be done or told.
type Problem struct {
	// Code is stable and upper case, such as "WRONG_VLAN". docs/checks.md has
	// them all.
	Code string `json:"code"`
	// Subject is the object, such as "network red" or "guest web1, NIC vnet0".
	Subject string `json:"subject"`
	// Field is the setting: in a spec its path, such as "networks.red.vlan".
	Field string `json:"field,omitempty"`
	// Want and Got are what was asked for and what is there.
	Want string `json:"want,omitempty"`
	Got  string `json:"got,omitempty"`
	// Evidence is the observations behind the verdict, a line each.
	Evidence []string `json:"evidence,omitempty"`
	// Fix is the command or the change that would put it right.
	Fix string `json:"fix,omitempty"`
}

// String returns the problem on one line, such as
// "network red: got VLAN 4095, want 1 to 4094".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Subject)
	sep := ": "
	if p.Got != "" {
		b.WriteString(sep + "got " + p.Got)
		sep = ", "
	}
	if p.Want != "" {
		b.WriteString(sep + "want " + p.Want)
	}
	return b.String()
}
