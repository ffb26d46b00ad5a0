// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// exportTables are the tables of what a bridge tells collectors, each with the
// column of the bridge that refers to it and with its optional numbers.
var exportTables = [3]exportTable{
	{"sFlow", "sflow", []string{"agent"}, []string{"header", "sampling", "polling"}},
	{"NetFlow", "netflow", []string{"active_timeout", "add_id_to_interface"}, []string{"engine_type", "engine_id"}},
	{"IPFIX", "ipfix", nil, []string{"sampling", "obs_domain_id", "obs_point_id", "cache_active_timeout", "cache_max_flows"}},
}

type exportTable struct {
	name, column   string
	other, numbers []string
}

func (t exportTable) columns() []string {
	return slices.Concat([]string{"_uuid", "targets"}, t.other, t.numbers)
}

// exportRow is a row of any of them.
type exportRow struct {
	UUID           ovsdb.UUID
	Targets, Agent ovsdb.Set[string]
	ActiveTimeout  int
	AddID          bool
	Numbers        map[string]*ovsdb.Set[int]
}

// Column implements [ovsdb.Record].
func (r *exportRow) Column(name string) any {
	switch name {
	case "_uuid":
		return &r.UUID
	case "targets":
		return &r.Targets
	case "agent":
		return &r.Agent
	case "active_timeout":
		return &r.ActiveTimeout
	case "add_id_to_interface":
		return &r.AddID
	}
	if r.Numbers == nil {
		r.Numbers = map[string]*ovsdb.Set[int]{}
	}
	r.Numbers[name] = &ovsdb.Set[int]{}
	return r.Numbers[name]
}

func (r exportRow) number(column string) vnet.Optional[int] {
	set := r.Numbers[column]
	if set == nil || len(*set) == 0 {
		return vnet.Optional[int]{}
	}
	return vnet.Given(set.First())
}

func (r exportRow) targets() []netip.AddrPort {
	var all []netip.AddrPort
	for _, text := range r.Targets {
		target, _ := netip.ParseAddrPort(text) // one that is none is not as wanted either
		all = append(all, target)
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return all
}

// flowExports is what the bridge tells collectors because of us.
func (o own) flowExports() (x vnet.FlowExports) {
	for i := range exportTables {
		r, ours := o.export(i)
		if !ours {
			continue
		}
		switch i {
		case 0:
			x.SFlow = vnet.SFlow{
				Targets: r.targets(), Agent: r.Agent.First(), Header: r.number("header").Value,
				Sampling: r.number("sampling").Value, Polling: time.Duration(r.number("polling").Value) * time.Second,
			}
		case 1:
			x.NetFlow = vnet.NetFlow{
				Targets: r.targets(), ActiveTimeout: time.Duration(r.ActiveTimeout) * time.Second,
				EngineType: r.number("engine_type"), EngineID: r.number("engine_id"), AddID: r.AddID,
			}
		case 2:
			timeout := r.number("cache_active_timeout")
			x.IPFIX = vnet.IPFIX{
				Targets: r.targets(), Sampling: r.number("sampling").Value,
				Domain: r.number("obs_domain_id"), Point: r.number("obs_point_id"),
				ActiveTimeout: vnet.Optional[time.Duration]{Given: timeout.Given, Value: time.Duration(timeout.Value) * time.Second},
				MaxFlows:      r.number("cache_max_flows"),
			}
		}
	}
	return x
}

// export is the row of ours that the bridge refers to.
func (o own) export(table int) (exportRow, bool) {
	for _, r := range o.exports[table] {
		if slices.Contains(o.bridge.Exports[table], r.UUID) {
			return r, true
		}
	}
	return exportRow{}, false
}

// flowExports adds what makes the bridge tell collectors that. The error is
// [switchcfg.ErrNotOwned] when somebody else has it tell others already.
func (tx *transaction) flowExports(want vnet.FlowExports, bridge string) error {
	have := tx.own.flowExports()
	for i, rows := range [3]struct {
		have, want string
		columns    ovsdb.Row
	}{
		{have.SFlow.String(), want.SFlow.String(), sflowRow(want.SFlow)},
		{have.NetFlow.String(), want.NetFlow.String(), netflowRow(want.NetFlow)},
		{have.IPFIX.String(), want.IPFIX.String(), ipfixRow(want.IPFIX)},
	} {
		if rows.have == rows.want {
			continue
		}
		if err := tx.setExport(i, rows.columns, bridge); err != nil {
			return err
		}
	}
	return nil
}

// setExport has the bridge refer to a row with these columns, or without targets
// to none.
func (tx *transaction) setExport(table int, columns ovsdb.Row, bridge string) error {
	t := exportTables[table]
	old, ours := tx.own.export(table)
	switch {
	case !ours && len(tx.own.bridge.Exports[table]) > 0:
		return fmt.Errorf("%s: %w: somebody else has set it up: ovs-vsctl clear bridge %s %s", t.column, switchcfg.ErrNotOwned, bridge, t.column)
	case columns == nil:
		tx.update("Bridge", tx.bridge, ovsdb.Row{t.column: ovsdb.Set[ovsdb.UUID]{}})
	case ours:
		tx.update(t.name, old.UUID, columns)
	default:
		columns["external_ids"] = ovsdb.Dict{keySwitch: bridge}
		row := ovsdb.NamedUUID(t.column + "_row")
		tx.ops = append(tx.ops, ovsdb.Operation{Op: "insert", Table: t.name, Name: string(row), Row: columns})
		tx.update("Bridge", tx.bridge, ovsdb.Row{t.column: row})
	}
	return nil
}

func sflowRow(s vnet.SFlow) ovsdb.Row {
	if len(s.Targets) == 0 {
		return nil
	}
	agent := ovsdb.Set[string]{}
	if s.Agent != "" {
		agent = append(agent, s.Agent)
	}
	return ovsdb.Row{
		"targets": targets(s.Targets), "agent": agent, "header": some(s.Header), "sampling": some(s.Sampling),
		"polling": some(int(s.Polling / time.Second)),
	}
}

func netflowRow(n vnet.NetFlow) ovsdb.Row {
	if len(n.Targets) == 0 {
		return nil
	}
	return ovsdb.Row{
		"targets": targets(n.Targets), "active_timeout": int(n.ActiveTimeout / time.Second),
		"engine_type": number(n.EngineType), "engine_id": number(n.EngineID), "add_id_to_interface": n.AddID,
	}
}

func ipfixRow(i vnet.IPFIX) ovsdb.Row {
	if len(i.Targets) == 0 {
		return nil
	}
	timeout := vnet.Optional[int]{Given: i.ActiveTimeout.Given, Value: int(i.ActiveTimeout.Value / time.Second)}
	return ovsdb.Row{
		"targets": targets(i.Targets), "sampling": some(i.Sampling), "obs_domain_id": number(i.Domain), "obs_point_id": number(i.Point),
		"cache_active_timeout": number(timeout), "cache_max_flows": number(i.MaxFlows),
	}
}

func targets(all []netip.AddrPort) ovsdb.Set[string] {
	list := ovsdb.Set[string]{}
	for _, target := range all {
		list = append(list, target.String())
	}
	return list
}

// number is a column of at most one, zero included.
func number(n vnet.Optional[int]) ovsdb.Set[int] {
	if !n.Given {
		return ovsdb.Set[int]{}
	}
	return ovsdb.Set[int]{n.Value}
}
