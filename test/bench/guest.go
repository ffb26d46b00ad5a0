// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"text/template"
)

// guest is what libvirt tells a hook of: a guest whose taps exist.
type guest struct {
	name, uuid string
	nics       []nic
	xml        []byte // the live definition, as on a hook's standard input
}

// nic is a guest's NIC on a port of a switch.
type nic struct {
	Device, MAC, Network, Bridge string
	OVS                          bool // Bridge is one of Open vSwitch's
}

//go:embed domain.xml.tmpl
var domainXML string

// newGuest makes the n-th guest.
func newGuest(n int, nics []nic) (guest, error) {
	g := guest{name: fmt.Sprintf("g%d", n), uuid: fmt.Sprintf("4dea22b3-1d52-48f3-9516-%012x", n), nics: nics}
	t, err := template.New("domain").Parse(domainXML)
	if err != nil {
		return guest{}, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{"Name": g.name, "UUID": g.uuid, "NICs": nics})
	g.xml = out.Bytes()
	return g, err
}

// newNICs makes count NICs in a network on a bridge. Their devices are named
// prefix0, prefix1 and so on.
func newNICs(network, bridge, prefix string, count int) []nic {
	nics := make([]nic, count)
	for i := range nics {
		nics[i] = nic{
			Device: fmt.Sprintf("%s%d", prefix, i), Network: network, Bridge: bridge,
			MAC: fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&0xff),
		}
	}
	return nics
}
