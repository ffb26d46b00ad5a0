// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet

import (
	"fmt"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Carrier is who puts a setting of a network into force. The zero Carrier is
// nobody.
type Carrier int

// The carriers.
const (
	// Nobody means that the setting has no effect in this mode.
	Nobody Carrier = iota
	// Libvirt means that the network's XML says it and libvirt does it.
	Libvirt
	// Hook means that the XML cannot say it: the hook does it when a guest
	// starts.
	Hook
)

// String returns "nobody", "libvirt" or "the hook".
func (c Carrier) String() string { return [...]string{"nobody", "libvirt", "the hook"}[c] }

// MarshalText implements [encoding.TextMarshaler].
func (c Carrier) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Duty is one setting of a network and who carries it out.
type Duty struct {
	Setting string  `json:"setting"`
	By      Carrier `json:"by"`
	// Reason says why it is not libvirt.
	Reason string `json:"reason,omitempty"`
}

// String returns a line such as "VLAN: the hook (libvirt 9.0.0 has VLANs on a
// Linux bridge from 11.0.0 only)".
func (d Duty) String() string {
	if d.Reason == "" {
		return fmt.Sprintf("%s: %s", d.Setting, d.By)
	}
	return fmt.Sprintf("%s: %s (%s)", d.Setting, d.By, d.Reason)
}

// Division says who does what for n, which must be valid, on sw with a libvirt
// of version v: the same decisions as in [NetworkXML]. Settings that n does not
// have are not listed.
func Division(n vnet.Network, sw vnet.Switch, v Version) []Duty {
	duties := []Duty{plug(n)}
	for _, p := range n.Policies() {
		if n.Mode == vnet.ModeBridge && (!p.VLAN.IsZero() || sw.Driver == vnet.DriverOVS) {
			duties = append(duties, vlanDuty(n, sw, v))
			break
		}
	}
	if n.MTU != 0 {
		duties = append(duties, mtuDuty(n))
	}
	for _, p := range n.Policies() {
		if p.Isolated {
			duties = append(duties, isolatedDuty(n, sw, v))
			break
		}
	}
	return append(duties, flagDuties(n, sw)...)
}

func plug(n vnet.Network) Duty {
	if n.Mode == vnet.ModeNAT || n.Mode == vnet.ModeIsolated {
		return Duty{Setting: "bridge, addresses and guest ports", By: Libvirt}
	}
	return Duty{Setting: "guest ports", By: Libvirt}
}

func vlanDuty(n vnet.Network, sw vnet.Switch, v Version) Duty {
	duty := Duty{Setting: "VLAN", By: carrierOfVLAN(n, sw, v)}
	switch {
	case duty.By == Hook && v < sinceLinuxVLAN:
		duty.Reason = fmt.Sprintf("libvirt %s cannot set VLANs on a Linux bridge, %s can", v, sinceLinuxVLAN)
	case duty.By == Hook:
		duty.Reason = "libvirt would give the network's VLAN to its untagged portgroup"
	}
	return duty
}

// carrierOfVLAN says who sets the VLANs of a bridge network's ports. Libvirt
// always has on Open vSwitch; on a Linux bridge from 11.0.0, but there it has no
// word for "untagged", so an untagged portgroup would inherit its network's VLAN.
func carrierOfVLAN(n vnet.Network, sw vnet.Switch, v Version) Carrier {
	switch {
	case sw.Driver == vnet.DriverOVS:
		return Libvirt
	case v < sinceLinuxVLAN:
		return Hook
	}
	for _, g := range n.Portgroups {
		if g.Policy.VLAN.IsZero() && !n.Policy.VLAN.IsZero() {
			return Hook
		}
	}
	return Libvirt
}

// Handover says who sets VLANs from now on when that changes with a definition,
// whose changes are as [NetworkDiff] tells them, or nothing. A libvirt that was
// updated, or taken back, is why it does. before is the network as it was.
func Handover(before, n vnet.Network, sw vnet.Switch, changes []string, v Version) string {
	tagged := func(n vnet.Network) bool {
		return slices.ContainsFunc(n.Policies(), func(p vnet.Policy) bool { return !p.VLAN.IsZero() })
	}
	if sw.Driver != vnet.DriverLinux || !tagged(before) || !tagged(n) {
		return ""
	}
	element := func(sign string) bool {
		return slices.ContainsFunc(changes, func(line string) bool {
			path, ok := strings.CutPrefix(line, sign)
			path, _, _ = strings.Cut(path, " ")
			return ok && slices.Contains(strings.Split(path, "/"), "vlan")
		})
	}
	switch came, went := element("+ "), element("- "); {
	case came && !went:
		return fmt.Sprintf("VLANs go over from the hook to libvirt %s, which sets them itself; guests that run keep theirs", v)
	case went && !came:
		return fmt.Sprintf("VLANs go over from libvirt to the hook: %s; guests that run keep theirs", vlanDuty(n, sw, v).Reason)
	}
	return ""
}

// mtuDuty: libvirt takes an MTU for the bridges it makes itself
// (virNetworkDefParseXML refuses it for the other modes).
func mtuDuty(n vnet.Network) Duty {
	switch n.Mode {
	case vnet.ModeNAT, vnet.ModeIsolated:
		return Duty{Setting: "MTU", By: Libvirt}
	case vnet.ModeMacvtap:
		return Duty{Setting: "MTU", By: Nobody, Reason: "a macvtap has the MTU of " + n.Device}
	default:
		return Duty{Setting: "MTU", By: Hook, Reason: "libvirt takes an MTU only for bridges that it makes itself"}
	}
}

func isolatedDuty(n vnet.Network, sw vnet.Switch, v Version) Duty {
	duty := Duty{Setting: "isolated ports", By: Hook}
	switch {
	case portIsolated(n, sw, v):
		duty.By = Libvirt
	case n.Mode != vnet.ModeBridge:
		duty.By, duty.Reason = Nobody, fmt.Sprintf("libvirt %s cannot isolate ports, %s can", v, sinceIsolatedPort)
	case sw.Driver == vnet.DriverOVS, sw.Driver == vnet.DriverOVN:
		duty.Reason = "libvirt isolates ports of Linux bridges only"
	case v < sinceIsolatedPort:
		duty.Reason = fmt.Sprintf("libvirt %s cannot isolate ports, %s can", v, sinceIsolatedPort)
	default:
		duty.Reason = "not all portgroups are isolated, libvirt isolates whole networks"
	}
	return duty
}

// portIsolated reports whether libvirt isolates the ports of n: on Linux
// bridges, its own included, and only when that goes for every guest of the
// network, because a portgroup cannot say it.
func portIsolated(n vnet.Network, sw vnet.Switch, v Version) bool {
	if v < sinceIsolatedPort || n.Mode == vnet.ModeMacvtap || (n.Mode == vnet.ModeBridge && sw.Driver != vnet.DriverLinux) {
		return false
	}
	for _, p := range n.Policies() {
		if !p.Isolated {
			return false
		}
	}
	return true
}

// flagDuties are what libvirt has no words for, or none that go for the guests of
// a network.
func flagDuties(n vnet.Network, sw vnet.Switch) []Duty {
	by, reason := Hook, "libvirt has no setting for it"
	if n.Mode == vnet.ModeMacvtap {
		by, reason = Nobody, "a macvtap is no port of a bridge"
	}
	some := func(wants func(vnet.Policy) bool) bool { return slices.ContainsFunc(n.Policies(), wants) }
	guard := n.Mode == vnet.ModeBridge && sw.Driver == vnet.DriverLinux // the default there
	var duties []Duty
	for _, flag := range []struct {
		name   string
		wanted bool
	}{
		{"learning", some(func(p vnet.Policy) bool { return p.Learning != vnet.ToggleLeave })},
		{"flood", some(func(p vnet.Policy) bool { return p.Flood != vnet.ToggleLeave })},
		{"multicast flood", some(func(p vnet.Policy) bool { return p.MulticastFlood != vnet.ToggleLeave })},
		{"broadcast flood", some(func(p vnet.Policy) bool { return p.BroadcastFlood != vnet.ToggleLeave })},
		{"fast leave", some(func(p vnet.Policy) bool { return p.FastLeave != vnet.ToggleLeave })},
		{"neighbour suppression", some(func(p vnet.Policy) bool { return p.NeighSuppress != vnet.ToggleLeave })},
		{"BPDU guard", guard || some(func(p vnet.Policy) bool { return p.BPDUGuard != vnet.ToggleLeave })},
		{"root block", some(func(p vnet.Policy) bool { return p.RootBlock != vnet.ToggleLeave })},
	} {
		if flag.wanted {
			duties = append(duties, Duty{Setting: flag.name, By: by, Reason: reason})
		}
	}
	return append(duties, guardDuties(n, sw)...)
}

// guardDuties are what keeps guests honest and within their limits, which the
// hook does in every mode that has ports. OVN has no RA guard (docs/drivers.md).
func guardDuties(n vnet.Network, sw vnet.Switch) []Duty {
	some := func(wants func(vnet.Policy) bool) bool { return slices.ContainsFunc(n.Policies(), wants) }
	const single = "libvirt filters single guests, not networks"
	var duties []Duty
	for _, d := range []struct {
		name, reason string
		wanted       bool
	}{
		{"anti-spoofing", single, some(func(p vnet.Policy) bool { return p.AntiSpoof })},
		{"DHCP guard", single, some(func(p vnet.Policy) bool { _, dhcp, _ := p.Guards(); return dhcp })},
		{"RA guard", single, sw.Driver != vnet.DriverOVN && some(func(p vnet.Policy) bool { _, _, ra := p.Guards(); return ra })},
		{"QoS", "libvirt's where a guest has a <bandwidth> of its own", some(func(p vnet.Policy) bool { return p.QoS != vnet.QoS{} })},
	} {
		if d.wanted {
			duties = append(duties, Duty{Setting: d.name, By: Hook, Reason: d.reason})
		}
	}
	return duties
}
