// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Problem codes of a spec.
const (
	CodeSpecMissing     = "SPEC_MISSING"      // a required setting is not there
	CodeSpecValue       = "SPEC_VALUE"        // a value is outside of what is allowed
	CodeSpecUnknownName = "SPEC_UNKNOWN_NAME" // a name refers to nothing
	CodeSpecDuplicate   = "SPEC_DUPLICATE"    // two objects claim the same name, MAC or address
	CodeSpecConflict    = "SPEC_CONFLICT"     // two settings exclude each other
)

// Limits of what a port can have.
const (
	MinMTU = 68    // RFC 791, the smallest IPv4 allows
	MaxMTU = 65535 // the largest the kernel allows on any device
	// maxDeviceName is IFNAMSIZ - 1: what a Linux interface may be called.
	maxDeviceName = 15
	maxQueues     = 256 // QEMU's limit of queue pairs
	minRing       = 256 // QEMU's limits of virtio ring sizes
	maxRing       = 1024
	// maxBurst is what the kernel's token buckets hold at any rate.
	maxBurst ByteSize = 256 << 20
)

// Validate returns everything that is wrong with the topology, in the order of
// its objects, or nil.
func (t *Topology) Validate() []Problem {
	v := validator{topology: t}
	v.hosts()
	v.switches()
	v.networks()
	v.routers()
	v.addressSets()
	v.guests()
	v.expectations()
	v.waivers()
	return v.problems
}

type validator struct {
	topology *Topology
	problems []Problem
}

// add reports a problem of subject at field.
func (v *validator) add(code, subject, field, got, want string) {
	v.problems = append(v.problems, Problem{Code: code, Subject: subject, Field: field, Got: got, Want: want})
}

// object is where a problem is: the words for people, the path for files.
type object struct {
	v             *validator
	subject, path string
}

func (o object) value(field, got, want string) {
	o.v.add(CodeSpecValue, o.subject, o.path+"."+field, got, want)
}

func (o object) conflict(field, got, want string) {
	o.v.add(CodeSpecConflict, o.subject, o.path+"."+field, got, want)
}

func (o object) missing(field, want string) {
	o.v.add(CodeSpecMissing, o.subject, o.path, "no "+field, want)
}

func (o object) unknown(field, got, want string) {
	o.v.add(CodeSpecUnknownName, o.subject, o.path+"."+field, got, want)
}

func (o object) duplicate(field, got, want string) {
	o.v.add(CodeSpecDuplicate, o.subject, o.path+"."+field, got, want)
}

func (v *validator) switches() {
	seen := map[string]bool{}
	for _, s := range v.topology.Switches {
		o := object{v, "switch " + s.Name, "switches." + s.Name}
		o.device("name", s.Name)
		if seen[s.Name] {
			o.duplicate("name", "two switches of this name", "one")
		}
		seen[s.Name] = true
		if s.Driver == 0 {
			o.missing("driver", "driver: one of "+strings.Join(Drivers(), ", "))
		}
		if s.Uplink != "" {
			o.device("uplink", s.Uplink)
		}
		o.database(s, v.topology)
		o.overlay(s)
		o.mirrors(s, v.topology)
		o.exports(s)
		o.bond(s)
		o.treePorts(s)
		if s.Bridge.Owned {
			o.ownBridge(s, v.topology)
		}
	}
}

// database checks where a switch is configured from.
func (o object) database(s Switch, t *Topology) {
	if i := slices.IndexFunc(t.Hosts, Host.elsewhere); i >= 0 && s.Driver == DriverOVN && len(s.Database) == 0 {
		o.missing("database", "database: where every host reaches OVN's northbound database, such as tcp:192.0.2.10:6641, as host "+
			t.Hosts[i].Name+" is another machine")
	}
	if len(s.Database) > 0 && s.Driver == DriverLinux {
		o.conflict("database", "a database with driver: linux", "no database: the kernel is asked")
	}
	if !s.Database.NeedTLS() {
		return
	}
	for _, file := range []struct{ key, name string }{{"key", s.TLS.Key}, {"certificate", s.TLS.Certificate}, {"ca", s.TLS.CA}} {
		switch {
		case file.name == "":
			o.missing("tls."+file.key, "tls."+file.key+": a PEM file, as a database server at ssl is asked for")
		case !strings.HasPrefix(file.name, "/"):
			o.value("tls."+file.key, "the file "+file.name, "an absolute path")
		}
	}
}

