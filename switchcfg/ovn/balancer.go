// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// A load balancer (ovn-nb(5), Load_Balancer) is in force where a connection
// begins: in the switches that its router has a leg in, for guests, and in the
// router, which answers for the address, for what comes by the uplink.

// columnBalancers is what switches and routers hold theirs in.
const columnBalancers = "load_balancer"

// holdsBalancers reports whether rows of the table have load balancers.
func holdsBalancers(table string) bool { return table == tableSwitch || table == tableRouter }

// balancer adds one of a router.
func (all objects) balancer(t *vnet.Topology, r vnet.Router, l vnet.LoadBalancer) {
	var backends []string
	for _, b := range l.Backends {
		backends = append(backends, texts(t.BackendAddresses(b, l.VIP.Addr()))...)
	}
	all.add(&object{table: tableBalancer, router: r.Name, columns: map[string]any{
		"name": balancerName(r, l), "protocol": l.Transport().String(),
		"vips": ovsdb.Dict{l.VIP.String(): strings.Join(backends, ",")},
	}})
}

func balancerName(r vnet.Router, l vnet.LoadBalancer) string { return r.Name + " " + l.String() }

func balancerNames(r vnet.Router) (names []string) {
	for _, l := range r.LoadBalancers {
		names = append(names, balancerName(r, l))
	}
	slices.Sort(names)
	return names
}

// resolve finds which of the load balancers that are held are ours.
func (all objects) resolve() {
	names := map[ovsdb.UUID]string{}
	for _, o := range all {
		if o.table == tableBalancer {
			names[o.uuid] = o.key
		}
	}
	for _, o := range all {
		for _, held := range o.held {
			if name, ours := names[held]; ours {
				o.balancers = append(o.balancers, name)
			}
		}
		slices.Sort(o.balancers)
	}
}

// without is the names that others has not.
func without(names, others []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(others, name) })
}

// references are the rows with the names: some of this transaction.
func (b *builder) references(names []string) ovsdb.Set[any] {
	list := ovsdb.Set[any]{}
	for _, name := range names {
		balancer := id{tableBalancer, name}
		if made, ok := b.names[balancer]; ok {
			list = append(list, made)
		} else if o := b.plan.have[balancer]; o != nil {
			list = append(list, o.uuid)
		}
	}
	return list
}

// balance gives a row that is there the load balancers that it lacks, and takes
// those of ours that it should not have.
func (b *builder) balance(c change) {
	for _, m := range []struct {
		mutator string
		names   []string
	}{
		{"insert", without(c.after.balancers, c.before.balancers)},
		{"delete", without(c.before.balancers, c.after.balancers)},
	} {
		if list := b.references(m.names); len(list) > 0 {
			b.ops = append(b.ops, ovsdb.Operation{
				Op: "mutate", Table: c.after.table, Where: ovsdb.Where("_uuid", c.before.uuid),
				Mutations: []ovsdb.Condition{{columnBalancers, m.mutator, list}},
			})
		}
	}
}

// heldByNew is what a row that is made has: ours, and if it was there before, as
// when a removal is undone, what it had of others. The database itself drops
// those that are gone.
func (b *builder) heldByNew(o *object) ovsdb.Set[any] {
	list := b.references(o.balancers)
	ours := map[ovsdb.UUID]bool{}
	for _, other := range b.plan.have {
		ours[other.uuid] = true
	}
	for _, held := range o.held {
		if !ours[held] {
			list = append(list, held)
		}
	}
	return list
}

// balancerLines are what becomes of the load balancers that a row has.
func balancerLines(before, after *object) []string {
	var list []string
	for _, name := range without(after.balancers, before.balancers) {
		list = append(list, "load balancer "+name+": add")
	}
	for _, name := range without(before.balancers, after.balancers) {
		list = append(list, "load balancer "+name+": take away")
	}
	return list
}
