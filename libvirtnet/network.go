// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet

import (
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// NetworkXML returns the definition of n for a libvirt of version v, with our
// mark in it (https://libvirt.org/formatnetwork.html). sw is the switch of a
// bridge network; the other modes ignore it. What v cannot do, or cannot do on
// that switch, is left out: [Division] tells what.
//
// The topology of n must be valid. An error names a setting that v cannot
// carry out and that nothing else can do in its place, or a name that libvirt
// does not take.
func NetworkXML(n vnet.Network, sw vnet.Switch, v Version) (string, error) {
	if err := checkNames(n); err != nil {
		return "", err
	}
	x := libvirtxml.Network{
		Name:     n.Name,
		Metadata: &libvirtxml.NetworkMetadata{XML: mark()},
	}
	if portIsolated(n, sw, v) {
		x.PortOptions = &libvirtxml.NetworkPortOptions{Isolated: "yes"}
	}
	switch n.Mode {
	case vnet.ModeBridge:
		bridge(&x, n, sw, v)
	case vnet.ModeMacvtap:
		if n.Policy.Profile == vnet.ProfileAppliance {
			x.TrustGuestRxFilters = "yes" // it takes frames for other addresses than its own
		}
		x.Forward = &libvirtxml.NetworkForward{
			Mode:       n.Macvtap.String(),
			Interfaces: []libvirtxml.NetworkForwardInterface{{Dev: n.Device}},
		}
	case vnet.ModeNAT, vnet.ModeIsolated:
		if err := routed(&x, n, v); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("network %s: mode %s: want one of %v", n.Name, n.Mode, vnet.Modes())
	}
	text, err := x.Marshal()
	return tidy(text), err
}

// bridge fills in a network on a switch that exists already.
func bridge(x *libvirtxml.Network, n vnet.Network, sw vnet.Switch, v Version) {
	x.Forward = &libvirtxml.NetworkForward{Mode: "bridge"}
	x.Bridge = &libvirtxml.NetworkBridge{Name: sw.Name}
	if sw.Driver == vnet.DriverOVS || sw.Driver == vnet.DriverOVN {
		x.VirtualPort = &libvirtxml.NetworkVirtualPort{
			Params: &libvirtxml.NetworkVirtualPortParams{OpenVSwitch: &libvirtxml.NetworkVirtualPortParamsOpenVSwitch{}},
		}
	}
	carries := carrierOfVLAN(n, sw, v) == Libvirt
	if carries {
		x.VLAN = vlanElement(n.Policy.VLAN, sw.Driver)
	}
	for _, g := range n.Portgroups {
		group := libvirtxml.NetworkPortGroup{Name: g.Name}
		if g.Default {
			group.Default = "yes"
		}
		if carries {
			group.VLAN = vlanElement(g.Policy.VLAN, sw.Driver)
		}
		x.PortGroups = append(x.PortGroups, group)
	}
}

// routed fills in a network on a bridge that libvirt makes itself.
func routed(x *libvirtxml.Network, n vnet.Network, v Version) error {
	ipv6 := n.Subnet.IsValid() && n.Subnet.Addr().Is6()
	if n.Mode == vnet.ModeNAT {
		x.Forward = &libvirtxml.NetworkForward{Mode: "nat"}
		if ipv6 && v < sinceNATIPv6 {
			return fmt.Errorf("network %s: subnet %s: libvirt %s has no NAT for IPv6: want libvirt %s, or an IPv4 subnet",
				n.Name, n.Subnet, v, sinceNATIPv6)
		}
		if ipv6 {
			x.Forward.NAT = &libvirtxml.NetworkForwardNAT{IPv6: "yes"}
		}
	}
	if n.MTU != 0 {
		x.MTU = &libvirtxml.NetworkMTU{Size: uint(n.MTU)}
	}
	if n.Subnet.IsValid() {
		x.IPs = []libvirtxml.NetworkIP{address(n)}
	}
	return nil
}

// vlanElement is a port's membership in libvirt's words, or nil where there is
// nothing to say.
//
// Open vSwitch makes a port without a tag a trunk of all VLANs. A port that is
// to be untagged has tag 0 there, which is what libvirt hands on (ovs-vswitchd
// .conf.db(5), Port: tag); it also keeps a portgroup from inheriting the VLAN
// of its network. A Linux bridge has no VLAN 0.
func vlanElement(set vnet.VLANSet, driver vnet.Driver) *libvirtxml.NetworkVLAN {
	switch {
	case set.Service != 0:
		return nil // libvirt has no word for a tunnel: the hook makes it one
	case set.IsZero() && driver != vnet.DriverOVS:
		return nil
	case !set.IsTrunk():
		return &libvirtxml.NetworkVLAN{Tags: []libvirtxml.NetworkVLANTag{{ID: uint(set.Access)}}}
	}
	element := &libvirtxml.NetworkVLAN{Trunk: "yes"}
	if set.Native != 0 {
		mode := "untagged"
		if set.NativeTagged {
			mode = "tagged"
		}
		element.Tags = append(element.Tags, libvirtxml.NetworkVLANTag{ID: uint(set.Native), NativeMode: mode})
	}
	for _, r := range set.Trunk.Normal() {
		for id := r.First; id <= r.Last; id++ {
			if id != set.Native {
				element.Tags = append(element.Tags, libvirtxml.NetworkVLANTag{ID: uint(id)})
			}
		}
	}
	return element
}

// checkNames refuses names that libvirt would refuse with a message about its
// schema (deviceName in basictypes.rng), which helps nobody.
func checkNames(n vnet.Network) error {
	const allowed = `abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-\:/`
	foreign := func(r rune) bool { return !strings.ContainsRune(allowed, r) }
	for _, g := range n.Portgroups {
		if g.Name == "" || strings.ContainsFunc(g.Name, foreign) {
			return fmt.Errorf("network %s: portgroup %q: want a name of letters, digits, and . _ : / -", n.Name, g.Name)
		}
	}
	return nil
}

// tidy writes empty elements as libvirt and people do. In what encoding/xml
// writes, ">" is never part of a value.
func tidy(text string) string {
	text = strings.ReplaceAll(text, "\n    <parameters></parameters>\n  ", "") // which libvirtxml cannot leave out
	var out strings.Builder
	for {
		start, rest, found := strings.Cut(text, "></")
		out.WriteString(start)
		if !found {
			return out.String()
		}
		out.WriteString("/>")
		_, text, _ = strings.Cut(rest, ">")
	}
}
