// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"encoding/binary"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

const (
	// userTick is the kernel's unit of time towards programs (USER_HZ).
	userTick = 10 * time.Millisecond

	// BR_STATE_* (linux/if_bridge.h).
	stateListening  = 1
	stateLearning   = 2
	stateForwarding = 3
)

// link is a network device with what matters of it here.
type link struct {
	rtnl.Link
	kind     string // such as "bridge" or "veth"; empty for hardware
	ofBridge bool   // is a port of a Linux bridge

	tag vnet.VLANID // of a VLAN device

	// Of a bridge: its settings, whether it knows of VLANs at all, and whether
	// it hands IPv4 or IPv6 frames to iptables by itself.
	bridge    vnet.Bridge
	vlanAware bool
	callsIPv4 bool
	callsIPv6 bool

	// Of a bridge's port.
	flags switchcfg.Flags
	// state is BR_STATE_*, and stateLeft how long the port stays in it at
	// least when it listens or learns.
	state     uint32
	stateLeft time.Duration
}

// forwarding reports whether spanning tree lets the port pass frames.
func (l link) forwarding() bool { return l.state == stateForwarding }

// filtering reports whether a bridge tells VLANs apart.
func (l link) filtering() bool { return l.bridge.VLANFiltering == vnet.ToggleOn }

// defaultPVID is the VLAN that a bridge puts new ports in, or zero.
func (l link) defaultPVID() vnet.VLANID { return l.bridge.DefaultPVID.Value }

// describe says what kind of device it is.
func (l link) describe() string {
	if l.kind == "" {
		return "a plain device"
	}
	return "a device of kind " + l.kind
}

// parseLink reads what the kind of the link, and the bridge it is a port of,
// add to it. The kinds precede the data they describe.
func parseLink(base rtnl.Link) (link, error) {
	l := link{Link: base}
	err := rtnl.EachAttr(base.Info, func(kind uint16, value []byte) error {
		switch kind {
		case unix.IFLA_INFO_KIND:
			l.kind = rtnl.Text(value)
		case unix.IFLA_INFO_SLAVE_KIND:
			l.ofBridge = rtnl.Text(value) == "bridge"
		case unix.IFLA_INFO_DATA:
			switch l.kind {
			case "bridge":
				return rtnl.EachAttr(value, l.bridgeAttr)
			case "vlan":
				return rtnl.EachAttr(value, l.vlanAttr)
			}
		case unix.IFLA_INFO_SLAVE_DATA:
			if l.ofBridge {
				return rtnl.EachAttr(value, l.portAttr)
			}
		}
		return nil
	})
	return l, err
}

func (l *link) bridgeAttr(kind uint16, value []byte) error {
	n := rtnl.Number(value)
	switch kind {
	case nl.IFLA_BR_VLAN_FILTERING:
		l.bridge.VLANFiltering = vnet.ToggleOf(n != 0)
	case nl.IFLA_BR_VLAN_DEFAULT_PVID:
		l.vlanAware = true
		l.bridge.DefaultPVID = vnet.Given(vnet.VLANID(n))
	case nl.IFLA_BR_STP_STATE:
		l.bridge.STP = vnet.ToggleOf(n != 0)
	case nl.IFLA_BR_PRIORITY:
		l.bridge.Priority = vnet.Given(int(n))
	case nl.IFLA_BR_FORWARD_DELAY:
		l.bridge.ForwardDelay = time.Duration(n) * userTick
	case nl.IFLA_BR_NF_CALL_IPTABLES:
		l.callsIPv4 = n != 0
	case nl.IFLA_BR_NF_CALL_IP6TABLES:
		l.callsIPv6 = n != 0
	}
	return nil
}

func (l *link) vlanAttr(kind uint16, value []byte) error {
	if kind == nl.IFLA_VLAN_ID {
		l.tag = vnet.VLANID(rtnl.Number(value))
	}
	return nil
}

