// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Monitoring is what a bridge shows of its traffic: the settings of an Open
// vSwitch bridge that stand in rows of their own, which carry our mark. Rows of
// others are not among them.
type Monitoring struct {
	Mirrors []Mirror         `json:"mirrors,omitempty"` // by name
	Exports vnet.FlowExports `json:"exports,omitzero"`
}

// Mirror is a [vnet.Mirror] as it is on the bridge, without the ports of guests:
// those have it in their [Mirrored].
type Mirror struct {
	Name string `json:"name"`
	All  bool   `json:"all,omitempty"`
	// In are the ports whose frames are taken on their way out of the bridge, Out
	// those on their way into it, sorted.
	In    []string        `json:"in,omitempty"`
	Out   []string        `json:"out,omitempty"`
	VLANs vnet.VLANRanges `json:"vlans,omitempty"`
	// Of To, VLAN and Remote at most one is not zero. With none a guest's port is
	// where the frames go, if there is one.
	To      string      `json:"to,omitempty"`
	VLAN    vnet.VLANID `json:"vlan,omitempty"`
	Remote  netip.Addr  `json:"remote,omitzero"`
	Session int         `json:"session,omitempty"`
	Version int         `json:"version,omitempty"`
	Snaplen int         `json:"snaplen,omitempty"`
}

// Devices are the ports that it names, sorted.
func (m Mirror) Devices() []string {
	all := union(m.In, m.Out)
	if m.To != "" {
		all = union(all, []string{m.To})
	}
	return all
}

// String is the mirror on one line, such as "both of eth0 to port span0".
func (m Mirror) String() string {
	var words []string
	both := slices.DeleteFunc(slices.Clone(m.In), func(device string) bool { return !slices.Contains(m.Out, device) })
	only := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(device string) bool { return slices.Contains(both, device) })
	}
	for _, part := range []struct {
		word  string
		ports []string
	}{{"", both}, {"in ", only(m.In)}, {"out ", only(m.Out)}} {
		if len(part.ports) > 0 {
			words = append(words, part.word+strings.Join(part.ports, " "))
		}
	}
	switch {
	case m.All:
		words = []string{"all ports"}
	case len(words) == 0:
		words = []string{"guests"}
	}
	text := strings.Join(words, ", ")
	if len(m.VLANs) > 0 {
		text += ", VLANs " + m.VLANs.String()
	}
	switch {
	case m.To != "":
		text += " to port " + m.To
	case m.VLAN != 0:
		text += fmt.Sprintf(" to VLAN %d", m.VLAN)
	case m.Remote.IsValid():
		text += fmt.Sprintf(" to %s, ERSPAN version %d session %d", m.Remote, m.Version, m.Session)
	default:
		text += " to a guest"
	}
	if m.Snaplen != 0 {
		text += fmt.Sprintf(", %d bytes each", m.Snaplen)
	}
	return text
}

// Mirrored is which mirrors of its switch a guest's port is in, by name, sorted.
type Mirrored struct {
	// In are those that take the frames to the guest, Out those from it, and To
	// those that send to the guest.
	In  []string `json:"in,omitempty"`
	Out []string `json:"out,omitempty"`
	To  []string `json:"to,omitempty"`
}

// String returns such as "ids, web in, to span", or "none".
func (m Mirrored) String() string {
	var words []string
	for _, name := range union(m.In, m.Out) {
		switch {
		case !slices.Contains(m.Out, name):
			name += " in"
		case !slices.Contains(m.In, name):
			name += " out"
		}
		words = append(words, name)
	}
	for _, name := range m.To {
		words = append(words, "to "+name)
	}
	return orNone(strings.Join(words, ", "))
}

// Bond is the uplink that a bridge has because of us. The zero Bond is none.
type Bond struct {
	Name string `json:"name,omitempty"`
	vnet.Bond
}

// String returns such as "bond0 of eth0 eth1, active-backup, LACP off", or "none".
func (b Bond) String() string {
	if b.IsZero() {
		return b.Bond.String()
	}
	return b.Name + " of " + b.Bond.String()
}

