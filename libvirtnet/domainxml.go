// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet

import (
	"encoding/xml"
	"strings"
)

// domainXML is the text in a domain that matters here. It is read element by
// element, because each start of a guest waits for it: [xml.Unmarshal] first
// learns from the types what to look for, and takes twice as long.
type domainXML struct {
	Name, UUID, Record string
	NICs               []nicXML
	Agent              bool
}

// nicXML is the text in an <interface>.
type nicXML struct {
	Type, MAC, Model, Alias     string
	Network, Portgroup, Bridge  string
	SourceDev, SourceMode       string
	Device                      string
	VirtualPort, InterfaceID    string
	MTU, Queues, Isolated, Link string
	Inbound, Outbound           string
	MACTable                    string
	VLAN                        vlanXML
}

type vlanXML struct {
	Trunk string
	Tags  []tagXML
}

type tagXML struct{ ID, NativeMode string }

// fields is where the attributes below an <interface> go, by their paths. Tags
// are not there, as there may be several.
func (x *nicXML) fields() map[string]*string {
	return map[string]*string{
		"@type":                              &x.Type,
		"mac@address":                        &x.MAC,
		"source@network":                     &x.Network,
		"source@portgroup":                   &x.Portgroup,
		"source@bridge":                      &x.Bridge,
		"source@dev":                         &x.SourceDev,
		"source@mode":                        &x.SourceMode,
		"target@dev":                         &x.Device,
		"model@type":                         &x.Model,
		"virtualport@type":                   &x.VirtualPort,
		"virtualport/parameters@interfaceid": &x.InterfaceID,
		"vlan@trunk":                         &x.VLAN.Trunk,
		"mtu@size":                           &x.MTU,
		"driver@queues":                      &x.Queues,
		"port@isolated":                      &x.Isolated,
		"link@state":                         &x.Link,
		"alias@name":                         &x.Alias,
		"bandwidth/inbound@average":          &x.Inbound,
		"bandwidth/outbound@average":         &x.Outbound,
		"source@macTableManager":             &x.MACTable,
	}
}

// read reads all that is in the <domain>, and its end.
func (x *domainXML) read(d *xml.Decoder, _ xml.StartElement) error {
	var open []string // the names of the elements that are open in the <domain>
	var nic nicXML    // the <interface> that is being read
	fields := nic.fields()
	for {
		token, err := d.Token()
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.StartElement:
			open = append(open, elementName(token.Name))
			x.forget(open)
			if inNIC(open) {
				nic.start(strings.Join(open[2:], "/"), token.Attr, fields)
			}
			x.Agent = x.Agent || agentChannel(open, token.Attr)
		case xml.CharData:
			x.text(open, token)
		case xml.EndElement:
			if len(open) == 0 {
				return nil
			}
			if inNIC(open) && len(open) == 2 {
				x.NICs = append(x.NICs, nic)
				nic = nicXML{} // fields points to it still
			}
			open = open[:len(open)-1]
		}
	}
}

// guestMark is the name of our element in a domain's <metadata>.
const guestMark = Namespace + " guest"

// elementName is the name of an element, with the namespace if that is ours.
func elementName(name xml.Name) string {
	if name.Space == Namespace {
		return name.Space + " " + name.Local
	}
	return name.Local
}

// inNIC reports whether the innermost of the open elements is an <interface> or
// in one.
func inNIC(open []string) bool {
	return len(open) >= 2 && open[0] == "devices" && open[1] == "interface"
}

// agentChannel reports whether the innermost of the open elements, with these
// attributes, is the guest's end of a channel at which an agent listens.
func agentChannel(open []string, attrs []xml.Attr) bool {
	if len(open) != 3 || open[0] != "devices" || open[1] != "channel" || open[2] != "target" {
		return false
	}
	var name, state string
	for _, a := range attrs {
		switch a.Name.Local {
		case "name":
			name = a.Value
		case "state":
			state = a.Value
		}
	}
	return name == "org.qemu.guest_agent.0" && state == "connected"
}

// start takes in the attributes of an element in the <interface>, at path.
func (x *nicXML) start(path string, attrs []xml.Attr, fields map[string]*string) {
	var tag tagXML
	for _, a := range attrs {
		if field := fields[path+"@"+a.Name.Local]; field != nil {
			*field = a.Value
		}
		switch a.Name.Local {
		case "id":
			tag.ID = a.Value
		case "nativeMode":
			tag.NativeMode = a.Value
		}
	}
	if path == "vlan/tag" {
		x.VLAN.Tags = append(x.VLAN.Tags, tag)
	}
}

// textField is where the text of the innermost of the open elements goes, or
// nil.
func (x *domainXML) textField(open []string) *string {
	if len(open) == 2 && open[0] == "metadata" && open[1] == guestMark {
		return &x.Record
	}
	if len(open) != 1 {
		return nil
	}
	switch open[0] {
	case "name":
		return &x.Name
	case "uuid":
		return &x.UUID
	}
	return nil
}

// forget makes the last of several elements count, as the last of several
// attributes does.
func (x *domainXML) forget(open []string) {
	if field := x.textField(open); field != nil {
		*field = ""
	}
}

// text adds text to the innermost of the open elements. It may come in pieces.
func (x *domainXML) text(open []string, text []byte) {
	if field := x.textField(open); field != nil {
		*field += string(text)
	}
}
