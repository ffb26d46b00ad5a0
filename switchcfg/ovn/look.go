// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
)

// anyRow is a row of any table. Every value is read as a set, of which a single
// value is one, and a dictionary as that.
type anyRow map[string]any

// Column implements [ovsdb.Record].
func (r *anyRow) Column(name string) any {
	if *r == nil {
		*r = anyRow{}
	}
	var value any
	switch name {
	case "_uuid", "ports", columnBalancers:
		value = new(ovsdb.Set[ovsdb.UUID])
	case "external_ids", "options", "other_config", "vips":
		value = new(ovsdb.Dict)
	case "tag", "priority":
		value = new(ovsdb.Set[int])
	case "log":
		value = new(ovsdb.Set[bool])
	default:
		value = new(ovsdb.Set[string])
	}
	(*r)[name] = value
	return value
}

// value is what virt-vnet would set the column to.
func (r anyRow) value(table, column string) any {
	switch v := r[column].(type) {
	case *ovsdb.Dict:
		return *v
	case *ovsdb.Set[int]:
		if column == "tag" {
			return *v
		}
		return v.First()
	case *ovsdb.Set[bool]:
		return v.First()
	case *ovsdb.Set[string]:
		if column == "addresses" || column == "networks" || column == "severity" || table == tableACL && column == "name" {
			return unordered(*v...)
		}
		return v.First()
	}
	return nil
}

func (r anyRow) uuid() ovsdb.UUID { return r["_uuid"].(*ovsdb.Set[ovsdb.UUID]).First() }

func (r anyRow) ids() ovsdb.Dict { return *r["external_ids"].(*ovsdb.Dict) }

// look reads all that carries our mark, in one transaction, and makes sure that
// nobody else has something of a name that is wanted.
func (n *Networks) look(ctx context.Context, want objects) (objects, error) {
	known := slices.DeleteFunc(slices.Clone(tables), func(table string) bool { return !n.schema.Has(table, "external_ids") })
	ops := make([]ovsdb.Operation, 0, len(known)+len(want))
	for _, table := range known {
		ours := []ovsdb.Condition{{"external_ids", "includes", ovsdb.Dict{keyPart: partOfNets}}}
		ops = append(ops, ovsdb.Select(table, ours, append(n.columns(table), "_uuid", "external_ids")...))
	}
	ops = append(ops, want.namesakes()...)
	results, err := n.nb.Transact(ctx, ops...)
	if err != nil {
		return nil, fmt.Errorf("read networks: %w", err)
	}
	have := objects{}
	for i, op := range ops {
		rows, err := ovsdb.Rows[anyRow](results, i)
		if err != nil {
			return nil, fmt.Errorf("read table %s: %w", op.Table, err)
		}
		for _, row := range rows {
			if i < len(known) {
				have.observe(op.Table, row)
			} else if o := want[id{op.Table, row.value(op.Table, "name").(string)}]; o != nil {
				if err := have.admit(o, row.uuid()); err != nil {
					return nil, err
				}
			}
		}
	}
	have.resolve()
	return have, nil
}

// namesakes are the questions for rows with the names of the objects, and
// perhaps others.
func (all objects) namesakes() (ops []ovsdb.Operation) {
	byTable := map[string][]string{}
	for _, o := range all {
		if kinds[o.table].named {
			byTable[o.table] = append(byTable[o.table], o.key)
		}
	}
	for table, names := range byTable {
		rows := named(names)
		if len(rows) > fewQuestions {
			rows = allRows
		}
		for _, conditions := range rows {
			ops = append(ops, ovsdb.Select(table, conditions, "_uuid", "name"))
		}
	}
	return ops
}

// admit returns an error unless the row, which has the name of o, is ours.
func (all objects) admit(o *object, row ovsdb.UUID) error {
	seen, ours := all[o.id()]
	if !ours || seen.uuid != row {
		return fmt.Errorf("%s: %w: somebody else has made one of that name", o, switchcfg.ErrNotOwned)
	}
	if seen.network != o.network || seen.router != o.router || seen.set != o.set {
		return fmt.Errorf("%s: %w: it is there for %s", o, switchcfg.ErrNotOwned, seen)
	}
	return nil
}

// columns are those of a table that this version of OVN has.
func (n *Networks) columns(table string) []string {
	all := kinds[table].columns
	if holdsBalancers(table) {
		all = append(slices.Clone(all), columnBalancers)
	}
	return slices.DeleteFunc(slices.Clone(all), func(column string) bool { return !n.schema.Has(table, column) })
}

func (all objects) observe(table string, row anyRow) {
	ids := row.ids()
	o := &object{
		table: table, network: ids[keyNetwork], router: ids[keyRouter], set: ids[keySet],
		columns: map[string]any{}, uuid: row.uuid(), row: ovsdb.Row{"external_ids": ids},
	}
	k := kinds[table]
	for _, column := range k.columns {
		value := row.value(table, column)
		if value == nil {
			continue
		}
		o.row[column] = value
		if dict, ok := value.(ovsdb.Dict); ok && k.own[column] != nil {
			value = only(dict, k.own[column])
		}
		o.columns[column] = value
	}
	if held, ok := row[columnBalancers].(*ovsdb.Set[ovsdb.UUID]); ok {
		o.held = *held
	}
	o.key = o.keyFrom()
	for all[o.id()] != nil {
		o.key += "\x00" // one too many, which nothing wants
	}
	all[o.id()] = o
}

func only(dict ovsdb.Dict, keys []string) ovsdb.Dict {
	own := maps.Clone(dict)
	maps.DeleteFunc(own, func(key, _ string) bool { return !slices.Contains(keys, key) })
	return own
}

// check returns an error that is [switchcfg.ErrUnsupported] when this version of
// OVN has no such table or column.
func (n *Networks) check(want objects) error {
	for _, o := range want.list() {
		columns := slices.Sorted(maps.Keys(o.columns))
		if len(o.balancers) > 0 {
			columns = append(columns, columnBalancers)
		}
		for _, column := range columns {
			if !n.schema.Has(o.table, column) {
				return fmt.Errorf("%s: %w: the northbound database of this OVN (schema %s) has no column %s in the table %s",
					o, switchcfg.ErrUnsupported, n.nb.SchemaVersion(), column, o.table)
			}
		}
	}
	return nil
}

// list is the objects in the order in which they are made.
func (all objects) list() []*object {
	list := make([]*object, 0, len(all))
	for _, o := range all {
		list = append(list, o)
	}
	slices.SortFunc(list, compareObjects)
	return list
}