// ownBridge checks the settings of a bridge, with the limits of the kernel
// (br_stp_if.c, br_netlink.c).
func (o object) ownBridge(s Switch, t *Topology) {
	if s.Driver == DriverOVN {
		o.conflict("bridge", "bridge settings with driver: ovn", "driver: linux or ovs, or no bridge")
	}
	o.bridgeOf(s)
	b := s.Bridge
	if b.DefaultPVID.Value > MaxVLANID {
		o.value("bridge.default_pvid", fmt.Sprintf("VLAN %d", b.DefaultPVID.Value), "0 for none, or 1 to 4094")
	}
	if p := b.Priority.Value; p < 0 || p > 65535 {
		o.value("bridge.stp_priority", fmt.Sprint(p), "0 to 65535")
	}
	tagged := func(p Policy) bool { return !p.VLAN.IsZero() }
	untagged := func(p Policy) bool { return p.VLAN.IsZero() }
	for _, n := range t.Networks {
		switch {
		case n.Switch != s.Name:
		case b.VLANFiltering == ToggleOff && slices.ContainsFunc(n.Policies(), tagged):
			o.conflict("bridge.vlan_filtering", "vlan_filtering: false, and network "+n.Name+" has a VLAN", "vlan_filtering: true")
		case b.VLANFiltering == ToggleOn && b.DefaultPVID == Given[VLANID](0) && slices.ContainsFunc(n.Policies(), untagged):
			o.conflict("bridge.default_pvid", "default_pvid: 0, and guests of network "+n.Name+" have no VLAN, so they would reach nobody",
				"a vlan for that network, or the default_pvid of such guests")
		}
	}
}

// bridgeOf checks what not every driver's bridge has, and the timers of spanning
// trees (ovs-vswitchd.conf.db(5), Bridge table).
func (o object) bridgeOf(s Switch) {
	b := s.Bridge
	alone := Bridge{
		Owned: true, STP: b.STP, Priority: b.Priority, ForwardDelay: b.ForwardDelay,
		HelloTime: b.HelloTime, MaxAge: b.MaxAge, RSTP: b.RSTP, RSTPPriority: b.RSTPPriority,
		RSTPMaxAge: b.RSTPMaxAge, RSTPForwardDelay: b.RSTPForwardDelay, ForwardBPDU: b.ForwardBPDU,
	}
	if s.Driver == DriverOVS && b != alone {
		o.conflict("bridge", "vlan_filtering or default_pvid with driver: ovs", "neither: Open vSwitch always tells VLANs apart")
	}
	alone = Bridge{
		Owned: true, STP: b.STP, Priority: b.Priority, ForwardDelay: b.ForwardDelay,
		VLANFiltering: b.VLANFiltering, DefaultPVID: b.DefaultPVID,
	}
	shortest := 2
	if s.Driver == DriverOVS {
		shortest = 4
	} else if b != alone {
		o.conflict("bridge", "rstp, stp_hello_time, stp_max_age or forward_bpdu with driver: "+s.Driver.String(), "driver: ovs")
	}
	for _, timer := range []struct {
		field     string
		value     time.Duration
		low, high int
	}{
		{"stp_forward_delay", b.ForwardDelay, shortest, 30},
		{"stp_hello_time", b.HelloTime, 1, 10},
		{"stp_max_age", b.MaxAge, 6, 40},
		{"rstp_max_age", b.RSTPMaxAge, 6, 40},
		{"rstp_forward_delay", b.RSTPForwardDelay, 4, 30},
	} {
		if n := int(timer.value / time.Second); n != 0 && (n < timer.low || n > timer.high) {
			o.value("bridge."+timer.field, fmt.Sprintf("%s: %d seconds", timer.field, n), fmt.Sprintf("%d to %d seconds", timer.low, timer.high))
		}
	}
	if p := b.RSTPPriority.Value; p < 0 || p > 61440 || p%4096 != 0 {
		o.value("bridge.rstp_priority", fmt.Sprintf("rstp_priority: %d", p), "0 to 61440 in steps of 4096")
	}
	if b.STP == ToggleOn && b.RSTP == ToggleOn {
		o.conflict("bridge.rstp", "stp: true and rstp: true", "one of them")
	}
}

