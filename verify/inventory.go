// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"net/netip"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Inventory is what was collected once, before any probe. Run reads it only.
type Inventory struct {
	// Guests are those to look at. A guest that is not running fails, so the
	// caller leaves out the ones that nobody expects to run.
	Guests []Guest
	// Expect and Waivers are the spec's.
	Expect  []vnet.Expectation
	Waivers []vnet.Waiver
	// Networks are the networks of the spec or of libvirt.
	Networks []vnet.Network
	// Limits says what could not be collected.
	Limits []string
	// GuestsUnknown says that there may be more guests: some libvirt that was
	// asked for them did not answer.
	GuestsUnknown bool
	// Switches are the switches that the guests are on or should be on, also
	// the bridges that libvirt makes for nat and isolated networks.
	Switches []Switch
}

// Switch is a switch of the host, with what is known of it beyond its ports.
type Switch struct {
	vnet.Switch

	// Untagged is the VLAN the switch puts untagged ports in, or zero when it
	// has none (vlan_default_pvid of a Linux bridge).
	Untagged vnet.VLANID
	// Fault is what keeps the switch itself from passing anybody's frames, as
	// far as it takes asking the switch to know, or nil.
	Fault *Fault
	// Err says why the switch could not be observed, or nil. The ports on it
	// are then inconclusive.
	Err error
	// UplinkPort is the port that leads to the Uplink of the spec, or nil when
	// there is none in the spec or it could not be observed.
	UplinkPort *UplinkPort
	// Overlay is nil on a switch whose networks are those of its host, and where
	// it is not known.
	Overlay *Overlay
}

// Fault is something broken as whoever looked at it found it.
type Fault struct {
	Got, Fix string
	Evidence []string
}

// UplinkPort is the port of a switch that leads to the fabric.
type UplinkPort struct {
	// Device is the port: the uplink of the spec, or the bond that has it. It
	// is empty when the switch has no such port.
	Device string
	// Link is whether something is at the other end, or [vnet.ToggleLeave]
	// where the kernel's device tells.
	Link vnet.Toggle
	// VLAN is the port's membership, or nil on a switch without VLANs.
	VLAN       *vnet.VLANSet
	Forwarding Forwarding
}

// Forwarding is what spanning tree lets a port do.
type Forwarding struct {
	// State is that of IEEE 802.1D or 802.1w, such as "forwarding" or
	// "learning", or empty where there is none.
	State string
	// Left is how long until the port forwards by itself, or zero when it does,
	// or when that is not known.
	Left time.Duration
}

// Guest is a virtual machine as libvirt has it.
type Guest struct {
	Ref vnet.GuestRef
	// Host is where it is, or empty for this machine. Of a guest of another host the
	// ports are not observed, and only the Binding is known.
	Host    string
	Running bool
	// Down means that the guest is expected not to run.
	Down bool
	// State is libvirt's word for it, such as "shut off" or "paused".
	State string
	// Held is what libvirt has paused the guest for, until it is done, such as "a
	// migration", or empty. Such a guest is not Running, which is no fault.
	Held string
	// Started is when its CPUs began to run, or zero when that is not known.
	Started time.Time
	NICs    []NIC
}

// NIC is one network interface of a guest: as it should be and as it is. A NIC
// that the spec wants and the guest does not have is here too, without a
// Device in Want.
type NIC struct {
	// Want is the port as it should be. Its Device is the host's device of the
	// live domain XML, such as "vnet0". Its Switch is empty in a macvtap
	// network, and the bridge's name in a nat or isolated one.
	Want vnet.Port
	// LinkDown is true for <link state='down'/> in the domain XML.
	LinkDown bool
	// Port is what the switch has for the device, or nil when it could not be
	// observed. A macvtap has none.
	Port *Port
	// Addresses are those the guest is believed to have, best source first.
	Addresses []Address
}

