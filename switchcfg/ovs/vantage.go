// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"errors"
	"fmt"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/vantage"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// OpenVantage implements [switchcfg.Vantager]: the device is an internal port
// with the VLAN as its tag. Its mark is in Port.external_ids.
func (d *Driver) OpenVantage(ctx context.Context, vlan vnet.VLANID) (string, error) {
	device, err := d.openVantage(ctx, vlan)
	if err != nil {
		return "", fmt.Errorf("switch %s: make a vantage: %w", d.name, err)
	}
	return device, nil
}

func (d *Driver) openVantage(ctx context.Context, vlan vnet.VLANID) (string, error) {
	mark, err := vantage.Mark()
	if err != nil {
		return "", err
	}
	v, err := d.lookAll(ctx)
	if err != nil {
		return "", err
	}
	tx := &transaction{bridge: v.bridge}
	for name, s := range v.ports {
		if vantage.Stale(s.port.ExternalIDs[keyVantage]) {
			tx.all = append(tx.all, name)
			tx.mutate(ovsdb.Where("_uuid", v.bridge), ovsdb.Condition{"ports", "delete", s.port.UUID})
		}
	}
	device, err := d.freeName(ctx, v)
	if err != nil {
		return "", err
	}
	tx.addInternal(device, mark, vlan)
	goal, err := d.commit(ctx, tx)
	if err != nil {
		return "", err
	}
	err = d.inForce(ctx, goal, tx)
	if err == nil {
		err = vantage.BringUp(ctx, d.links, device)
	}
	if err != nil {
		// The caller's time may be up, which must not leave the port behind.
		return "", errors.Join(err, d.CloseVantage(context.WithoutCancel(ctx), device))
	}
	return device, nil
}

// freeName finds a name that neither the bridge nor the host has.
func (d *Driver) freeName(ctx context.Context, v view) (string, error) {
	for name := range vantage.Names() {
		_, err := d.links.LinkByName(ctx, name)
		if _, taken := v.ports[name]; !taken && rtnl.IsGone(err) {
			return name, nil
		}
	}
	return "", errors.New("this process has too many")
}

func (tx *transaction) addInternal(device, mark string, vlan vnet.VLANID) {
	tx.all, tx.wired = append(tx.all, device), append(tx.wired, device)
	columns := encode(vnet.VLANSet{Access: vlan}).row()
	columns["name"] = device
	columns["interfaces"] = ovsdb.NamedUUID("vantage_interface")
	columns["external_ids"] = ovsdb.Dict{keyVantage: mark}
	columns["other_config"] = ovsdb.Dict{"transient": "true"}
	tx.ops = append(tx.ops,
		ovsdb.Operation{
			Op: "insert", Table: "Interface", Name: "vantage_interface",
			Row: ovsdb.Row{"name": device, "type": "internal"},
		},
		ovsdb.Operation{Op: "insert", Table: "Port", Name: "vantage_port", Row: columns})
	tx.mutate(ovsdb.Where("_uuid", tx.bridge), ovsdb.Condition{"ports", "insert", ovsdb.NamedUUID("vantage_port")})
}

// CloseVantage implements [switchcfg.Vantager]. A vantage that is gone already
// is closed.
func (d *Driver) CloseVantage(ctx context.Context, device string) error {
	v, err := d.look(ctx, switchcfg.Scope{Devices: []string{device}})
	if err != nil {
		return fmt.Errorf("switch %s: close vantage %s: %w", d.name, device, err)
	}
	s := v.ports[device]
	if s.port == nil {
		return nil
	}
	if !vantage.IsMark(s.port.ExternalIDs[keyVantage]) {
		return fmt.Errorf("switch %s: close vantage %s: %w: it is no vantage", d.name, device, switchcfg.ErrNotOwned)
	}
	tx := &transaction{bridge: v.bridge, all: []string{device}}
	tx.mutate(ovsdb.Where("_uuid", v.bridge), ovsdb.Condition{"ports", "delete", s.port.UUID})
	goal, err := d.commit(ctx, tx)
	if err == nil {
		err = d.inForce(ctx, goal, tx)
	}
	if err != nil {
		return fmt.Errorf("switch %s: close vantage %s: %w", d.name, device, err)
	}
	return nil
}