// bondOf is what the spec asks of the uplink.
func bondOf(sw vnet.Switch) *Bond {
	if sw.Bond.IsZero() {
		return &Bond{}
	}
	bond := &Bond{Name: sw.Uplink, Bond: sw.Bond}
	bond.Members = union(bond.Members, nil)
	return bond
}

// TreePorts are the ports of a bridge whose part in its spanning tree we have set,
// by name.
type TreePorts struct {
	Ports []vnet.TreePort `json:"ports,omitempty"`
}

// port says what the part of the device is.
func (t TreePorts) port(device string) string {
	i := slices.IndexFunc(t.Ports, func(p vnet.TreePort) bool { return p.Device == device })
	if i < 0 {
		return "not ours"
	}
	return t.Ports[i].String()
}

func (l *lines) treePorts(from, to TreePorts) {
	var devices []string
	for _, p := range slices.Concat(from.Ports, to.Ports) {
		devices = append(devices, p.Device)
	}
	for _, device := range union(devices, nil) {
		l.add("spanning tree, port "+device, from.port(device), to.port(device))
	}
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// monitoringOf is what the spec asks of the switch.
func monitoringOf(sw vnet.Switch) *Monitoring {
	m := &Monitoring{Exports: sw.Exports.Sorted()}
	for _, want := range sw.Mirrors {
		mirror := Mirror{
			Name: want.Name, All: want.All, VLANs: want.VLANs, To: want.ToPort, VLAN: want.ToVLAN,
			Remote: want.ToAddress, Session: want.Session, Version: want.Version, Snaplen: want.Snaplen,
		}
		mirror.All = want.All || len(want.Ports)+len(want.Guests)+len(want.Networks) == 0
		if mirror.Remote.IsValid() && mirror.Version == 0 {
			mirror.Version = 1
		}
		ports := union(want.Ports, nil)
		if want.Direction != vnet.DirectionOut {
			mirror.In = ports
		}
		if want.Direction != vnet.DirectionIn {
			mirror.Out = ports
		}
		m.Mirrors = append(m.Mirrors, mirror)
	}
	return m
}

// mirroredOf is which mirrors of the switch a guest's port is to be in.
func mirroredOf(p vnet.Port, sw vnet.Switch) *Mirrored {
	m := &Mirrored{}
	for _, mirror := range sw.Mirrors {
		takes := mirror.Takes(p.Guest.Name, p.Network)
		if takes && mirror.Direction != vnet.DirectionOut {
			m.In = append(m.In, mirror.Name)
		}
		if takes && mirror.Direction != vnet.DirectionIn {
			m.Out = append(m.Out, mirror.Name)
		}
		if mirror.IsTo(p.Guest.Name, p.Network) {
			m.To = append(m.To, mirror.Name)
		}
	}
	return m
}

// same compares by value, and takes "no such setting" for a setting of its own.
func same[T any](a, b *T) bool { return reflect.DeepEqual(a, b) }

// Mirror returns the mirror of that name.
func (m Monitoring) Mirror(name string) (Mirror, bool) {
	i := slices.IndexFunc(m.Mirrors, func(mirror Mirror) bool { return mirror.Name == name })
	if i < 0 {
		return Mirror{}, false
	}
	return m.Mirrors[i], true
}

func (l *lines) monitoring(from, to Monitoring) {
	var names []string
	for _, m := range slices.Concat(from.Mirrors, to.Mirrors) {
		names = append(names, m.Name)
	}
	text := func(m Monitoring, name string) string {
		if mirror, ok := m.Mirror(name); ok {
			return mirror.String()
		}
		return "none"
	}
	for _, name := range union(names, nil) {
		l.add("mirror "+name, text(from, name), text(to, name))
	}
	l.add("sflow", from.Exports.SFlow.String(), to.Exports.SFlow.String())
	l.add("netflow", from.Exports.NetFlow.String(), to.Exports.NetFlow.String())
	l.add("ipfix", from.Exports.IPFIX.String(), to.Exports.IPFIX.String())
}
