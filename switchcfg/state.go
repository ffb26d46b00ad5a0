// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Owner is the mark we leave on a port, with the guest NIC it was wired for.
// The zero Owner means that a port carries no mark of ours: it is foreign.
type Owner struct {
	Guest   string   `json:"guest,omitempty"` // UUID
	MAC     vnet.MAC `json:"mac,omitzero"`
	Network string   `json:"network,omitempty"`
}

// IsZero reports whether there is no mark.
func (o Owner) IsZero() bool { return o == Owner{} }

// String returns "guest UUID, network red", or "none".
func (o Owner) String() string {
	if o.IsZero() {
		return "none"
	}
	return fmt.Sprintf("guest %s, network %s", o.Guest, o.Network)
}

// Settings is what a port does. In a wanted state a zero field means "leave
// alone"; in an observed one it means that the switch has no such setting.
type Settings struct {
	// VLAN is nil to leave the membership alone. A pointer to the zero
	// [vnet.VLANSet] is an untagged port.
	VLAN *vnet.VLANSet `json:"vlan,omitempty"`
	// MTU is of the port's device, in bytes.
	MTU   int   `json:"mtu,omitempty"`
	Flags Flags `json:"flags,omitzero"`
	// Guard is nil to leave it alone. A pointer to the zero [Guard] is none.
	Guard *Guard `json:"guard,omitempty"`
	// QoS is nil to leave it alone, such as to libvirt. A pointer to the zero
	// [vnet.QoS] is no limit.
	QoS *vnet.QoS `json:"qos,omitempty"`
	// Logical is what the port is in a network that spans hosts. In a wanted
	// state nil is a port that is none, such as one that was released.
	Logical *LogicalPort `json:"logical,omitempty"`
	// Mirrored is nil to leave it alone.
	Mirrored *Mirrored `json:"mirrored,omitempty"`
	// Bridge, Monitoring, Bond and TreePorts are of the bridge itself, the port that is called
	// like its switch.
	Bridge     *vnet.Bridge `json:"bridge,omitempty"`
	Monitoring *Monitoring  `json:"monitoring,omitempty"`
	Bond       *Bond        `json:"bond,omitempty"`
	TreePorts  *TreePorts   `json:"treePorts,omitempty"`
}

// LogicalPort is a guest's port in a network that spans hosts, such as a logical
// switch of OVN. It stays while its guest moves from one host to another.
type LogicalPort struct {
	// ID names it on all hosts. It is the guest interface's id, a UUID.
	ID      string `json:"id"`
	Network string `json:"network"`
	// Address is what the network knows the guest by, and serves it by DHCP.
	Address netip.Addr `json:"address,omitzero"`
	// Promiscuous has the port get frames to addresses that no port is known to
	// have, as a guest needs that answers for others.
	Promiscuous bool `json:"promiscuous,omitempty"`
	// Joined says that the port has what its network gives to all: the options of
	// DHCP, the rules.
	Joined bool `json:"joined"`
	// Here says that the port is to be on this host, and Elsewhere that it may be
	// on others: both while its guest moves.
	Here      bool        `json:"here"`
	Elsewhere vnet.Toggle `json:"elsewhere"`
}

// String returns "ID on red".
func (p LogicalPort) String() string {
	if p == (LogicalPort{}) {
		return "none"
	}
	return p.ID + " on " + p.Network
}

// place says which hosts have the port.
func (p LogicalPort) place() string {
	switch {
	case p.Here && p.Elsewhere == vnet.ToggleOn:
		return "here and elsewhere"
	case p.Here:
		return "here"
	case p.Elsewhere == vnet.ToggleOn:
		return "elsewhere"
	}
	return "none"
}

// Port is one port of a switch, wanted or observed.
type Port struct {
	// Device is the port's name.
	Device string `json:"device"`
	// Index is, observed, the number that tells the device from a later one of
	// its name, or zero on a switch that has none (the kernel's ifindex).
	Index int `json:"index,omitempty"`
	// Switch is the switch the device is a port of. Observed, it is empty when
	// the device exists and is on none.
	Switch string `json:"switch,omitempty"`
	Owner  Owner  `json:"owner,omitzero"`
	// Carrier is, observed, whether something is at the other end of the device,
	// such as a guest.
	Carrier bool `json:"-"`
	// Foreign is, observed, somebody else's mark in the place of ours, such as
	// an interface alias that an administrator has set. A port that has one is
	// never wired.
	Foreign  string   `json:"foreign,omitempty"`
	Settings Settings `json:"settings,omitzero"`
}

// Released is the port without an owner, and without what only an owner has.
func (p Port) Released() Port {
	p.Owner = Owner{}
	if p.Settings.Guard != nil {
		p.Settings.Guard = &Guard{}
	}
	if p.Settings.QoS != nil {
		p.Settings.QoS = &vnet.QoS{}
	}
	if p.Settings.Mirrored != nil {
		p.Settings.Mirrored = &Mirrored{}
	}
	p.Settings.Logical = nil
	return p
}

