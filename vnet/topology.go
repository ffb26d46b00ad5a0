// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"time"
)

// Topology is everything a spec declares. Objects are sorted by name; Expect and
// Waivers are in the order of the spec.
type Topology struct {
	Hosts       []Host        `json:"hosts,omitempty"`
	Switches    []Switch      `json:"switches,omitempty"`
	Networks    []Network     `json:"networks,omitempty"`
	Routers     []Router      `json:"routers,omitempty"`
	AddressSets []AddressSet  `json:"addressSets,omitempty"`
	Guests      []Guest       `json:"guests,omitempty"`
	Expect      []Expectation `json:"expect,omitempty"`
	Waivers     []Waiver      `json:"waivers,omitempty"`
}

// Host is a machine with guests. Without any host in the spec, it is about the
// one that commands connect to.
type Host struct {
	Name string `json:"name"`
	// URI is where its libvirt is reached, such as qemu+ssh://kvm1/system
	// (https://libvirt.org/uri.html).
	URI string `json:"uri"`
	// Chassis is what OVN calls it: external_ids:system-id of its Open vSwitch.
	// Empty means that it is called as here.
	Chassis string `json:"chassis,omitempty"`
}

// Switch is something with ports that virt-vnet manages. It exists already:
// virt-vnet wires ports, and may set a bridge up, but does not build bridges.
type Switch struct {
	// Name is the bridge's name on the host; with OVN that of the integration
	// bridge, such as "br-int".
	Name   string `json:"name"`
	Driver Driver `json:"driver"`
	// Uplink is the host device on this switch that leads to the fabric: a port
	// of it, or a member of the bond that is. Empty means none: guests reach
	// each other only, or virt-vnet has nothing to do with how they reach more.
	Uplink string `json:"uplink,omitempty"`
	// Database is where the servers of the database are that configures the
	// switch. Empty means that of Open vSwitch on this host, at its usual place;
	// with OVN it is the northbound database.
	Database Endpoints `json:"database,omitempty"`
	// TLS is for those of them that are ssl.
	TLS TLS `json:"tls,omitzero"`
	// Bridge is what the bridge itself is to be like.
	Bridge Bridge `json:"bridge,omitzero"`
	// Bond, of what Uplink names, Mirrors, TreePorts and Exports are of an Open vSwitch bridge.
	Bond      Bond        `json:"bond,omitzero"`
	Mirrors   []Mirror    `json:"mirrors,omitempty"`
	TreePorts []TreePort  `json:"treePorts,omitempty"`
	Exports   FlowExports `json:"exports,omitzero"`
	// Overlay is of an OVN switch.
	Overlay Overlay `json:"overlay,omitzero"`
}

// Configured reports whether the spec has settings of the switch itself, which
// virt-vnet then looks after.
func (s Switch) Configured() bool {
	return s.Bridge.Owned || len(s.Mirrors)+len(s.TreePorts) > 0 || !s.Bond.IsZero() || !s.Exports.IsZero()
}

// Bridge is the settings of a bridge itself: of the Linux kernel's (ip-link(8),
// bridge type), or of Open vSwitch's (ovs-vswitchd.conf.db(5), Bridge table). The
// zero Bridge is somebody else's: it is used, and never reconfigured.
type Bridge struct {
	// Owned means that virt-vnet looks after these settings, and after the
	// VLANs of the uplink.
	Owned bool `json:"owned,omitempty"`
	// VLANFiltering makes the bridge tell VLANs apart (IEEE 802.1Q).
	VLANFiltering Toggle `json:"vlanFiltering,omitempty"`
	// DefaultPVID is the VLAN that new ports get, zero for none. Ports that
	// are there already, and the host itself, keep theirs.
	DefaultPVID Optional[VLANID] `json:"defaultPVID,omitzero"`
	// STP is spanning tree (IEEE 802.1D); Priority the bridge's in it, and
	// ForwardDelay how long a port listens, and then learns, before it
	// forwards, in whole seconds; zero leaves it.
	STP          Toggle        `json:"stp,omitempty"`
	Priority     Optional[int] `json:"priority,omitzero"`
	ForwardDelay time.Duration `json:"forwardDelay,omitempty"`

	// The rest is of Open vSwitch. HelloTime and MaxAge, in whole seconds, are STP's
	// as well; zero leaves them.
	HelloTime time.Duration `json:"helloTime,omitempty"`
	MaxAge    time.Duration `json:"maxAge,omitempty"`
	// RSTP is rapid spanning tree (IEEE 802.1D-2004), with the same of its own.
	RSTP             Toggle        `json:"rstp,omitempty"`
	RSTPPriority     Optional[int] `json:"rstpPriority,omitzero"`
	RSTPMaxAge       time.Duration `json:"rstpMaxAge,omitempty"`
	RSTPForwardDelay time.Duration `json:"rstpForwardDelay,omitempty"`
	// ForwardBPDU passes the frames of others' spanning trees on, and other
	// reserved multicast.
	ForwardBPDU Toggle `json:"forwardBPDU,omitempty"`
}

