// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
)

// Keys of Port.external_ids that are ours.
const (
	keyGuest   = ovsdb.KeyGuest
	keyMAC     = ovsdb.KeyMAC
	keyNetwork = ovsdb.KeyNetwork
	keyGuard   = "virt-vnet-guard" // that there are flows for it
	keyRates   = "virt-vnet-rates" // the limits
	keyPort    = "virt-vnet-port"  // of QoS and Queue, whose they are
	keyVantage = "virt-vnet-vantage"
)

// record is a row of any table, with the columns that were asked for.
type record struct {
	UUID        ovsdb.UUID
	Name        string
	ExternalIDs ovsdb.Dict

	// Of the Open_vSwitch table.
	NextCfg int

	// Of a bridge.
	Ports     ovsdb.Set[ovsdb.UUID]
	STP, RSTP bool
	Protocols ovsdb.Set[string]

	// Of a QoS or a Queue.
	OtherConfig ovsdb.Dict

	// Of a port. It has several interfaces only when it is a bond.
	Interfaces ovsdb.Set[ovsdb.UUID]
	Protected  bool
	vlanColumns
	Status, RSTPStatus ovsdb.Dict
	QoS                ovsdb.Set[ovsdb.UUID]
	BondMode, LACP     ovsdb.Set[string]

	// Of an interface, the device of a port.
	Type       string
	MTU        ovsdb.Set[int]
	Error      ovsdb.Set[string]
	PortNumber ovsdb.Set[int]
	LinkState  ovsdb.Set[string]
}

// Column implements [ovsdb.Record].
func (r *record) Column(name string) any {
	switch name {
	case "_uuid":
		return &r.UUID
	case "name":
		return &r.Name
	case "external_ids":
		return &r.ExternalIDs
	case "next_cfg":
		return &r.NextCfg
	case "ports":
		return &r.Ports
	case "interfaces":
		return &r.Interfaces
	case "protected":
		return &r.Protected
	case "tag":
		return &r.Tag
	case "trunks":
		return &r.Trunks
	case "vlan_mode":
		return &r.Mode
	case "type":
		return &r.Type
	case "mtu":
		return &r.MTU
	case "error":
		return &r.Error
	case "ofport":
		return &r.PortNumber
	default:
		return r.more(name)
	}
}

// more is Column for the rest.
func (r *record) more(name string) any {
	switch name {
	case "cvlans":
		return &r.Customer
	case "stp_enable":
		return &r.STP
	case "rstp_enable":
		return &r.RSTP
	case "status":
		return &r.Status
	case "rstp_status":
		return &r.RSTPStatus
	case "link_state":
		return &r.LinkState
	case "bond_mode":
		return &r.BondMode
	case "lacp":
		return &r.LACP
	case "qos":
		return &r.QoS
	case "other_config":
		return &r.OtherConfig
	case "protocols":
		return &r.Protocols
	}
	return nil
}

// has is the ports of the bridge, for looking one up.
func (r record) has() map[ovsdb.UUID]bool {
	all := make(map[ovsdb.UUID]bool, len(r.Ports))
	for _, id := range r.Ports {
		all[id] = true
	}
	return all
}

func readPorts(rows []ovsdb.Condition) ovsdb.Operation {
	return ovsdb.Select("Port", rows, "_uuid", "name", "interfaces", "protected", "external_ids", "tag", "trunks", "vlan_mode", "cvlans", "qos")
}

func readInterfaces(rows []ovsdb.Condition) ovsdb.Operation {
	return ovsdb.Select("Interface", rows, "_uuid", "name", "type", "mtu", "error", "ofport")
}

// readNumbers reads the OpenFlow numbers of interfaces.
func readNumbers(rows []ovsdb.Condition) ovsdb.Operation {
	return ovsdb.Select("Interface", rows, "name", "ofport")
}

// number is the OpenFlow number of an interface, or zero where ovs-vswitchd has
// not given it one, or says with -1 that it cannot.
func (r record) number() int { return max(0, r.PortNumber.First()) }

// virtual reports whether the kernel knows nothing of an interface of this
// type, such as a vhost-user socket.
func (r record) virtual() bool {
	return !slices.Contains([]string{"", "system", "internal", "tap"}, r.Type)
}

// mark is, as external_ids, the owner of a port with these settings, and where
// else there is something to see of it.
func mark(p switchcfg.Port) ovsdb.Dict {
	o := p.Owner
	ids := ovsdb.Dict{keyGuest: o.Guest, keyMAC: o.MAC.String(), keyNetwork: o.Network}
	if f := filterOf(p.Settings); !f.isZero() {
		ids[keyGuard] = "flows"
	}
	if q := qosOf(p.Settings); q.limits() {
		ids[keyRates] = q.String()
	}
	maps.DeleteFunc(ids, func(_, value string) bool { return value == "" })
	return ids
}

// remark is external_ids with the mark of p in place of any other of ours.
func remark(ids ovsdb.Dict, p switchcfg.Port) ovsdb.Dict {
	all := mark(p)
	for key, value := range ids {
		if !slices.Contains([]string{keyGuest, keyMAC, keyNetwork, keyGuard, keyRates}, key) {
			all[key] = value
		}
	}
	return all
}

// interfaceIDs is what libvirt writes to an interface that it adds
// (virNetDevOpenvswitchAddPort), so that controllers find the guest by it.
func interfaceIDs(o switchcfg.Owner) ovsdb.Dict {
	ids := ovsdb.Dict{"iface-id": newUUID(), "iface-status": "active"}
	if !o.MAC.IsZero() {
		ids["attached-mac"] = o.MAC.String()
	}
	if o.Guest != "" {
		ids["vm-id"] = o.Guest
	}
	return ids
}

// newUUID returns a random UUID (RFC 9562, version 4). It names an interface
// and need not be hard to guess.
func newUUID() string {
	high, low := rand.Uint64(), rand.Uint64()
	high = high&^uint64(0xf000) | 0x4000
	low = low&^(uint64(3)<<62) | 1<<63
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x",
		high>>32, high>>16&0xffff, high&0xffff, low>>48, low&0xffffffffffff)
}