// Uplink is the port of a switch that leads to the fabric.
type Uplink struct {
	// Device is, observed, the port's name, which is among the ports: the
	// device that the spec names, or the bond that it is a member of. Empty
	// means that there is none.
	Device string `json:"device,omitempty"`
	// Tag is, observed, the VLAN of an uplink that is a VLAN device itself.
	Tag vnet.VLANID `json:"tag,omitempty"`
	// VLANs are, wanted, those that it must carry at least, and Managed says
	// that we see to it. It keeps all others that it has.
	VLANs   vnet.VLANRanges `json:"vlans,omitempty"`
	Managed bool            `json:"managed,omitempty"`
}

// State is the ports of one switch by device name, wanted or observed. Nothing
// changes a State once it is made.
type State struct {
	Switch string `json:"switch"`
	// Untagged is, observed, the VLAN that the switch puts untagged ports in
	// (vlan_default_pvid of a Linux bridge), or zero when it has none.
	Untagged vnet.VLANID `json:"untagged,omitempty"`
	// MTU is, observed, that of the switch, or zero when it has none of its own.
	MTU    int             `json:"mtu,omitempty"`
	Uplink Uplink          `json:"uplink,omitzero"`
	Ports  map[string]Port `json:"ports,omitempty"`
}

// Devices returns the names of the ports, sorted.
func (s State) Devices() []string { return slices.Sorted(maps.Keys(s.Ports)) }

// Desired returns the state that ports ask of sw, and what the spec asks of the
// switch itself where it is ours. Every port must be of that switch and have a
// device.
//
// Guest ports get a BPDU guard on switches that can have one, unless their
// policy says otherwise: a guest's spanning tree frames would let it become
// the root of the host's bridge.
func Desired(ports []vnet.Port, sw vnet.Switch) (State, error) {
	state := State{Switch: sw.Name, Ports: make(map[string]Port, len(ports))}
	for _, p := range ports {
		if p.Device == "" || p.Switch != sw.Name {
			return State{}, fmt.Errorf("port %q of switch %q cannot be wired on switch %q", p.Device, p.Switch, sw.Name)
		}
		if _, twice := state.Ports[p.Device]; twice {
			return State{}, fmt.Errorf("switch %s: two guest NICs claim port %s", sw.Name, p.Device)
		}
		state.Ports[p.Device] = Port{
			Device:   p.Device,
			Switch:   sw.Name,
			Owner:    Owner{Guest: p.Guest.UUID, MAC: p.MAC, Network: p.Network},
			Settings: settings(p, sw),
		}
		if sw.Uplink != "" {
			state.Uplink.VLANs = append(state.Uplink.VLANs, p.Policy.VLAN.All()...)
		}
	}
	state.Uplink.VLANs = state.Uplink.VLANs.Normal()
	state.Uplink.Managed = sw.Bridge.Owned
	if sw.Configured() {
		state.Ports[sw.Name] = ownPort(sw)
	}
	return state, nil
}

// ownPort is what the spec asks of the switch itself.
func ownPort(sw vnet.Switch) Port {
	own := Port{Device: sw.Name, Switch: sw.Name}
	if sw.Bridge.Owned {
		own.Settings.Bridge = &sw.Bridge
	}
	if monitoring := monitoringOf(sw); sw.Driver == vnet.DriverOVS || !same(monitoring, &Monitoring{}) {
		own.Settings.Monitoring = monitoring
	}
	if sw.Driver == vnet.DriverOVS || !sw.Bond.IsZero() {
		own.Settings.Bond = bondOf(sw)
	}
	if sw.Driver == vnet.DriverOVS || len(sw.TreePorts) > 0 {
		own.Settings.TreePorts = &TreePorts{Ports: sw.TreePorts}
	}
	return own
}

func settings(p vnet.Port, sw vnet.Switch) Settings {
	driver := sw.Driver
	vlan := p.Policy.VLAN
	s := Settings{VLAN: &vlan, MTU: p.MTU, Flags: flagsOf(p.Policy), Guard: guardOf(p)}
	if !p.LibvirtQoS {
		s.QoS = qosOf(p)
	}
	if driver == vnet.DriverLinux && s.Flags[FlagBPDUGuard] == vnet.ToggleLeave {
		s.Flags[FlagBPDUGuard] = vnet.ToggleOn
	}
	if driver == vnet.DriverOVS && sw.Configured() {
		s.Mirrored = mirroredOf(p, sw)
	}
	if driver == vnet.DriverOVN {
		s.Logical = logicalOf(p)
		// OVN has no guard against router advertisements: refused is only what asks
		// for one, and not anti-spoofing, which usually brings it along.
		s.Guard.RA = p.Policy.RAGuard == vnet.ToggleOn
		if s.QoS != nil {
			policed := p.Policy.QoS.Policed()
			s.QoS = &policed
		}
	}
	return s
}

func logicalOf(p vnet.Port) *LogicalPort {
	l := &LogicalPort{ID: p.InterfaceID, Network: p.Network, Address: p.Address, Joined: true, Here: true}
	l.Promiscuous = p.Policy.Profile == vnet.ProfileAppliance || len(p.Policy.Allow.MACs) > 0 || len(p.Own.MACs) > 0
	if p.Starts {
		l.Elsewhere = vnet.ToggleOff
	}
	return l
}
