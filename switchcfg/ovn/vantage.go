// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"
	"errors"
	"fmt"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/vantage"
)

var _ switchcfg.NetworkVantager = (*Driver)(nil)

// Keys of external_ids of a vantage, at its logical port and at its interface:
// its mark, and the chassis that it is on, as a process means nothing elsewhere.
const (
	keyVantage        = "virt-vnet-vantage"
	keyVantageChassis = "virt-vnet-vantage-chassis"
)

// OpenNetworkVantage implements [switchcfg.NetworkVantager]: the device is an
// internal port of the integration bridge, whose logical port takes what is for
// no other (addresses "unknown") and may send from any address.
func (d *Driver) OpenNetworkVantage(ctx context.Context, network string) (string, error) {
	device, err := d.openVantage(ctx, network)
	if err != nil {
		return "", fmt.Errorf("switch %s: make a vantage in network %s: %w", d.name, network, err)
	}
	return device, nil
}

func (d *Driver) openVantage(ctx context.Context, network string) (string, error) {
	mark, err := vantage.Mark()
	if err != nil {
		return "", err
	}
	if err := d.controller(ctx); err != nil {
		return "", err // nobody would bind it
	}
	if err := d.sweepVantages(ctx); err != nil {
		return "", err
	}
	device, err := d.freeName(ctx)
	if err != nil {
		return "", err
	}
	id := "virt-vnet-" + d.chassis + "-" + device
	if err := d.addLogical(ctx, id, network, mark); err != nil {
		return "", err
	}
	err = d.addInternal(ctx, device, id, mark)
	if err == nil {
		err = d.inForce(ctx, &transaction{all: []string{device}, bound: []string{device}}, 0)
	}
	if err == nil {
		err = vantage.BringUp(ctx, d.links, device)
	}
	if err != nil {
		// The caller's time may be up, which must not leave the port behind.
		return "", errors.Join(err, d.removeVantage(context.WithoutCancel(ctx), device, id, mark))
	}
	return device, nil
}

// freeName finds a name that neither Open vSwitch nor the host has.
func (d *Driver) freeName(ctx context.Context) (string, error) {
	for name := range vantage.Names() {
		results, err := d.local.Transact(ctx, ovsdb.Select("Port", ovsdb.Where("name", name), "_uuid"))
		if err != nil {
			return "", err
		}
		rows, err := ovsdb.Rows[record](results, 0)
		if err != nil {
			return "", err
		}
		if _, err := d.links.LinkByName(ctx, name); len(rows) == 0 && rtnl.IsGone(err) {
			return name, nil
		}
	}
	return "", errors.New("this process has too many")
}

// addLogical makes the logical port on the network's logical switch.
func (d *Driver) addLogical(ctx context.Context, id, network, mark string) error {
	results, err := d.nb.Transact(ctx, ovsdb.Select("Logical_Switch", []ovsdb.Condition{
		{"name", "==", network},
		{"external_ids", "includes", ovsdb.Dict{keyNetwork: network}},
	}, "_uuid"))
	if err != nil {
		return err
	}
	rows, err := ovsdb.Rows[record](results, 0)
	if err != nil {
		return err
	}
	if len(rows) != 1 {
		return noNetwork(network)
	}
	_, err = d.nb.Transact(ctx,
		ovsdb.Operation{Op: "insert", Table: "Logical_Switch_Port", Name: "vantage", Row: ovsdb.Row{
			"name": id, "addresses": ovsdb.Set[string]{"unknown"},
			"options":      ovsdb.Dict{keyChassis: d.chassis},
			"external_ids": ovsdb.Dict{keyVantage: mark, keyVantageChassis: d.chassis},
		}},
		ovsdb.Operation{
			Op: "mutate", Table: "Logical_Switch", Where: ovsdb.Where("_uuid", rows[0].UUID),
			Mutations: []ovsdb.Condition{{"ports", "insert", ovsdb.NamedUUID("vantage")}},
		},
		ovsdb.Operation{Op: "comment", Comment: "virt-vnet: vantage " + id})
	return err
}