// flagAttrs are the attributes of the flags of a port (linux/if_link.h).
var flagAttrs = [...]struct {
	attr uint16
	flag switchcfg.Flag
}{
	{nl.IFLA_BRPORT_ISOLATED, switchcfg.FlagIsolated},
	{nl.IFLA_BRPORT_LEARNING, switchcfg.FlagLearning},
	{nl.IFLA_BRPORT_UNICAST_FLOOD, switchcfg.FlagFlood},
	{nl.IFLA_BRPORT_MCAST_FLOOD, switchcfg.FlagMulticastFlood},
	{nl.IFLA_BRPORT_BCAST_FLOOD, switchcfg.FlagBroadcastFlood},
	{nl.IFLA_BRPORT_FAST_LEAVE, switchcfg.FlagFastLeave},
	{nl.IFLA_BRPORT_NEIGH_SUPPRESS, switchcfg.FlagNeighSuppress},
	{nl.IFLA_BRPORT_GUARD, switchcfg.FlagBPDUGuard},
	{nl.IFLA_BRPORT_PROTECT, switchcfg.FlagRootBlock},
}

func (l *link) portAttr(kind uint16, value []byte) error {
	switch kind {
	case nl.IFLA_BRPORT_STATE:
		l.state = rtnl.Number(value)
	case nl.IFLA_BRPORT_FORWARD_DELAY_TIMER:
		if len(value) == 8 {
			l.stateLeft = time.Duration(binary.NativeEndian.Uint64(value)) * userTick
		}
	}
	for _, f := range flagAttrs {
		if f.attr == kind {
			l.flags[f.flag] = vnet.ToggleOf(rtnl.Number(value) != 0)
		}
	}
	return nil
}

// Attributes and sizes of RTM_NEWVLAN (linux/if_bridge.h), which the libraries
// do not name.
const (
	sizeofVLANHeader = 8 // struct br_vlan_msg
	vlanEntryAttr    = 1 // BRIDGE_VLANDB_ENTRY
	vlanInfoAttr     = 1 // BRIDGE_VLANDB_ENTRY_INFO: flags and VLAN
	vlanRangeAttr    = 2 // BRIDGE_VLANDB_ENTRY_RANGE: the last VLAN
)

func vlanHeader(index int) []byte {
	header := make([]byte, sizeofVLANHeader)
	header[0] = unix.AF_BRIDGE
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	return header
}

// parseVLANs reads the payload of an RTM_NEWVLAN message into found.
func parseVLANs(msg []byte, found map[int][]vlanEntry) error {
	if len(msg) < sizeofVLANHeader {
		return rtnl.ErrMalformed
	}
	index := int(binary.NativeEndian.Uint32(msg[4:]))
	return rtnl.EachAttr(msg[sizeofVLANHeader:], func(kind uint16, value []byte) error {
		if kind != vlanEntryAttr {
			return nil
		}
		e, err := parseVLANEntry(value)
		if err == nil {
			found[index] = append(found[index], e)
		}
		return err
	})
}

func parseVLANEntry(entry []byte) (vlanEntry, error) {
	var e vlanEntry
	err := rtnl.EachAttr(entry, func(kind uint16, value []byte) error {
		switch kind {
		case vlanInfoAttr:
			if len(value) < nl.SizeofBridgeVlanInfo {
				return rtnl.ErrMalformed
			}
			flags := binary.NativeEndian.Uint16(value)
			e.pvid = flags&nl.BRIDGE_VLAN_INFO_PVID != 0
			e.untagged = flags&nl.BRIDGE_VLAN_INFO_UNTAGGED != 0
			e.First = vnet.VLANID(binary.NativeEndian.Uint16(value[2:]))
			e.Last = max(e.First, e.Last)
		case vlanRangeAttr:
			e.Last = vnet.VLANID(rtnl.Number(value))
		}
		return nil
	})
	if err == nil && !e.First.Valid() {
		err = rtnl.ErrMalformed
	}
	return e, err
}
