// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	tableName = "virt_vnet"

	// tableMark is the comment of a table that is ours, before the version.
	tableMark = "virt-vnet ruleset "

	// version is to be counted up with every change of the sets, chains or rules
	// below: a table with another version is replaced.
	version = 1
)

// prerouting is the base chain, which looks at frames that come into any bridge
// before it learns their source address.
const prerouting = "prerouting"

// priority of the base chain: before whatever others filter.
const priority int32 = -300

// set is a set of the table, or a map.
type set int

// The sets. Those called ports hold the ports that something goes for; the
// others hold what these ports may use.
const (
	ports set = iota
	priorities
	macPorts
	macs
	ipv4Ports
	ipv4
	ipv6Ports
	ipv6
	dhcpPorts
	raPorts
	setCount
)

// setType describes the elements of a set, with the numbers that nft gives to
// data types (nftables, include/datatype.h), for it to show them well.
type setType struct {
	name     string
	keyType  uint32
	keySize  uint32
	dataType uint32 // of a map
}

const (
	typeIPv4Addr  = 7
	typeIPv6Addr  = 8
	typeEtherAddr = 9
	typeIndex     = 20
	typeClassID   = 23
)

// sizeofIndex is that of an interface index in a register.
const sizeofIndex = 4

func (s set) describe() setType {
	onlyPort := func(name string) setType { return setType{name: name, keyType: typeIndex, keySize: sizeofIndex} }
	with := func(name string, second, size uint32) setType {
		const bitsOfType = 6
		return setType{name: name, keyType: typeIndex<<bitsOfType | second, keySize: sizeofIndex + size}
	}
	switch s {
	case ports:
		return onlyPort("ports")
	case priorities:
		m := onlyPort("priorities")
		m.dataType = typeClassID
		return m
	case macPorts:
		return onlyPort("mac_ports")
	case macs:
		return with("macs", typeEtherAddr, 8)
	case ipv4Ports:
		return onlyPort("ipv4_ports")
	case ipv4:
		return with("ipv4", typeIPv4Addr, 4)
	case ipv6Ports:
		return onlyPort("ipv6_ports")
	case ipv6:
		return with("ipv6", typeIPv6Addr, 16)
	case dhcpPorts:
		return onlyPort("dhcp_ports")
	case raPorts:
		return onlyPort("ra_ports")
	default:
		panic(fmt.Sprint("guard: there is no set ", int(s)))
	}
}

// name is what nft calls it.
func (s set) name() string { return s.describe().name }

// chain is a chain of the table with its rules.
type chain struct {
	name  string
	rules []rule
}

// rule is one rule. What it loads, it loads into register 1, and into register 9
// behind an interface index in register 1.
type rule struct {
	comment string
	exprs   []expr.Any
}

// build returns the requests that make the whole table, without elements, which
// must not exist.
func build() ([]message, error) {
	table := newMessage(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, "table")
	table.payload.text(unix.NFTA_TABLE_NAME, tableName)
	table.payload.number(unix.NFTA_TABLE_FLAGS, 0)
	table.payload.comment(nftaTableUserdata, currentMark())
	messages := []message{table}
	for s := range setCount {
		messages = append(messages, s.message())
	}
	all := chains()
	for _, c := range all {
		messages = append(messages, c.message())
	}
	for _, c := range all {
		for i, r := range c.rules {
			m, err := r.message(c, i)
			if err != nil {
				return nil, err
			}
			messages = append(messages, m)
		}
	}
	return messages, nil
}

// nftaTableUserdata (NFTA_TABLE_USERDATA) has no name in package unix.
const nftaTableUserdata = 6

func (s set) message() message {
	t := s.describe()
	m := newMessage(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, "set "+t.name)
	m.payload.text(unix.NFTA_SET_TABLE, tableName)
	m.payload.text(unix.NFTA_SET_NAME, t.name)
	m.payload.number(unix.NFTA_SET_ID, uint32(s)+1)
	m.payload.number(unix.NFTA_SET_KEY_TYPE, t.keyType)
	m.payload.number(unix.NFTA_SET_KEY_LEN, t.keySize)
	flags := uint32(0)
	if t.dataType != 0 {
		flags = unix.NFT_SET_MAP
		m.payload.number(unix.NFTA_SET_DATA_TYPE, t.dataType)
		m.payload.number(unix.NFTA_SET_DATA_LEN, sizeofPriority)
	}
	m.payload.number(unix.NFTA_SET_FLAGS, flags)
	m.payload.add(unix.NFTA_SET_USERDATA, byteOrders())
	return m
}

// byteOrders tells nft that numbers in keys and data are as this machine has
// them (libnftnl, NFTNL_UDATA_SET_KEYBYTEORDER and NFTNL_UDATA_SET_DATABYTEORDER).
func byteOrders() []byte {
	const keys, data, sizeofNumber, hostEndian = 0, 1, 4, 1
	b := binary.NativeEndian.AppendUint32([]byte{keys, sizeofNumber}, hostEndian)
	return binary.NativeEndian.AppendUint32(append(b, data, sizeofNumber), hostEndian)
}

func (c chain) message() message {
	m := newMessage(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, "chain "+c.name)
	m.payload.text(unix.NFTA_CHAIN_TABLE, tableName)
	m.payload.text(unix.NFTA_CHAIN_NAME, c.name)
	if c.name != prerouting {
		return m
	}
	hookPriority := priority
	var hook attrs
	hook.number(unix.NFTA_HOOK_HOOKNUM, nfBridgePrerouting)
	hook.number(unix.NFTA_HOOK_PRIORITY, uint32(hookPriority))
	m.payload.nest(unix.NFTA_CHAIN_HOOK, hook)
	m.payload.number(unix.NFTA_CHAIN_POLICY, nfAccept)
	m.payload.text(unix.NFTA_CHAIN_TYPE, "filter")
	return m
}

// From linux/netfilter.h and linux/netfilter_bridge.h.
const (
	nfDrop             = 0
	nfAccept           = 1
	nfBridgePrerouting = 0
)

func (r rule) message(c chain, number int) (message, error) {
	m := newMessage(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND,
		fmt.Sprintf("rule %d of chain %s", number+1, c.name))
	m.payload.text(unix.NFTA_RULE_TABLE, tableName)
	m.payload.text(unix.NFTA_RULE_CHAIN, c.name)
	var list attrs
	for _, e := range r.exprs {
		encoded, err := expr.Marshal(unix.NFPROTO_BRIDGE, e)
		if err != nil {
			return message{}, fmt.Errorf("nftables: %s: %w", m.what, err)
		}
		list.nest(unix.NFTA_LIST_ELEM, encoded)
	}
	m.payload.nest(unix.NFTA_RULE_EXPRESSIONS, list)
	if r.comment != "" {
		m.payload.comment(unix.NFTA_RULE_USERDATA, r.comment)
	}
	return m, nil
}