// addInternal makes the device, which ovn-controller finds by the id.
func (d *Driver) addInternal(ctx context.Context, device, id, mark string) error {
	_, err := d.local.Transact(ctx,
		ovsdb.Operation{Op: "insert", Table: "Interface", Name: "vantage_interface", Row: ovsdb.Row{
			"name": device, "type": "internal", "external_ids": ovsdb.Dict{"iface-id": id, keyVantage: mark},
		}},
		ovsdb.Operation{Op: "insert", Table: "Port", Name: "vantage_port", Row: ovsdb.Row{
			"name": device, "interfaces": ovsdb.NamedUUID("vantage_interface"),
			"external_ids": ovsdb.Dict{keyVantage: mark}, "other_config": ovsdb.Dict{"transient": "true"},
		}},
		ovsdb.Operation{
			Op: "mutate", Table: "Bridge", Where: ovsdb.Where("name", d.name),
			Mutations: []ovsdb.Condition{{"ports", "insert", ovsdb.NamedUUID("vantage_port")}},
		},
		ovsdb.Operation{Op: "comment", Comment: "virt-vnet: vantage " + id})
	return err
}

// CloseVantage implements [switchcfg.NetworkVantager]. A vantage that is gone
// already is closed.
func (d *Driver) CloseVantage(ctx context.Context, device string) error {
	results, err := d.local.Transact(ctx, ovsdb.Select("Interface", ovsdb.Where("name", device), "name", "external_ids"))
	if err != nil {
		return fmt.Errorf("switch %s: close vantage %s: %w", d.name, device, err)
	}
	rows, err := ovsdb.Rows[record](results, 0)
	if err != nil {
		return fmt.Errorf("switch %s: close vantage %s: %w", d.name, device, err)
	}
	if len(rows) == 0 {
		return nil
	}
	mark := rows[0].ExternalIDs[keyVantage]
	if !vantage.IsMark(mark) {
		return fmt.Errorf("switch %s: close vantage %s: %w: it is no vantage", d.name, device, switchcfg.ErrNotOwned)
	}
	if err := d.removeVantage(ctx, device, rows[0].ExternalIDs["iface-id"], mark); err != nil {
		return fmt.Errorf("switch %s: close vantage %s: %w", d.name, device, err)
	}
	return nil
}

// removeVantage removes both halves, whether they are there or not.
func (d *Driver) removeVantage(ctx context.Context, device, id, mark string) error {
	return errors.Join(d.removeInternal(ctx, device), d.removeLogical(ctx, id, mark))
}

func (d *Driver) removeInternal(ctx context.Context, device string) error {
	results, err := d.local.Transact(ctx, ovsdb.Select("Port", ovsdb.Where("name", device), "_uuid", "external_ids"))
	if err != nil {
		return err
	}
	rows, err := ovsdb.Rows[record](results, 0)
	if err != nil || len(rows) == 0 || !vantage.IsMark(rows[0].ExternalIDs[keyVantage]) {
		return err
	}
	return d.commitHere(ctx, &transaction{here: []ovsdb.Operation{{
		Op: "mutate", Table: "Bridge", Where: ovsdb.Where("name", d.name),
		Mutations: []ovsdb.Condition{{"ports", "delete", rows[0].UUID}},
	}}})
}

func (d *Driver) removeLogical(ctx context.Context, id, mark string) error {
	results, err := d.nb.Transact(ctx, ovsdb.Select("Logical_Switch_Port", []ovsdb.Condition{
		{"name", "==", id},
		{"external_ids", "includes", ovsdb.Dict{keyVantage: mark}},
	}, "_uuid"))
	if err != nil {
		return err
	}
	rows, err := ovsdb.Rows[record](results, 0)
	if err != nil || len(rows) == 0 {
		return err
	}
	_, err = d.nb.Transact(ctx, ovsdb.Operation{
		Op: "mutate", Table: "Logical_Switch", Where: []ovsdb.Condition{{"ports", "includes", rows[0].UUID}},
		Mutations: []ovsdb.Condition{{"ports", "delete", rows[0].UUID}},
	})
	return err
}

// sweepVantages removes both halves of vantages whose process on this host has
// ended.
func (d *Driver) sweepVantages(ctx context.Context) error {
	results, err := d.local.Transact(ctx, ovsdb.Select("Port", []ovsdb.Condition{}, "name", "external_ids"))
	if err != nil {
		return err
	}
	ports, err := ovsdb.Rows[record](results, 0)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range ports {
		if vantage.Stale(p.ExternalIDs[keyVantage]) {
			errs = append(errs, d.removeInternal(ctx, p.Name))
		}
	}
	results, err = d.nb.Transact(ctx, ovsdb.Select("Logical_Switch_Port",
		[]ovsdb.Condition{{"external_ids", "includes", ovsdb.Dict{keyVantageChassis: d.chassis}}}, "name", "external_ids"))
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	logical, err := ovsdb.Rows[record](results, 0)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, l := range logical {
		if mark := l.ExternalIDs[keyVantage]; vantage.Stale(mark) {
			errs = append(errs, d.removeLogical(ctx, l.Name, mark))
		}
	}
	return errors.Join(errs...)
}
