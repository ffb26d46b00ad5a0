// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"fmt"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// A limit is a rule of the logical switch (ovn-nb(5), QoS), which ovn-controller
// of the port's chassis makes an OpenFlow meter of: what is too fast is dropped,
// in both directions. It stays with the port while its guest moves.

const tableQoS = "QoS"

// Keys of external_ids of a QoS rule: the port that it limits, and its rate in
// bits per second and bytes, as a meter counts thousands of bits only.
const (
	keyPort = "virt-vnet-port"
	keyRate = "virt-vnet-rate"
)

// limitPriority is that of our QoS rules.
const limitPriority = 1000

// limit is one direction's.
type limit struct {
	direction string
	rate      vnet.Rate
}

// limitsOf are the directions that are limited.
func limitsOf(q vnet.QoS) (list []limit) {
	for _, l := range []limit{{toGuest, q.Inbound}, {fromGuest, q.Outbound}} {
		if l.rate.Bits != 0 {
			list = append(list, l)
		}
	}
	return list
}

// row is the QoS rule of a port.
func (l limit) row(id, network string) ovsdb.Row {
	return ovsdb.Row{
		"priority": limitPriority, "direction": l.direction, "match": l.match(id), "bandwidth": l.bandwidth(),
		"external_ids": ovsdb.Dict{keyPort: id, keyNetwork: network, keyRate: fmt.Sprintf("%d/%d", l.rate.Bits, l.rate.Burst)},
	}
}

func (l limit) match(id string) string {
	if l.direction == toGuest {
		return fmt.Sprintf("outport == %q", id)
	}
	return fmt.Sprintf("inport == %q", id)
}

// bandwidth is in thousands of bits.
func (l limit) bandwidth() ovsdb.Numbers {
	const thousand = 1000
	return ovsdb.Numbers{
		"rate":  max(1, int(l.rate.Bits/thousand)),
		"burst": max(1, int(8*l.rate.Burst/thousand)),
	}
}

// qos is the limits in force: of each direction one rule, as we make it.
func (v view) qos(id, network string) *vnet.QoS {
	rates := map[string]vnet.Rate{}
	for _, r := range v.limits[id] {
		l := limit{direction: r.Direction}
		_, err := fmt.Sscanf(r.ExternalIDs[keyRate], "%d/%d", &l.rate.Bits, &l.rate.Burst)
		_, twice := rates[r.Direction]
		want := l.bandwidth()
		if err != nil || twice || r.ExternalIDs[keyNetwork] != network || r.Match != l.match(id) ||
			r.Bandwidth["rate"] != want["rate"] || r.Bandwidth["burst"] != want["burst"] {
			l.rate = vnet.Rate{}
		}
		rates[r.Direction] = l.rate
	}
	return &vnet.QoS{Inbound: rates[toGuest], Outbound: rates[fromGuest]}
}

// limit adds the operations that give a port its limits.
func (tx *transaction) limit(c switchcfg.Change, found *logical) {
	after := c.After.Settings.Logical
	var want []limit
	if q := c.After.Settings.QoS; q != nil {
		want = limitsOf(*q)
	}
	have := limitsOf(*tx.v.qos(after.ID, after.Network))
	if found.network == after.Network && len(tx.v.limits[after.ID]) == len(have) && fmt.Sprint(have) == fmt.Sprint(want) {
		return
	}
	tx.unrule("qos_rules", tx.v.limits[after.ID])
	for _, l := range want {
		name := ovsdb.NamedUUID(fmt.Sprintf("limit%d", len(tx.north))) // no two have the same
		tx.north = append(tx.north, ovsdb.Operation{
			Op: "insert", Table: tableQoS, Name: string(name), Row: l.row(after.ID, after.Network),
		})
		tx.mutate(tableSwitch, ovsdb.Where("_uuid", tx.v.networks[after.Network].uuid), "qos_rules", "insert", name)
	}
}

// free takes all rules of a port away.
func (tx *transaction) free(id string) {
	tx.unrule("qos_rules", tx.v.limits[id])
	tx.unrule("acls", tx.v.isolations[id])
}

// unrule takes rules out of the logical switches that have them in that column.
func (tx *transaction) unrule(column string, rules []record) {
	for _, r := range rules {
		rule := ovsdb.Set[ovsdb.UUID]{r.UUID}
		tx.mutate(tableSwitch, []ovsdb.Condition{{column, "includes", rule}}, column, "delete", r.UUID)
	}
}