// Optional is a value that can also be left as it is. The zero Optional leaves.
type Optional[T comparable] struct {
	Given bool `json:"given,omitempty"`
	Value T    `json:"value"`
}

// Given is an [Optional] that does not leave.
func Given[T comparable](value T) Optional[T] { return Optional[T]{true, value} }

// Policy is what a port may do. A portgroup's Policy replaces that of its
// network as a whole.
type Policy struct {
	VLAN VLANSet `json:"vlan,omitzero"`
	// Isolated keeps the port from all other isolated ports of the switch; it
	// still reaches ports that are not, such as the uplink.
	Isolated bool `json:"isolated,omitempty"`
	// Learning and the floods are the Linux bridge port flags of that meaning
	// (bridge(8), bridge link set); [ToggleLeave] keeps what the switch has.
	Learning       Toggle `json:"learning,omitempty"`
	Flood          Toggle `json:"flood,omitempty"`
	MulticastFlood Toggle `json:"multicastFlood,omitempty"`
	BroadcastFlood Toggle `json:"broadcastFlood,omitempty"`
	// FastLeave stops a multicast group at once when the guest leaves it.
	FastLeave Toggle `json:"fastLeave,omitempty"`
	// NeighSuppress makes the bridge answer ARP and ND in the place of others.
	NeighSuppress Toggle `json:"neighSuppress,omitempty"`
	// BPDUGuard takes the port down when the guest sends spanning tree frames.
	// [ToggleLeave] means on, on switches that can.
	BPDUGuard Toggle `json:"bpduGuard,omitempty"`
	// RootBlock keeps the guest from becoming the root of the spanning tree.
	RootBlock Toggle `json:"rootBlock,omitempty"`

	Profile Profile `json:"profile,omitempty"`
	// AntiSpoof drops what the guest sends with a source that is not its own:
	// its MAC address, and its IP addresses where the spec has them.
	AntiSpoof bool `json:"antiSpoof,omitempty"`
	// DHCPGuard drops what only a DHCP server sends, RAGuard what only a router
	// does (RFC 6105). [ToggleLeave] means as AntiSpoof.
	DHCPGuard Toggle `json:"dhcpGuard,omitempty"`
	RAGuard   Toggle `json:"raGuard,omitempty"`
	// Allow is what every guest may use as a source besides its own.
	Allow Allow `json:"allow,omitzero"`
	QoS   QoS   `json:"qos,omitzero"`
}

// Guards are what keeps a guest from pretending.
func (p Policy) Guards() (antiSpoof, dhcp, ra bool) {
	on := func(t Toggle) bool { return t == ToggleOn || t == ToggleLeave && p.AntiSpoof }
	return p.AntiSpoof, on(p.DHCPGuard), on(p.RAGuard)
}

// IsPlain reports whether p asks for nothing that a switch without any settings
// would not do.
func (p Policy) IsPlain() bool { return reflect.DeepEqual(p, Policy{Profile: p.Profile}) }

