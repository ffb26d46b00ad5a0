// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"fmt"
	"maps"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
)

// builder makes the transaction of a plan: guards, then what is made and set,
// then what is removed.
type builder struct {
	plan    plan
	names   map[id]ovsdb.NamedUUID
	kids    map[id]ovsdb.Set[ovsdb.NamedUUID] // that are made, by parent
	removed map[id]bool
	guards  []ovsdb.Operation
	ops     []ovsdb.Operation
}

func (p plan) operations() []ovsdb.Operation {
	b := builder{
		plan: p, names: map[id]ovsdb.NamedUUID{}, kids: map[id]ovsdb.Set[ovsdb.NamedUUID]{}, removed: map[id]bool{},
	}
	for i, c := range p.changes {
		switch {
		case c.before == nil:
			b.names[c.after.id()] = ovsdb.NamedUUID(fmt.Sprintf("row%d", i))
			if parent, ok := c.after.parent(); ok {
				b.kids[parent] = append(b.kids[parent], b.names[c.after.id()])
			}
		case c.after == nil:
			b.removed[c.before.id()] = true
		}
	}
	for _, c := range p.changes {
		switch {
		case c.before == nil:
			b.insert(c.after)
		case c.after == nil:
			b.remove(c.before)
		default:
			b.update(c)
		}
	}
	b.adopt()
	return slices.Concat(b.guards, b.ops)
}

// wait is the operation that fails, at once, unless the rows are as given.
func (b *builder) wait(table string, where []ovsdb.Condition, columns []string, rows ...ovsdb.Row) {
	now := 0
	if rows == nil {
		rows = []ovsdb.Row{}
	}
	b.guards = append(b.guards, ovsdb.Operation{
		Op: "wait", Table: table, Timeout: &now, Until: "==", Where: where, Columns: columns, Rows: rows,
	})
}

// unchanged guards columns of a row, and that it is still ours.
func (b *builder) unchanged(o *object, columns ...string) {
	row := ovsdb.Row{"external_ids": o.row["external_ids"]}
	for _, column := range columns {
		if value, ok := o.row[column]; ok {
			row[column] = value
		}
	}
	b.wait(o.table, ovsdb.Where("_uuid", o.uuid), slices.Sorted(maps.Keys(row)), row)
}

func (b *builder) insert(o *object) {
	if kinds[o.table].named {
		b.wait(o.table, ovsdb.Where("name", o.key), []string{"name"})
	}
	row := ovsdb.Row{"external_ids": o.marks()}
	maps.Copy(row, o.columns)
	maps.Copy(row, o.row) // what it was, when it is to be that again
	for _, table := range tables {
		if column := kinds[table].column; kinds[table].parent == o.table && len(b.kids[o.id()]) > 0 {
			row[column] = b.kidsIn(o.id(), table)
		}
	}
	if held := b.heldByNew(o); len(held) > 0 {
		row[columnBalancers] = held
	}
	b.ops = append(b.ops, ovsdb.Operation{Op: "insert", Table: o.table, Name: string(b.names[o.id()]), Row: row})
}

// kidsIn are the new rows of that table that the parent is to hold.
func (b *builder) kidsIn(parent id, table string) ovsdb.Set[ovsdb.NamedUUID] {
	list := ovsdb.Set[ovsdb.NamedUUID]{}
	for _, c := range b.plan.changes {
		if c.before != nil || c.after.table != table {
			continue
		}
		if of, _ := c.after.parent(); of == parent {
			list = append(list, b.names[c.after.id()])
		}
	}
	return list
}

// adopt puts new rows into parents that are there already.
func (b *builder) adopt() {
	for parent := range b.kids {
		o := b.plan.have[parent]
		if o == nil {
			continue
		}
		b.unchanged(o)
		var mutations []ovsdb.Condition
		for _, table := range tables {
			if list := b.kidsIn(parent, table); kinds[table].parent == o.table && len(list) > 0 {
				mutations = append(mutations, ovsdb.Condition{kinds[table].column, "insert", list})
			}
		}
		b.ops = append(b.ops, ovsdb.Operation{Op: "mutate", Table: o.table, Where: ovsdb.Where("_uuid", o.uuid), Mutations: mutations})
	}
}

func (b *builder) update(c change) {
	columns := differing(c.before, c.after)
	b.unchanged(c.before, columns...)
	row := ovsdb.Row{}
	for _, column := range columns {
		row[column] = c.after.columns[column]
		if own := kinds[c.after.table].own[column]; own != nil {
			row[column] = merged(c.before.row[column].(ovsdb.Dict), own, c.after.columns[column].(ovsdb.Dict))
		}
	}
	if !marked(c.before, c.after) {
		ids := maps.Clone(c.before.row["external_ids"].(ovsdb.Dict))
		maps.Copy(ids, c.after.marks())
		row["external_ids"] = ids
	}
	if len(row) > 0 {
		b.ops = append(b.ops, ovsdb.Operation{Op: "update", Table: c.after.table, Where: ovsdb.Where("_uuid", c.before.uuid), Row: row})
	}
	b.balance(c)
}

// merged is what was there, with our keys as they are to be.
func merged(was ovsdb.Dict, own []string, now ovsdb.Dict) ovsdb.Dict {
	all := maps.Clone(was)
	for _, key := range own {
		delete(all, key)
	}
	maps.Copy(all, now)
	return all
}

// remove takes a row from its parent, which ends it. What a removed parent holds
// goes with it.
func (b *builder) remove(o *object) {
	b.unchanged(o)
	if ports, ok := b.plan.emptied[o]; ok {
		b.wait(o.table, ovsdb.Where("_uuid", o.uuid), []string{"ports"}, ovsdb.Row{"ports": ports})
	}
	parent, held := o.parent()
	switch {
	case held && b.removed[parent]:
	case held:
		column := kinds[o.table].column
		b.ops = append(b.ops, ovsdb.Operation{
			Op: "mutate", Table: parent.table, Where: []ovsdb.Condition{{column, "includes", ovsdb.Set[ovsdb.UUID]{o.uuid}}},
			Mutations: []ovsdb.Condition{{column, "delete", ovsdb.Set[ovsdb.UUID]{o.uuid}}},
		})
	default:
		b.ops = append(b.ops, ovsdb.Operation{Op: "delete", Table: o.table, Where: ovsdb.Where("_uuid", o.uuid)})
	}
}