// Port is a guest's port as it was observed on its switch.
type Port struct {
	// Switch is the switch that the device is on, or empty for none.
	Switch string
	// VLAN is the port's membership, or nil on a switch without VLANs.
	VLAN *vnet.VLANSet
	// Isolated is [vnet.ToggleLeave] on a switch without isolated ports.
	Isolated   vnet.Toggle
	Forwarding Forwarding
	// Refused is why the switch does not take the port up, in its own words, or
	// empty when it does; RefusedRow is where it says so.
	Refused, RefusedRow string
	// Binding is zero on a switch without logical ports.
	Binding Binding
	// Differs are the settings, besides those above and the MTU, that are not
	// as they should be. NotOurs says why there is nothing to compare them
	// with, and DiffersErr why it could not be done.
	Differs    []Setting
	NotOurs    string
	DiffersErr error
}

// Setting is one setting of a port that is not as it should be, in words.
type Setting struct {
	// Name is the setting's, such as "outbound rate".
	Name      string
	Want, Got string
}

// Address is an IP address and who says that the guest has it.
type Address struct {
	Addr   netip.Addr    `json:"addr"`
	Source AddressSource `json:"source"`
}

// AddressSource is where an address is known from.
type AddressSource string

// The sources of addresses, the most trusted first.
const (
	AddressSpec  AddressSource = "spec"
	AddressAgent AddressSource = "agent"
	AddressLease AddressSource = "lease"
	// AddressHeard is an address that the guest itself used or answered at in
	// an ARP frame during this run.
	AddressHeard AddressSource = "ARP"
)

// Learned is one row of a switch's forwarding database: frames to MAC in VLAN
// go to Device.
type Learned struct {
	MAC    vnet.MAC
	VLAN   vnet.VLANID
	Device string
}

// Switches is what verify asks of the switches while it runs. It is called from
// one goroutine at a time.
type Switches interface {
	// Learned dumps the forwarding database of a switch. Run calls it before
	// the first probe, and once more when a guest had not spoken by then. Run
	// may change the list.
	Learned(ctx context.Context, sw string) ([]Learned, error)
	// OpenVantage makes a device of the host whose frames are in one VLAN of
	// the switch, as a guest's would be, and brings it up. Zero is the VLAN of
	// untagged ports. It may remove vantages that dead processes left.
	OpenVantage(ctx context.Context, sw string, vlan vnet.VLANID) (device string, err error)
	// CloseVantage removes the device.
	CloseVantage(ctx context.Context, sw, device string) error
	// WatchDrops begins to look at which rules of the host drop ARP and ICMP
	// frames that come in by one of the ports, given by interface index, or
	// are for one of the MAC addresses. The function that it returns ends that
	// and says what was dropped. Run calls it only when somebody stays silent.
	WatchDrops(ctx context.Context, ports []int, macs []vnet.MAC) (stop func(context.Context) ([]Drop, error), err error)
}

// Drop is a rule of the host, or the policy of a chain, that has dropped frames
// with the same ends.
type Drop struct {
	// Source and Target are the frames' MAC addresses, In the index of the port
	// that they came in by, Sender the IP address they say they are from. All
	// are zero of a rule that only counts.
	Source, Target vnet.MAC
	In             int
	Sender         netip.Addr
	// IP is whether they carry IP, and not ARP.
	IP bool
	// By is what kind of rule it is; Place where it is, such as "table bridge
	// filter, chain forward"; Rule its text.
	By    DropBy
	Place string
	Rule  string
	// Ours is whether the rule is one of the spec.
	Ours bool
	// Fix is a command that helps.
	Fix string
	// Frames is how many were dropped.
	Frames int
}

// DropBy is what kind of rule drops frames.
type DropBy int

// The kinds of rules.
const (
	// DropByBridge is a rule that looks at bridged frames.
	DropByBridge DropBy = iota + 1
	// DropByGuard is one of our own, which a port has by its network's policy.
	DropByGuard
	// DropByHost is one for routed packets, to which br_netfilter hands
	// bridged ones.
	DropByHost
	// DropByACL is one between the guests of a network that spans hosts.
	DropByACL
)
