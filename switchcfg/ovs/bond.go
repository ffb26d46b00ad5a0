// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"fmt"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// keyBond is in external_ids of the port that is the uplink's bond.
const keyBond = "virt-vnet-bond"

// Keys of other_config of a bond.
const (
	keyLACPTime     = "lacp-time"
	keyLACPFallback = "lacp-fallback-ab"
	keyPrimary      = "bond-primary"
)

// bond is the bond of ours that the bridge has.
func (o own) bond() *switchcfg.Bond {
	port, ok := o.bondPort()
	if !ok {
		return &switchcfg.Bond{}
	}
	b := switchcfg.Bond{Name: port.Name}
	// Words of others than we write make it another bond than is wanted.
	_ = b.Mode.UnmarshalText([]byte(port.BondMode.First()))
	_ = b.LACP.UnmarshalText([]byte(port.LACP.First()))
	b.Fast, b.Fallback = port.OtherConfig[keyLACPTime] == "fast", port.OtherConfig[keyLACPFallback] == isTrue
	b.Primary = port.OtherConfig[keyPrimary]
	for _, id := range port.Interfaces {
		b.Members = append(b.Members, o.member(id))
	}
	slices.Sort(b.Members)
	return &b
}

func (o own) bondPort() (record, bool) {
	for _, p := range o.devices {
		if p.ExternalIDs[keyBond] != "" {
			return p, true
		}
	}
	return record{}, false
}

// member is the name of an interface that we made, or a word for one of others.
func (o own) member(id ovsdb.UUID) string {
	for _, i := range o.interfaces {
		if i.UUID == id {
			return i.Name
		}
	}
	return "somebody else's"
}

// users are the ports that have the name, or an interface of the name, of what a
// bond could be made of: names are unique in the whole database.
func (d *Driver) users(ctx context.Context) (map[string]seen, error) {
	all := []ovsdb.Condition{}
	results, err := d.transact(ctx, ovsdb.Select("Bridge", all, "name", "ports"),
		ovsdb.Select("Port", all, "_uuid", "name", "interfaces", "external_ids"), ovsdb.Select("Interface", all, "_uuid", "name"))
	if err != nil {
		return nil, fmt.Errorf("read ports of all bridges: %w", err)
	}
	var tables [3][]record
	for i := range tables {
		if tables[i], err = ovsdb.Rows[record](results, i); err != nil {
			return nil, fmt.Errorf("read ports of all bridges: %w", err)
		}
	}
	bridges, names, users := map[ovsdb.UUID]string{}, map[ovsdb.UUID]string{}, map[string]seen{}
	for _, bridge := range tables[0] {
		for _, port := range bridge.Ports {
			bridges[port] = bridge.Name
		}
	}
	for _, device := range tables[2] {
		names[device.UUID] = device.Name
	}
	for i, port := range tables[1] {
		user := seen{port: &tables[1][i], bridge: bridges[port.UUID]}
		users[port.Name] = user
		for _, id := range port.Interfaces {
			users[names[id]] = user
		}
	}
	return users, nil
}

// setBond adds what makes the uplink that bond. The error is
// [switchcfg.ErrNotOwned] when such ports of others are there already.
func (tx *transaction) setBond(want switchcfg.Bond, bridge string) error {
	old, there := tx.own.bondPort()
	if tx.own.bond().String() == want.String() {
		return nil
	}
	if there && old.Name != want.Name {
		tx.mutate(ovsdb.Where("_uuid", tx.bridge), ovsdb.Condition{"ports", "delete", old.UUID})
		old = record{}
	}
	if want.IsZero() {
		return nil
	}
	for _, device := range append([]string{want.Name}, want.Members...) {
		if user, taken := tx.own.users[device]; taken && (user.bridge != bridge || user.port.ExternalIDs[keyBond] == "") {
			return fmt.Errorf("bond %s: %w: %s is in port %[4]s of bridge %[5]s already: ovs-vsctl del-port %[5]s %[4]s",
				want.Name, switchcfg.ErrNotOwned, device, user.port.Name, user.bridge)
		}
	}
	marks := ovsdb.Dict{keySwitch: bridge, keyBond: "uplink"}
	columns := ovsdb.Row{
		"interfaces": tx.members(want.Members, marks), "external_ids": marks, "other_config": bondConfig(want.Bond),
		"bond_mode": want.Mode.String(), "lacp": want.LACP.String(),
	}
	tx.wired = append(tx.wired, want.Members...)
	if old.UUID != "" {
		tx.update("Port", old.UUID, columns)
		return nil
	}
	columns["name"] = want.Name
	row := ovsdb.NamedUUID("bond")
	tx.ops = append(tx.ops, ovsdb.Operation{Op: "insert", Table: "Port", Name: string(row), Row: columns})
	tx.mutate(ovsdb.Where("_uuid", tx.bridge), ovsdb.Condition{"ports", "insert", row})
	return nil
}

// members are the interfaces of the devices, those that are there as they are.
func (tx *transaction) members(devices []string, marks ovsdb.Dict) (list ovsdb.Set[any]) {
	for i, device := range devices {
		if found, there := tx.own.interfaces[device]; there {
			list = append(list, found.UUID)
			continue
		}
		row := ovsdb.NamedUUID(fmt.Sprintf("member%d", i))
		tx.ops = append(tx.ops, ovsdb.Operation{
			Op: "insert", Table: "Interface", Name: string(row), Row: ovsdb.Row{"name": device, "external_ids": marks},
		})
		list = append(list, row)
	}
	return list
}

func bondConfig(b vnet.Bond) ovsdb.Dict {
	config := ovsdb.Dict{}
	if b.Fast {
		config[keyLACPTime] = "fast"
	}
	if b.Fallback {
		config[keyLACPFallback] = isTrue
	}
	if b.Primary != "" {
		config[keyPrimary] = b.Primary
	}
	return config
}