// Allow is source addresses that a guest may use in addition to its own, such
// as those that VRRP moves between two guests (RFC 9568, section 7.3).
type Allow struct {
	MACs      []MAC        `json:"macs,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
}

// IsZero reports whether nothing more is allowed.
func (a Allow) IsZero() bool { return len(a.MACs) == 0 && len(a.Addresses) == 0 }

// QoS limits what a port carries. The directions are the guest's, as those of
// libvirt's <bandwidth> are.
type QoS struct {
	// Inbound is towards the guest: what is too fast waits in a queue.
	Inbound Rate `json:"inbound,omitzero"`
	// Outbound is from the guest: what is too fast is dropped.
	Outbound Rate `json:"outbound,omitzero"`
	// Priority is given to the frames of the guest on their way through the
	// host, 1 to 7 as in IEEE 802.1Q; queues of the uplink go by it. Zero
	// leaves it.
	Priority int `json:"priority,omitempty"`
}

// Rate is one direction's limit. The zero Rate is none.
type Rate struct {
	Bits BitRate `json:"bits,omitempty"`
	// Burst is how much may pass at once. Zero means what goes well with the
	// rate: see [QoS.Exact].
	Burst ByteSize `json:"burst,omitempty"`
}

// minBurst is the largest frame that a guest hands over at once, with
// segmentation left to the host.
const minBurst ByteSize = 64 << 10

// Exact is the limits as they can be in force, with their bursts: rates are
// whole bytes, bursts whole KiB. Where none was chosen it is, towards the guest,
// a tenth of a second's worth; from the guest, where what is too fast is lost,
// half a second's, with less of which TCP does not come near its rate.
func (q QoS) Exact() QoS {
	q.Inbound, q.Outbound = q.Inbound.exact(10), q.Outbound.exact(2)
	return q
}

// Policed is Exact on a switch that drops what is too fast in both directions.
func (q QoS) Policed() QoS {
	q.Inbound, q.Outbound = q.Inbound.exact(2), q.Outbound.exact(2)
	return q
}

// exact is the limit with a burst of that part of a second unless it has one.
func (r Rate) exact(part BitRate) Rate {
	if r.Bits == 0 {
		return Rate{}
	}
	if r.Burst == 0 {
		r.Burst = min(max(ByteSize(r.Bits/8/part), minBurst), maxBurst)
	}
	return Rate{Bits: r.Bits &^ 7, Burst: (r.Burst + 1023) &^ 1023}
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
	// in nat and isolated networks, OVN in its own; elsewhere only verify uses
	// them.
	Subnet    netip.Prefix  `json:"subnet,omitzero"`
	Gateway   netip.Addr    `json:"gateway,omitzero"`
	OnFailure FailurePolicy `json:"onFailure,omitempty"`
	// Logical is of a network on an OVN switch.
	Logical Logical `json:"logical,omitzero"`
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
	// Down means that it is expected not to run.
	Down bool  `json:"down,omitempty"`
	NICs []NIC `json:"nics,omitempty"`
}

// NIC is one network interface of a guest.
type NIC struct {
	Network   string `json:"network"`
	Portgroup string `json:"portgroup,omitempty"`
	// MAC is zero when the spec leaves it to libvirt.
	MAC MAC `json:"mac,omitzero"`
	// Address is the IP address the guest is expected to answer at.
	Address netip.Addr `json:"address,omitzero"`
	// Allow is what this guest may use as a source, beyond MAC and Address.
	Allow Allow `json:"allow,omitzero"`
	// InterfaceID is the UUID of the NIC in a network that spans hosts. Empty
	// leaves it to libvirt.
	InterfaceID string `json:"interfaceID,omitempty"`
	Model       Model  `json:"model,omitempty"`
	// Queues is the number of queue pairs of a virtio NIC; RXRing and TXRing
	// its ring sizes in descriptors. Zero leaves them to QEMU.
	Queues int `json:"queues,omitempty"`
	RXRing int `json:"rxRing,omitempty"`
	TXRing int `json:"txRing,omitempty"`
}

// Sources is what the guest may use as a source by the spec, besides its MAC
// address.
func (n NIC) Sources() Allow {
	own := n.Allow
	if n.Address.IsValid() {
		own.Addresses = append(slices.Clone(own.Addresses), n.Address)
	}
	return own
}

// TakeNIC finds the spec's word on the NIC of that MAC in that network: the one
// of its MAC, or else the first in its network that names none. It returns the
// others too, since each is the word on one NIC only.
func TakeNIC(nics []NIC, mac MAC, network string) (found NIC, rest []NIC, ok bool) {
	i := slices.IndexFunc(nics, func(n NIC) bool { return n.MAC == mac && !mac.IsZero() })
	if i < 0 {
		i = slices.IndexFunc(nics, func(n NIC) bool { return n.MAC.IsZero() && n.Network == network })
	}
	if i < 0 {
		return NIC{}, nics, false
	}
	return nics[i], slices.Concat(nics[:i], nics[i+1:]), true
}

// Sort puts every list of objects in the order of their names.
func (t *Topology) Sort() {
	slices.SortFunc(t.Hosts, func(a, b Host) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Switches, func(a, b Switch) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Networks, func(a, b Network) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Guests, func(a, b Guest) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Routers, func(a, b Router) int { return cmp.Compare(a.Name, b.Name) })
	for _, sw := range t.Switches {
		slices.SortFunc(sw.Mirrors, func(a, b Mirror) int { return cmp.Compare(a.Name, b.Name) })
	}
	slices.SortFunc(t.AddressSets, func(a, b AddressSet) int { return cmp.Compare(a.Name, b.Name) })
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

// Policies are those that a guest of n can have. The network's own is not among
// them when a default portgroup stands in for it.
func (n Network) Policies() []Policy {
	var list []Policy
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

func find[T any](list []T, match func(T) bool) (T, bool) {
	if i := slices.IndexFunc(list, match); i >= 0 {
		return list[i], true
	}
	var zero T
	return zero, false
}