func (v *validator) networks() {
	seen := map[string]bool{}
	for _, n := range v.topology.Networks {
		o := object{v, "network " + n.Name, "networks." + n.Name}
		if n.Name == "" || strings.ContainsAny(n.Name, "/\n\t ") || n.Name == "." || n.Name == ".." {
			o.value("name", fmt.Sprintf("the name %q", n.Name), "a name without spaces and slashes")
		}
		if seen[n.Name] {
			o.duplicate("name", "two networks of this name", "one")
		}
		seen[n.Name] = true
		o.attachment(n, v.topology)
		o.mtu(n.MTU)
		o.policy(n.Policy)
		o.addressing(n)
		o.portgroups(n)
		o.logical(n, v.topology)
	}
}

// attachment checks that a network has what its mode plugs it into, and nothing
// that belongs to another mode.
func (o object) attachment(n Network, t *Topology) {
	switch n.Mode {
	case ModeBridge:
		o.bridge(n, t)
	case ModeMacvtap:
		o.macvtap(n)
	case ModeNAT, ModeIsolated:
		if n.Switch != "" {
			o.conflict("switch", fmt.Sprintf("switch %s in a network of mode %s", n.Switch, n.Mode),
				"no switch: libvirt makes the bridge of this mode")
		}
		if !n.Policy.VLAN.IsZero() {
			o.conflict("vlan", fmt.Sprintf("%s in a network of mode %s", n.Policy.VLAN, n.Mode), "no VLAN, or mode: bridge")
		}
	default:
		o.missing("mode", "switch: NAME, or mode: one of "+strings.Join(Modes(), ", "))
	}
	if n.Mode != ModeMacvtap && n.Device != "" {
		o.conflict("device", fmt.Sprintf("device %s in a network of mode %s", n.Device, n.Mode), "no device, or mode: macvtap")
	}
	if n.Mode != ModeMacvtap && n.Macvtap != MacvtapBridge {
		o.conflict("macvtap", fmt.Sprintf("macvtap: %s in a network of mode %s", n.Macvtap, n.Mode), "mode: macvtap")
	}
}

func (o object) bridge(n Network, t *Topology) {
	if n.Switch == "" {
		o.missing("switch", "switch: the bridge its guests plug into")
		return
	}
	if _, ok := t.Switch(n.Switch); !ok {
		o.unknown("switch", "switch "+n.Switch, "one of the spec's switches: "+listOr(switchNames(t), "none is declared"))
	}
}

func (o object) macvtap(n Network) {
	switch {
	case n.Switch != "":
		o.conflict("switch", fmt.Sprintf("switch %s in a macvtap network", n.Switch), "device: the host device to sit on")
	case n.Device == "":
		o.missing("device", "device: the host device to sit on")
	default:
		o.device("device", n.Device)
	}
	if !n.Policy.VLAN.IsZero() {
		o.conflict("vlan", n.Policy.VLAN.String()+" in a macvtap network",
			fmt.Sprintf("a VLAN device to sit on, such as device: %s.%d", n.Device, max(n.Policy.VLAN.PVID(), 1)))
	}
	if n.Policy.Isolated {
		o.conflict("isolated", "isolated: true in a macvtap network", "macvtap: private")
	}
	antiSpoof, dhcp, ra := n.Policy.Guards()
	for _, s := range []struct {
		field string
		given bool
	}{{"anti_spoof", antiSpoof}, {"dhcp_guard", dhcp && !antiSpoof}, {"ra_guard", ra && !antiSpoof}, {"qos", n.Policy.QoS != QoS{}}} {
		if s.given {
			o.conflict(s.field, s.field+" in a macvtap network", "mode: bridge: a macvtap has no port that could do it")
		}
	}
}

