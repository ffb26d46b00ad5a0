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
	"strings"
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
	Record  string `xml:",chardata"`
}

// mark is our element as libvirt takes it: a prefix is required.
func mark() string {
	return fmt.Sprintf(`<vnet:network xmlns:vnet=%q format="%d"></vnet:network>`, Namespace, markFormat)
}

// ours reports whether the mark is ours and no namesake.
func (m markXML) ours() bool { return m.XMLName.Space == Namespace }

// record is what our mark says of the spec, or nothing.
func record(marks []markXML) string {
	if i := slices.IndexFunc(marks, markXML.ours); i >= 0 {
		return strings.TrimSpace(marks[i].Record)
	}
	return ""
}

// WithRecord returns a definition of [NetworkXML] that carries the record with
// it: text that the hook gets from libvirt when the network starts. It is how
// the hook of another machine knows what the spec says of the network. In the
// text "<" and "&" are not allowed, as encoding/json does not write them.
//
// The record is no setting of libvirt's: to [NetworkDiff] it is no difference.
func WithRecord(text, record string) string {
	return strings.Replace(text, tidy(mark()), strings.Replace(mark(), "></", ">"+record+"</", 1), 1)
}

// GuestRecord returns the element that carries the record of a guest in its
// libvirt metadata (https://libvirt.org/formatdomain.html#general-metadata): text
// that the hook gets with the guest, wherever it runs. As with [WithRecord], "<"
// and "&" are not allowed in it.
func GuestRecord(record string) string {
	return fmt.Sprintf(`<guest format="%d">%s</guest>`, markFormat, record)
}

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
	// Record is what it carries for the hook: see [WithRecord].
	Record string `json:"-"`
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
	n := DefinedNetwork{Name: x.Name, UUID: x.UUID, Bridge: x.Bridge.Name, Owned: ours(x.Marks), Record: record(x.Marks)}
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
