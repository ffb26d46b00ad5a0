// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
)

// change is one object to make (before is nil), to set (neither is nil) or to
// remove (after is nil).
type change struct{ before, after *object }

// diff is what leads from have to want. It leaves alone what is not in scope.
func diff(want, have objects, scope map[string]bool) []change {
	var changes []change
	for _, o := range want.list() {
		seen := have[o.id()]
		if seen == nil || len(differing(seen, o)) > 0 || !marked(seen, o) || !slices.Equal(seen.balancers, o.balancers) {
			changes = append(changes, change{seen, o})
		}
	}
	for _, o := range slices.Backward(have.list()) {
		if want[o.id()] == nil && gone(o, want, have, scope) {
			changes = append(changes, change{o, nil})
		}
	}
	return changes
}

// gone reports whether what is there and not wanted is to be removed: it is of a
// network in scope, or of a router that no other network is on, or an address
// set that no other network's ACL names.
func gone(o *object, want, have objects, scope map[string]bool) bool {
	switch {
	case o.network != "":
		return scope[o.network]
	case o.router != "":
		for _, other := range have {
			if other.table == tableRouterPort && other.router == o.router && !scope[other.network] {
				// Other networks say nothing of its routes: those are the router's.
				return want[id{tableRouter, o.router}] != nil
			}
		}
		return true
	case o.set != "":
		for _, other := range have {
			match, _ := other.columns["match"].(string)
			if other.table == tableACL && !scope[other.network] && strings.Contains(match, "$"+o.key) {
				return false
			}
		}
		return true
	}
	return false
}

// marked reports whether the row carries all of the object's marks.
func marked(seen, want *object) bool {
	ids, _ := seen.row["external_ids"].(ovsdb.Dict)
	for key, value := range want.marks() {
		if ids[key] != value {
			return false
		}
	}
	return true
}

// differing are the columns in which the two differ.
func differing(before, after *object) []string {
	var list []string
	for _, column := range slices.Sorted(maps.Keys(after.columns)) {
		if !same(before.columns[column], after.columns[column]) {
			list = append(list, column)
		}
	}
	return list
}

func same(a, b any) bool {
	if length(a) == 0 && length(b) == 0 {
		return true
	}
	return reflect.DeepEqual(a, b)
}

// length is that of a set or dictionary, of which none and an empty one are the
// same, and otherwise -1.
func length(v any) int {
	if value := reflect.ValueOf(v); v == nil {
		return 0
	} else if kind := value.Kind(); kind == reflect.Slice || kind == reflect.Map {
		return value.Len()
	}
	return -1
}

func compareObjects(a, b *object) int {
	return cmp.Or(
		cmp.Compare(slices.Index(tables, a.table), slices.Index(tables, b.table)),
		cmp.Compare(a.network, b.network), cmp.Compare(a.router, b.router), byPriority(a, b), cmp.Compare(a.key, b.key),
	)
}

// byPriority puts the ACL or the chassis first that goes before.
func byPriority(a, b *object) int {
	first, _ := a.columns["priority"].(int)
	second, _ := b.columns["priority"].(int)
	return cmp.Compare(second, first)
}

// lines are the change for people.
func (c change) lines() []string {
	switch {
	case c.before == nil:
		return []string{c.after.String() + ": create"}
	case c.after == nil:
		return []string{c.before.String() + ": remove"}
	}
	var list []string
	for _, column := range differing(c.before, c.after) {
		before, after := c.before.columns[column], c.after.columns[column]
		if had, ok := before.(ovsdb.Dict); ok {
			for _, line := range dictLines(had, after.(ovsdb.Dict)) {
				list = append(list, fmt.Sprintf("%s: %s", c.after, line))
			}
			continue
		}
		list = append(list, fmt.Sprintf("%s: %s %s -> %s", c.after, column, word(before), word(after)))
	}
	for _, line := range balancerLines(c.before, c.after) {
		list = append(list, fmt.Sprintf("%s: %s", c.after, line))
	}
	if len(list) == 0 {
		list = []string{c.after.String() + ": mark"}
	}
	return list
}

func dictLines(before, after ovsdb.Dict) (list []string) {
	all := maps.Clone(after)
	maps.Copy(all, before)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if before[key] != after[key] {
			list = append(list, fmt.Sprintf("%s %s -> %s", key, cmp.Or(before[key], "none"), cmp.Or(after[key], "none")))
		}
	}
	return list
}

func word(v any) string {
	if length(v) == 0 {
		return "none"
	}
	return strings.Trim(fmt.Sprint(v), "[]")
}

// Lines are the changes for people.
func lines(changes []change) []string {
	var list []string
	for _, c := range changes {
		list = append(list, c.lines()...)
	}
	return list
}
