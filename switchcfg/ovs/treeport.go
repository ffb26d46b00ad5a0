// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// A port whose part in the spanning tree we have set has the bridge's name in
// keyTree of its external_ids, and in keyTreeWas what it had before.
const (
	keyTree    = "virt-vnet-stp"
	keyTreeWas = "virt-vnet-stp-before"
)

// treeKeys are those of Port.other_config that we set.
var treeKeys = []string{
	"stp-enable", "rstp-enable", "stp-path-cost", "rstp-path-cost", "stp-port-priority", "rstp-port-priority",
	"rstp-port-admin-edge", "rstp-port-auto-edge",
}

// treeConfig is what makes a port so.
func treeConfig(p vnet.TreePort) ovsdb.Dict {
	config := ovsdb.Dict{}
	set := func(given bool, value string, keys ...string) {
		for _, key := range keys {
			if given {
				config[key] = value
			}
		}
	}
	set(p.Out, "false", "stp-enable", "rstp-enable")
	set(p.PathCost != 0, strconv.Itoa(p.PathCost), "stp-path-cost", "rstp-path-cost")
	set(p.Priority.Given, strconv.Itoa(p.Priority.Value), "stp-port-priority", "rstp-port-priority")
	set(p.Edge, isTrue, "rstp-port-admin-edge")
	set(p.AutoEdge != vnet.ToggleLeave, strconv.FormatBool(p.AutoEdge == vnet.ToggleOn), "rstp-port-auto-edge")
	return config
}

// treePort is what the port is like. What others have changed since makes it
// another than was wanted.
func treePort(r record) vnet.TreePort {
	p := vnet.TreePort{Device: r.Name}
	p.Out = r.OtherConfig["stp-enable"] == "false" && r.OtherConfig["rstp-enable"] == "false"
	p.PathCost = agreed(r, "stp-path-cost", "rstp-path-cost").Value
	p.Priority = agreed(r, "stp-port-priority", "rstp-port-priority")
	p.Edge = r.OtherConfig["rstp-port-admin-edge"] == isTrue
	if auto, err := strconv.ParseBool(r.OtherConfig["rstp-port-auto-edge"]); err == nil {
		p.AutoEdge = vnet.ToggleOf(auto)
	}
	return p
}

// agreed is the number that both keys have.
func agreed(r record, a, b string) vnet.Optional[int] {
	n, err := strconv.Atoi(r.OtherConfig[a])
	if err != nil || r.OtherConfig[a] != r.OtherConfig[b] {
		return vnet.Optional[int]{}
	}
	return vnet.Given(n)
}

// treePorts are the ports whose part in the tree we have set.
func (o own) treePorts() *switchcfg.TreePorts {
	list := &switchcfg.TreePorts{}
	for _, p := range o.devices {
		if p.ExternalIDs[keyTree] != "" {
			list.Ports = append(list.Ports, treePort(p))
		}
	}
	slices.SortFunc(list.Ports, func(a, b vnet.TreePort) int { return cmp.Compare(a.Device, b.Device) })
	return list
}

// setTreePorts adds what makes the ports so, and those as they were that are
// no longer wanted.
func (tx *transaction) setTreePorts(want switchcfg.TreePorts, bridge string) error {
	wanted := map[string]vnet.TreePort{}
	for _, p := range want.Ports {
		if _, there := tx.own.devices[p.Device]; !there {
			return fmt.Errorf("stp_ports: port %s: %w of this bridge", p.Device, switchcfg.ErrNoPort)
		}
		wanted[p.Device] = p
	}
	for _, device := range slices.Sorted(maps.Keys(tx.own.devices)) {
		port := tx.own.devices[device]
		p, keep := wanted[device]
		marked := port.ExternalIDs[keyTree] != ""
		switch {
		case keep && (!marked || treePort(port) != p):
			marks := ovsdb.Dict{keyTree: bridge, keyTreeWas: port.ExternalIDs[keyTreeWas]}
			if !marked {
				marks[keyTreeWas] = treeImage(port.OtherConfig)
			}
			tx.changePort(port, treeConfig(p), marks)
		case !keep && marked:
			tx.changePort(port, parseTreeImage(port.ExternalIDs[keyTreeWas]), nil)
		}
	}
	return nil
}

// changePort adds what gives the port this part in the tree, and these marks.
func (tx *transaction) changePort(port record, config, marks ovsdb.Dict) {
	mutations := []ovsdb.Condition{
		{"other_config", "delete", ovsdb.Set[string](treeKeys)},
		{"other_config", "insert", config},
		{"external_ids", "delete", ovsdb.Set[string]{keyTree, keyTreeWas}},
	}
	if marks != nil {
		mutations = append(mutations, ovsdb.Condition{"external_ids", "insert", marks})
	}
	tx.ops = append(tx.ops, ovsdb.Operation{Op: "mutate", Table: "Port", Where: ovsdb.Where("_uuid", port.UUID), Mutations: mutations})
}

// treeImage is the keys of the tree as one text.
func treeImage(config ovsdb.Dict) string {
	image := url.Values{}
	for _, key := range treeKeys {
		if value, there := config[key]; there {
			image.Set(key, value)
		}
	}
	return image.Encode()
}

func parseTreeImage(text string) ovsdb.Dict {
	image, _ := url.ParseQuery(text) // what others have made of it is as good as nothing
	config := ovsdb.Dict{}
	for _, key := range treeKeys {
		if image.Has(key) {
			config[key] = image.Get(key)
		}
	}
	return config
}
