// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"fmt"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// An isolated port is in the port group of those, and has a rule of the logical
// switch (ovn-nb(5), ACL) that drops what comes from it and is for another of the
// group. The rule names the port that it is for, and not the group once more: it
// takes effect where the other one is, and there ovn-controller has of a group
// only the ports of its own chassis. It stays with the port while its guest moves.

// isolation is the columns of the rule of an isolated port by which it is one.
func isolation(id string) record {
	return record{
		Direction: toGuest, Action: "drop", Priority: highest,
		Match: fmt.Sprintf("inport == %q && outport == @%s", id, groupIsolated.name),
	}
}

// isolates reports whether the port has that rule and no other.
func (v view) isolates(id, network string) bool {
	rules, want := v.isolations[id], isolation(id)
	if len(rules) != 1 {
		return false
	}
	r := rules[0]
	return r.Direction == want.Direction && r.Action == want.Action && r.Priority == want.Priority && r.Match == want.Match &&
		r.ExternalIDs[keyNetwork] == network
}

// isolated reports whether the port is isolated, and whether it is so, or is not,
// in all respects.
func (v view) isolated(id string, l *logical) (on, whole bool) {
	member := slices.Contains(l.groups, groupIsolated.name)
	on = member && v.isolates(id, l.network)
	return on, on || !member && len(v.isolations[id]) == 0
}

// isolate adds the operations for the rule of a port.
func (tx *transaction) isolate(c switchcfg.Change) {
	l := c.After.Settings.Logical
	want := c.After.Settings.Flags[switchcfg.FlagIsolated] == vnet.ToggleOn
	if want && tx.v.isolates(l.ID, l.Network) {
		return
	}
	tx.unrule("acls", tx.v.isolations[l.ID])
	if !want {
		return
	}
	rule := isolation(l.ID)
	name := ovsdb.NamedUUID(fmt.Sprintf("isolation%d", len(tx.north))) // no two have the same
	tx.north = append(tx.north, ovsdb.Operation{Op: "insert", Table: tableACL, Name: string(name), Row: ovsdb.Row{
		"priority": rule.Priority, "direction": rule.Direction, "action": rule.Action, "match": rule.Match, "name": "isolated",
		"external_ids": ovsdb.Dict{keyPort: l.ID, keyNetwork: l.Network},
	}})
	tx.mutate(tableSwitch, ovsdb.Where("_uuid", tx.v.networks[l.Network].uuid), "acls", "insert", name)
}
