// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Tables of the northbound database.
const (
	tableSwitch     = "Logical_Switch"
	tablePort       = "Logical_Switch_Port"
	tablePortGroup  = "Port_Group"
	tableAddressSet = "Address_Set"
	tableACL        = "ACL"
	tableDHCP       = "DHCP_Options"
	tableRouter     = "Logical_Router"
	tableBalancer   = "Load_Balancer"
	tableRouterPort = "Logical_Router_Port"
	tableChassis    = "Gateway_Chassis"
	tableNAT        = "NAT"
	tableRoute      = "Logical_Router_Static_Route"
)

// Keys of external_ids of what networks are made of, besides keyNetwork. All of
// it has keyPart: it can be selected without what guests' ports have.
const (
	keyPart    = "virt-vnet-part"
	keyRouter  = "virt-vnet-router"
	keySet     = "virt-vnet-address-set"
	partOfNets = "network"
)

// object is a row that a network is made of, wanted or observed.
type object struct {
	table string
	// key tells it from others of its table: its name, or of a row without a
	// name what it does.
	key string
	// network, router and set are whose it is. A router's leg in a network is
	// both's.
	network, router, set string
	// balancers are the load balancers that a switch or a router has (by key).
	balancers []string
	// columns are those that virt-vnet sets: text, number, yes-or-no, list or
	// dictionary.
	columns map[string]any

	// Of an observed row.
	uuid ovsdb.UUID
	row  ovsdb.Row    // as it is, also what is not ours
	held []ovsdb.UUID // all load balancers that it has, also those of others
}

// id tells an object from all others.
type id struct{ table, key string }

func (o *object) id() id { return id{o.table, o.key} }

// marks is external_ids of the object.
func (o *object) marks() ovsdb.Dict {
	ids := ovsdb.Dict{keyPart: partOfNets, keyNetwork: o.network, keyRouter: o.router, keySet: o.set}
	maps.DeleteFunc(ids, func(_, value string) bool { return value == "" })
	return ids
}

// kind is what a table has one row of, what makes up its key, and the column of
// the parent that holds it.
type kind struct {
	noun   string
	named  bool     // its key is the column name
	unique []string // columns that are its key, where it has no name
	// columns are those that virt-vnet sets.
	columns []string
	// own are, of a dictionary, the keys that virt-vnet sets. All others are
	// left as they are. Of a dictionary that is not listed all are its own.
	own map[string][]string
	// parent is the table and column that holds the row. A row without a parent
	// stands on its own.
	parent, column string
}

var kinds = map[string]kind{
	tableSwitch: {
		noun: "logical switch", named: true, columns: []string{"name", "other_config"},
		own: map[string][]string{"other_config": {"subnet", "exclude_ips"}},
	},
	tablePortGroup:  {noun: "port group", named: true, columns: []string{"name"}},
	tableAddressSet: {noun: "address set", named: true, columns: []string{"name", "addresses"}},
	tableRouter:     {noun: "logical router", named: true, columns: []string{"name"}},
	tableBalancer:   {noun: "load balancer", named: true, columns: []string{"name", "vips", "protocol"}},
	tableDHCP:       {noun: "dhcp", columns: []string{"cidr", "options"}},
	tablePort: {
		noun: "port", named: true, parent: tableSwitch, column: "ports",
		columns: []string{"name", "type", "addresses", "options", "tag"},
		own:     map[string][]string{"options": {"network_name", "router-port", "nat-addresses"}},
	},
	tableRouterPort: {
		noun: "router port", named: true, parent: tableRouter, column: "ports", columns: []string{"name", "mac", "networks"},
	},
	tableACL: {
		noun: "acl", unique: []string{"direction", "action", "match"}, parent: tablePortGroup, column: "acls",
		columns: []string{"direction", "action", "match", "priority", "log", "severity", "name"},
	},
	tableNAT: {
		noun: "nat", unique: []string{"type", "external_ip", "logical_ip"}, parent: tableRouter, column: "nat",
		columns: []string{"type", "external_ip", "logical_ip"},
	},
	tableRoute: {
		noun: "route", unique: []string{"ip_prefix", "nexthop"}, parent: tableRouter, column: "static_routes",
		columns: []string{"ip_prefix", "nexthop"},
	},
	tableChassis: {
		noun: "gateway chassis", named: true, parent: tableRouterPort, column: "gateway_chassis",
		columns: []string{"name", "chassis_name", "priority"},
	},
}

// tables is the kinds in the order in which their objects are made.
var tables = []string{
	tableSwitch, tablePortGroup, tableAddressSet, tableRouter, tableBalancer, tableDHCP, tablePort, tableRouterPort, tableChassis,
	tableACL, tableNAT, tableRoute,
}

// parent is the object that holds o. It reports false when o stands on its own.
func (o *object) parent() (id, bool) {
	table := kinds[o.table].parent
	switch table {
	case tableSwitch:
		return id{table, o.network}, true
	case tablePortGroup:
		return id{table, vnet.GroupName(o.network)}, true
	case tableRouter:
		return id{table, o.router}, true
	case tableRouterPort:
		return id{table, routerPort(o.router, o.network)}, true
	}
	return id{}, false
}

// keyFrom is the key of an object with these columns. ACLs are their network's,
// as the one row of DHCP options is, and NAT and routes their router's.
func (o *object) keyFrom() string {
	k := kinds[o.table]
	if k.named {
		return o.columns["name"].(string)
	}
	words := []string{cmp.Or(o.router, o.network)}
	for _, column := range k.unique {
		words = append(words, fmt.Sprint(o.columns[column]))
	}
	return strings.Join(words, " ")
}

// String says for people which object it is.
func (o *object) String() string {
	k := kinds[o.table]
	owner := "network " + o.network
	if o.network == "" || k.parent == tableRouter {
		owner = "router " + o.router
	}
	switch o.table {
	case tableSwitch, tableRouter, tableAddressSet, tablePortGroup, tableBalancer:
		return k.noun + " " + o.key
	case tableDHCP:
		return owner + ", dhcp"
	case tableACL:
		text, _ := o.columns["name"].(ovsdb.Set[string])
		return fmt.Sprintf("%s, acl %s", owner, cmp.Or(text.First(), fmt.Sprint(o.columns["match"])))
	case tableNAT:
		return fmt.Sprintf("%s, %s %s %s", owner, o.columns["type"], o.columns["external_ip"], o.columns["logical_ip"])
	case tableRoute:
		return fmt.Sprintf("%s, route %s via %s", owner, o.columns["ip_prefix"], o.columns["nexthop"])
	}
	return fmt.Sprintf("%s, %s %s", owner, k.noun, o.key)
}

// The names of the ports between a network and a router, and between a network
// and a physical one.
func routerPort(router, network string) string { return router + "-to-" + network }
func switchPort(network, router string) string { return network + "-to-" + router }
func localnetPort(network string) string       { return network + "-localnet" }

// macFor makes up the MAC address of an address in a network, always the same
// one, and locally administered.
func macFor(network string, addr netip.Addr) string {
	sum := fnv.New64a()
	_, _ = fmt.Fprint(sum, network, " ", addr)
	n := sum.Sum64()
	return vnet.MAC{0x0a, byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}.String()
}

// unordered is a list whose order does not matter.
func unordered(words ...string) ovsdb.Set[string] {
	slices.Sort(words)
	return ovsdb.Set[string](words)
}
