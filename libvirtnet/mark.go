// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet

import (
	"encoding/xml"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Namespace is the XML namespace of our mark in libvirt's <metadata>
// (https://libvirt.org/formatnetwork.html#general-metadata).
const Namespace = "https://virt-vnet.org/xmlns/1"

// markFormat is the format of the mark that this program writes. A program
// that knows only older ones keeps its hands off.
const markFormat = 1

// markXML is our element in <metadata>.
type markXML struct {
	XMLName xml.Name
	Format  string `xml:"format,attr"`
}

// mark is our element as libvirt takes it: a prefix is required.
func mark() string {
	return fmt.Sprintf(`<vnet:network xmlns:vnet=%q format="%d"></vnet:network>`, Namespace, markFormat)
}

// ours reports whether the mark is ours and no namesake.
func (m markXML) ours() bool { return m.XMLName.Space == Namespace }

func ours(marks []markXML) bool { return slices.ContainsFunc(marks, markXML.ours) }

// DefinedNetwork is what there is to know of a network that libvirt has, from
// its definition.
type DefinedNetwork struct {
	Name string `json:"name"`
	UUID string `json:"uuid,omitempty"`
	// Bridge is the switch its guests plug into, empty for a host device.
	Bridge string `json:"bridge,omitempty"`
	// Owned reports whether the definition carries our mark.
	Owned bool `json:"owned"`
	// Guests is the number of guest NICs on the network now. Only the live
	// definition has it.
	Guests int `json:"guests,omitempty"`
}

// ParseNetwork reads a network definition of libvirt. It is an error when the
// network carries a mark that only a newer virt-vnet can read.
func ParseNetwork(text string) (DefinedNetwork, error) {
	var x struct {
		Name        string `xml:"name"`
		UUID        string `xml:"uuid"`
		Connections string `xml:"connections,attr"`
		Bridge      struct {
			Name string `xml:"name,attr"`
		} `xml:"bridge"`
		Marks []markXML `xml:"metadata>network"`
	}
	if err := decode([]byte(text), "network", &x); err != nil {
		return DefinedNetwork{}, err
	}
	if x.Name == "" {
		return DefinedNetwork{}, errors.New("network XML: /network/name: missing: want the name of the network")
	}
	n := DefinedNetwork{Name: x.Name, UUID: x.UUID, Bridge: x.Bridge.Name, Owned: ours(x.Marks)}
	for _, m := range x.Marks {
		if format, err := strconv.Atoi(m.Format); m.ours() && (err != nil || format < 1 || format > markFormat) {
			return DefinedNetwork{}, fmt.Errorf("network %s: its mark has format %q, this virt-vnet knows 1 to %d: want a newer virt-vnet",
				x.Name, m.Format, markFormat)
		}
	}
	var err error
	n.Guests, err = parseNumber("network XML: /network/@connections", x.Connections, math.MaxInt32)
	return n, err
}