func (o object) mtu(mtu int) {
	if mtu != 0 && (mtu < MinMTU || mtu > MaxMTU) {
		o.value("mtu", fmt.Sprintf("MTU %d", mtu), fmt.Sprintf("%d to %d", MinMTU, MaxMTU))
	}
}

func (o object) policy(p Policy) {
	const want = "1 to 4094"
	s := p.VLAN
	if s.Access != 0 && !s.Access.Valid() {
		o.value("vlan", fmt.Sprintf("VLAN %d", s.Access), want)
	}
	if s.Native != 0 && !s.Native.Valid() {
		o.value("native", fmt.Sprintf("VLAN %d", s.Native), want)
	}
	for _, r := range s.Trunk {
		if !r.First.Valid() || !r.Last.Valid() || r.First > r.Last {
			o.value("trunk", "VLANs "+r.String(), want)
		}
	}
	if s.Access != 0 && s.IsTrunk() {
		o.conflict("vlan", "vlan and trunk on the same port", "vlan for an access port, or trunk with native")
	}
	if s.Native != 0 && len(s.Trunk) == 0 {
		o.conflict("native", "native without trunk", "trunk: the tagged VLANs, or vlan for an access port")
	}
	o.tunnel(s)
	o.guards(p)
	o.qos(p.QoS)
}

// tunnel checks a port whose frames get a service tag.
func (o object) tunnel(s VLANSet) {
	const want = "1 to 4094"
	if s.Service != 0 && !s.Service.Valid() {
		o.value("service_vlan", fmt.Sprintf("VLAN %d", s.Service), want)
	}
	for _, r := range s.Customer {
		if !r.First.Valid() || !r.Last.Valid() || r.First > r.Last {
			o.value("customer_vlans", "VLANs "+r.String(), want)
		}
	}
	if s.Service != 0 && (s.Access != 0 || s.IsTrunk()) {
		o.conflict("service_vlan", "service_vlan and "+VLANSet{Access: s.Access, Trunk: s.Trunk, Native: s.Native}.String()+" on the same port",
			"service_vlan with customer_vlans for a tunnel, or vlan, or trunk")
	}
	if s.Service == 0 && len(s.Customer) > 0 {
		o.conflict("customer_vlans", "customer_vlans without service_vlan", "service_vlan: the VLAN that carries them")
	}
}

// guards checks that what is asked of a guest's honesty is no contradiction.
func (o object) guards(p Policy) {
	if p.Profile == ProfileAppliance {
		for _, g := range []struct {
			field string
			on    bool
		}{{"anti_spoof", p.AntiSpoof}, {"dhcp_guard", p.DHCPGuard == ToggleOn}, {"ra_guard", p.RAGuard == ToggleOn}} {
			if g.on {
				o.conflict(g.field, g.field+": true with profile: appliance", "profile: guest, or no "+g.field)
			}
		}
	}
	o.allow(p.Allow, p.AntiSpoof || p.Profile == ProfileAppliance)
}

