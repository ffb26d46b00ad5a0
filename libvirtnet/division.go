// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet

import (
	"fmt"

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
	for _, p := range policies(n) {
		if n.Mode == vnet.ModeBridge && (!p.VLAN.IsZero() || sw.Driver == vnet.DriverOVS) {
			duties = append(duties, vlanDuty(n, sw, v))
			break
		}
	}
	if n.MTU != 0 {
		duties = append(duties, mtuDuty(n))
	}
	for _, p := range policies(n) {
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
	case sw.Driver == vnet.DriverOVS:
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
	for _, p := range policies(n) {
		if !p.Isolated {
			return false
		}
	}
	return true
}

// flagDuties are the bridge port flags, which libvirt has no words for.
func flagDuties(n vnet.Network, sw vnet.Switch) []Duty {
	by, reason := Hook, "libvirt has no setting for it"
	if n.Mode != vnet.ModeBridge {
		by, reason = Nobody, fmt.Sprintf("not in mode %s", n.Mode)
	}
	guard := n.Mode == vnet.ModeBridge && sw.Driver == vnet.DriverLinux // the default there
	var learning, flood bool
	for _, p := range policies(n) {
		learning = learning || p.Learning != vnet.ToggleLeave
		flood = flood || p.Flood != vnet.ToggleLeave
		guard = guard || p.BPDUGuard != vnet.ToggleLeave
	}
	var duties []Duty
	for _, flag := range []struct {
		name   string
		wanted bool
	}{{"learning", learning}, {"flood", flood}, {"BPDU guard", guard}} {
		if flag.wanted {
			duties = append(duties, Duty{Setting: flag.name, By: by, Reason: reason})
		}
	}
	return duties
}

// policies are the policies that a guest of n can have. The network's own is
// not among them when a default portgroup stands in for it.
func policies(n vnet.Network) []vnet.Policy {
	var list []vnet.Policy
	own := true
	for _, g := range n.Portgroups {
		own = own && !g.Default
		list = append(list, g.Policy)
	}
	if own {
		list = append(list, n.Policy)
	}
	return list
}
