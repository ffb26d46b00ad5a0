// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package bundle

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
)

// keptElements are the elements of libvirt's domains and networks that describe
// the network, with all that is in them, and none that may hold a secret.
func keptElements() []string {
	return []string{
		"domain/name", "domain/uuid", "domain/memory", "domain/vcpu", "domain/os/type",
		"domain/devices/emulator", "domain/devices/interface", "domain/devices/channel",
		"network/name", "network/uuid", "network/forward", "network/bridge", "network/mac", "network/mtu",
		"network/domain", "network/ip", "network/route", "network/vlan", "network/port", "network/portgroup",
		"network/virtualport", "network/bandwidth", "network/dns/forwarder", "network/dns/host",
	}
}

// XML returns what describes the network of libvirt's XML of a domain or a
// network: no disks, no graphics, nothing that others keep in <metadata>, no
// comments. removed is how many elements were left out.
func XML(data []byte) (clean string, removed int, err error) {
	d := xml.NewDecoder(bytes.NewReader(data))
	f := &filter{decoder: d, kept: keptElements()}
	for {
		// Raw, so that prefixes stay as they are.
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			if len(f.open) > 0 || f.out.Len() == 0 {
				return "", 0, errors.New("XML: not a whole document")
			}
			return f.out.String() + "\n", f.removed, nil
		}
		if err != nil {
			return "", 0, fmt.Errorf("XML: %w", err)
		}
		if err := f.take(token); err != nil {
			return "", 0, fmt.Errorf("XML: %w", err)
		}
	}
}

// filter copies the elements that are kept.
type filter struct {
	decoder *xml.Decoder
	kept    []string
	open    []string // the names of the open elements
	inside  int      // how many of the open elements were open when a kept one began, or 0
	out     strings.Builder
	removed int
}

func (f *filter) take(token xml.Token) error {
	switch token := token.(type) {
	case xml.StartElement:
		f.open = append(f.open, token.Name.Local)
		if !f.wanted(token) {
			f.removed++
			f.open = f.open[:len(f.open)-1]
			return f.skip()
		}
		f.start(token)
	case xml.EndElement:
		if len(f.open) == 0 {
			return errors.New("an end without a beginning")
		}
		f.out.WriteString("</" + rawName(token.Name) + ">")
		if f.open = f.open[:len(f.open)-1]; len(f.open) < f.inside {
			f.inside = 0
		}
	case xml.CharData:
		// Around what was left out there is space only.
		if f.inside > 0 || strings.TrimSpace(string(token)) == "" && len(f.open) > 0 {
			return xml.EscapeText(&f.out, token)
		}
	}
	return nil
}

// wanted reports whether the element that was just opened is kept, or on the way
// to one that is.
func (f *filter) wanted(start xml.StartElement) bool {
	if f.inside > 0 {
		return true
	}
	at := strings.Join(f.open, "/")
	if len(f.open) == 3 && f.open[1] == "metadata" {
		if ours(start) {
			f.inside = len(f.open)
		}
		return f.inside > 0
	}
	if len(f.open) == 2 && f.open[1] == "metadata" {
		return true
	}
	for _, kept := range f.kept {
		if kept == at {
			f.inside = len(f.open)
			return true
		}
		if strings.HasPrefix(kept, at+"/") {
			return true
		}
	}
	return false
}

// ours reports whether an element is virt-vnet's own.
func ours(start xml.StartElement) bool {
	for _, a := range start.Attr {
		isNamespace := a.Name.Space == "xmlns" && a.Name.Local == start.Name.Space || a.Name.Space == "" && a.Name.Local == "xmlns"
		if isNamespace && a.Value == libvirtnet.Namespace {
			return true
		}
	}
	return false
}

// skip reads to the end of the element that has just begun.
func (f *filter) skip() error {
	for depth := 1; depth > 0; {
		token, err := f.decoder.RawToken()
		if err != nil {
			return err
		}
		switch token.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		}
	}
	return nil
}

func (f *filter) start(start xml.StartElement) {
	f.out.WriteString("<" + rawName(start.Name))
	for _, a := range start.Attr {
		f.out.WriteString(" " + rawName(a.Name) + "='")
		_ = xml.EscapeText(&f.out, []byte(a.Value)) // a Builder takes all
		f.out.WriteString("'")
	}
	f.out.WriteString(">")
}

func rawName(n xml.Name) string {
	if n.Space == "" {
		return n.Local
	}
	return n.Space + ":" + n.Local
}
