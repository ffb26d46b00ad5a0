// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"cmp"
	"net/netip"
	"slices"
)

// Topology is everything a spec declares, each list sorted by name.
type Topology struct {
	Switches []Switch  `json:"switches,omitempty"`
	Networks []Network `json:"networks,omitempty"`
	Guests   []Guest   `json:"guests,omitempty"`
}

// Switch is something with ports that virt-vnet manages. It exists already:
// virt-vnet wires ports, it does not build bridges.
type Switch struct {
	// Name is the bridge's name on the host.
	Name   string `json:"name"`
	Driver Driver `json:"driver"`
	// Uplink is the host device on this switch that leads to the fabric.
	// Empty means none: guests reach each other only.
	Uplink string `json:"uplink,omitempty"`
}

// Policy is what a port may do. A portgroup's Policy replaces that of its
// network as a whole.
type Policy struct {
	VLAN VLANSet `json:"vlan,omitzero"`
	// Isolated keeps the port from all other isolated ports of the switch; it
	// still reaches ports that are not, such as the uplink.
	Isolated bool `json:"isolated,omitempty"`
	// Learning and Flood are the Linux bridge port flags of the same name
	// (bridge-link(8)); [ToggleLeave] keeps what the switch has.
	Learning Toggle `json:"learning,omitempty"`
	Flood    Toggle `json:"flood,omitempty"`
	// BPDUGuard takes the port down when the guest sends spanning tree frames.
	// [ToggleLeave] means on, on switches that can.
	BPDUGuard Toggle `json:"bpduGuard,omitempty"`
}

// Network is what a guest NIC plugs into. Each is one libvirt network.
type Network struct {
	Name string `json:"name"`
	Mode Mode   `json:"mode"`
	// Switch is the name of the switch of a bridge network.
	Switch string `json:"switch,omitempty"`
	// Device and Macvtap belong to a macvtap network.
	Device  string      `json:"device,omitempty"`
	Macvtap MacvtapMode `json:"macvtap,omitempty"`
	// MTU is in bytes, without the Ethernet header. Zero leaves it alone.
	MTU        int         `json:"mtu,omitempty"`
	Policy     Policy      `json:"policy,omitzero"`
	Portgroups []Portgroup `json:"portgroups,omitempty"`
	// Subnet and Gateway say which addresses live here. libvirt serves them
	// in nat and isolated networks; elsewhere only verify uses them.
	Subnet    netip.Prefix  `json:"subnet,omitzero"`
	Gateway   netip.Addr    `json:"gateway,omitzero"`
	OnFailure FailurePolicy `json:"onFailure,omitempty"`
}

// Portgroup is a named variation of its network for some of the guests.
type Portgroup struct {
	Name string `json:"name"`
	// Default is the portgroup of NICs that name none.
	Default bool   `json:"default,omitempty"`
	Policy  Policy `json:"policy,omitzero"`
}

// Guest is what the spec expects of one virtual machine. Guests that the spec
// does not name are wired all the same.
type Guest struct {
	Name string `json:"name"`
	NICs []NIC  `json:"nics,omitempty"`
}

// NIC is one network interface of a guest.
type NIC struct {
	Network   string `json:"network"`
	Portgroup string `json:"portgroup,omitempty"`
	// MAC is zero when the spec leaves it to libvirt.
	MAC MAC `json:"mac,omitzero"`
	// Address is the IP address the guest is expected to answer at.
	Address netip.Addr `json:"address,omitzero"`
	Model   Model      `json:"model,omitempty"`
	// Queues is the number of queue pairs of a virtio NIC; RXRing and TXRing
	// its ring sizes in descriptors. Zero leaves them to QEMU.
	Queues int `json:"queues,omitempty"`
	RXRing int `json:"rxRing,omitempty"`
	TXRing int `json:"txRing,omitempty"`
}

// Sort puts every list in the order of its names.
func (t *Topology) Sort() {
	slices.SortFunc(t.Switches, func(a, b Switch) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Networks, func(a, b Network) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Guests, func(a, b Guest) int { return cmp.Compare(a.Name, b.Name) })
	for i := range t.Networks {
		slices.SortFunc(t.Networks[i].Portgroups, func(a, b Portgroup) int { return cmp.Compare(a.Name, b.Name) })
	}
}

// Switch returns the switch of that name.
func (t *Topology) Switch(name string) (Switch, bool) {
	return find(t.Switches, func(s Switch) bool { return s.Name == name })
}

// Network returns the network of that name.
func (t *Topology) Network(name string) (Network, bool) {
	return find(t.Networks, func(n Network) bool { return n.Name == name })
}

// Guest returns the guest of that name.
func (t *Topology) Guest(name string) (Guest, bool) {
	return find(t.Guests, func(g Guest) bool { return g.Name == name })
}

// Portgroup returns the portgroup of that name.
func (n Network) Portgroup(name string) (Portgroup, bool) {
	return find(n.Portgroups, func(g Portgroup) bool { return g.Name == name })
}

// PolicyFor returns the policy of a NIC in the named portgroup, or without one:
// the default portgroup's, or the network's own. It reports false when there is
// no such portgroup.
func (n Network) PolicyFor(portgroup string) (Policy, bool) {
	group, ok := n.Portgroup(portgroup)
	if portgroup == "" {
		group, ok = find(n.Portgroups, func(g Portgroup) bool { return g.Default })
		if !ok {
			return n.Policy, true
		}
	}
	return group.Policy, ok
}

func find[T any](list []T, match func(T) bool) (T, bool) {
	if i := slices.IndexFunc(list, match); i >= 0 {
		return list[i], true
	}
	var zero T
	return zero, false
}