// allow checks source addresses; checked says that any are.
func (o object) allow(a Allow, checked bool) {
	if !a.IsZero() && !checked {
		o.conflict("allow", "allow without anti_spoof: every source is allowed", "anti_spoof: true in the network or portgroup")
	}
	for _, mac := range a.MACs {
		if mac.IsGroup() || mac.IsZero() {
			o.value("allow", mac.HardwareAddr().String(), "a unicast MAC address")
		}
	}
	for _, addr := range a.Addresses {
		if addr.IsMulticast() || addr.IsUnspecified() || addr.Zone() != "" {
			o.value("allow", addr.String(), "the address of a machine")
		}
	}
}

func (o object) qos(q QoS) {
	for _, d := range []struct {
		name string
		rate Rate
	}{{"inbound", q.Inbound}, {"outbound", q.Outbound}} {
		if d.rate.Burst != 0 && d.rate.Bits == 0 {
			o.conflict("qos."+d.name+"_burst", "a burst without a rate", d.name+": the rate, such as 100mbit")
		}
		if d.rate.Burst > maxBurst {
			o.value("qos."+d.name+"_burst", d.rate.Burst.String(), "at most "+maxBurst.String())
		}
	}
	if q.Priority < 0 || q.Priority > 7 {
		o.value("qos.priority", fmt.Sprint(q.Priority), "1 to 7")
	}
}

func (o object) addressing(n Network) {
	if !n.Subnet.IsValid() {
		if n.Gateway.IsValid() {
			o.conflict("gateway", "gateway without subnet", "subnet: the prefix the gateway is in")
		}
		if n.Mode == ModeNAT {
			o.missing("subnet", "subnet: its addresses, such as 192.168.150.0/24")
		}
		return
	}
	if n.Subnet != n.Subnet.Masked() {
		o.value("subnet", n.Subnet.String(), n.Subnet.Masked().String())
	}
	if n.Gateway.IsValid() {
		o.inSubnet("gateway", n.Gateway, n)
	}
}

func (o object) inSubnet(field string, addr netip.Addr, n Network) {
	if !n.Subnet.Contains(addr) {
		o.value(field, addr.String(), "an address in "+n.Subnet.String())
		return
	}
	if !addr.Is4() || n.Subnet.Bits() >= 31 {
		return
	}
	if addr == n.Subnet.Masked().Addr() || addr == lastAddr(n.Subnet) {
		o.value(field, addr.String()+", which names the whole subnet", "a host's address in "+n.Subnet.String())
	}
}

// lastAddr is the broadcast address of an IPv4 prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

func (o object) portgroups(n Network) {
	if len(n.Portgroups) > 0 && n.Mode != ModeBridge && n.Mode != 0 {
		o.conflict("portgroups", fmt.Sprintf("portgroups in a %s network", n.Mode), "mode: bridge")
	}
	defaults := 0
	seen := map[string]bool{}
	for _, g := range n.Portgroups {
		group := object{o.v, o.subject + ", portgroup " + g.Name, o.path + ".portgroups." + g.Name}
		group.policy(g.Policy)
		if seen[g.Name] {
			group.duplicate("name", "two portgroups of this name", "one")
		}
		seen[g.Name] = true
		if g.Default {
			defaults++
		}
	}
	if defaults > 1 {
		o.conflict("portgroups", fmt.Sprintf("%d default portgroups", defaults), "one")
	}
}

// device checks a Linux interface name (dev_valid_name in the kernel).
func (o object) device(field, name string) {
	if name == "" || len(name) > maxDeviceName || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n") {
		o.value(field, fmt.Sprintf("the device name %q", name),
			fmt.Sprintf("1 to %d characters without spaces, slashes and colons", maxDeviceName))
	}
}

func switchNames(t *Topology) []string {
	list := make([]string, len(t.Switches))
	for i, s := range t.Switches {
		list[i] = s.Name
	}
	slices.Sort(list)
	return list
}

func networkNames(t *Topology) []string {
	list := make([]string, len(t.Networks))
	for i, n := range t.Networks {
		list[i] = n.Name
	}
	slices.Sort(list)
	return list
}

// listOr joins list, or returns none for an empty one.
func listOr(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return strings.Join(list, ", ")
}
