// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
)

func noNetwork(name string) error {
	return fmt.Errorf("network %s: %w: OVN has no logical switch of that name that virt-vnet has made: virt-vnet apply",
		name, switchcfg.ErrNoSwitch)
}

// twins are the conditions of ports of other guests that have the MAC, or the
// address, of the port in the same network.
func twins(c switchcfg.Change) [][]ovsdb.Condition {
	l := c.After.Settings.Logical
	if l == nil {
		return nil
	}
	another := func(key, value string) []ovsdb.Condition {
		return []ovsdb.Condition{
			{"name", "!=", l.ID},
			{"external_ids", "includes", ovsdb.Dict{keyNetwork: l.Network, key: value}},
			{"external_ids", "excludes", ovsdb.Dict{keyGuest: c.After.Owner.Guest}},
		}
	}
	all := [][]ovsdb.Condition{another(keyMAC, c.After.Owner.MAC.String())}
	if l.Address.IsValid() {
		all = append(all, another(keyAddress, l.Address.String()))
	}
	return all
}

// manyTwins is more conditions of twins than a transaction is guarded by one by
// one: then nobody may have changed the guests of the network, which is fewer
// rows to look at and a conflict sooner, so not for the start of a guest.
const manyTwins = 256

// has is what somebody has in a network, a MAC address or an address, in words.
type has struct{ network, what string }

const (
	theMAC     = "MAC address "
	theAddress = "address "
)

// claims are the ports that are to have what the plan gives to ports. Of guests of
// the plan that want the same the first gets it, and the others have an error.
func claims(plan switchcfg.Plan) (all map[has]switchcfg.Change, err error) {
	all = map[has]switchcfg.Change{}
	for _, c := range plan.Changes {
		l := c.After.Settings.Logical
		if l == nil {
			continue
		}
		wants := []has{{l.Network, theMAC + c.After.Owner.MAC.String()}}
		if l.Address.IsValid() {
			wants = append(wants, has{l.Network, theAddress + l.Address.String()})
		}
		for _, h := range wants {
			if first, claimed := all[h]; !claimed {
				all[h] = c
			} else if first.After.Owner.Guest != c.After.Owner.Guest {
				err = blame(err, c, "network %s: %w: the %s is to be that of guest %s, port %s, too: give one of them another",
					h.network, switchcfg.ErrNotOwned, h.what, first.After.Owner.Guest, first.Device)
			}
		}
	}
	return all, err
}

// blame joins to err what is wrong with a port, unless it has something of that
// port already.
func blame(err error, c switchcfg.Change, format string, args ...any) error {
	if slices.Contains(switchcfg.PortErrors(err), c.Device) {
		return err
	}
	return errors.Join(err, &switchcfg.PortError{Device: c.Device, Err: fmt.Errorf(format, args...)})
}

// unlike reports ports of other guests that have the MAC or the address of one
// of the plan.
func (d *Driver) unlike(ctx context.Context, v view, plan switchcfg.Plan) error {
	var rows [][]ovsdb.Condition
	for _, c := range plan.Changes {
		rows = append(rows, twins(c)...)
	}
	var q questions
	claims, found := claims(plan)
	q.among(tablePort, rows, []string{"name", "external_ids"}, func(r record) {
		network := r.ExternalIDs[keyNetwork]
		if len(rows) > manyTwins {
			v.all[network] = append(v.all[network], r)
		}
		for _, what := range []string{theMAC + r.ExternalIDs[keyMAC], theAddress + r.ExternalIDs[keyAddress]} {
			c, claimed := claims[has{network, what}]
			if claimed && r.Name != c.After.Settings.Logical.ID && r.ExternalIDs[keyGuest] != c.After.Owner.Guest {
				found = blame(found, c, "network %s: %w: the %s is that of guest %s, logical port %s: give one of them another, "+
					"or if that guest is gone: ovn-nbctl lsp-del %[5]s",
					network, switchcfg.ErrNotOwned, what, r.ExternalIDs[keyGuest], r.Name)
			}
		}
	})
	return errors.Join(q.answer(ctx, d.nb), found)
}

// former finds ports that the NICs of the plan had under other ids, which a crash
// of this host has left, and their rules. Of a NIC that another host has under another id we can
// say nothing but that.
func (d *Driver) former(ctx context.Context, v view, plan switchcfg.Plan) (left []record, err error) {
	var rows [][]ovsdb.Condition
	nics := map[has]switchcfg.Change{}
	for _, c := range plan.Changes {
		if l := c.After.Settings.Logical; l != nil && l.Here {
			nics[has{l.Network, c.After.Owner.MAC.String()}] = c
			rows = append(rows, []ovsdb.Condition{{"name", "!=", l.ID}, {"external_ids", "includes", ovsdb.Dict{
				keyNetwork: l.Network, keyMAC: c.After.Owner.MAC.String(), keyGuest: c.After.Owner.Guest,
			}}})
		}
	}
	var q questions
	var elsewhere error
	q.among(tablePort, rows, []string{"_uuid", "name", "options", "external_ids"}, func(r record) {
		c, ours := nics[has{r.ExternalIDs[keyNetwork], r.ExternalIDs[keyMAC]}]
		switch {
		case !ours || r.Name == c.After.Settings.Logical.ID || r.ExternalIDs[keyGuest] != c.After.Owner.Guest:
		case slices.Equal(chassisOf(r.Options), []string{d.chassis}):
			left = append(left, r)
		default:
			l := c.After.Settings.Logical
			elsewhere = blame(elsewhere, c, "network %s: %w: chassis %s has this NIC as logical port %s, and here it is %s: "+
				"give it a fixed <parameters interfaceid='%[4]s'/>; if it does not run there: ovn-nbctl lsp-del %[4]s",
				l.Network, switchcfg.ErrNotOwned, r.Options[keyChassis], r.Name, l.ID)
		}
	})
	if err := errors.Join(q.answer(ctx, d.nb), elsewhere); err != nil || len(left) == 0 {
		return nil, err
	}
	ids := make([]string, len(left))
	for i, r := range left {
		ids[i] = r.Name
	}
	var rules questions
	d.askRules(&rules, v, ids)
	return left, rules.answer(ctx, d.nb)
}
