// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"context"
	"reflect"
	"slices"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Planned is what [Wirer.PlanAll] found out about one guest.
type Planned struct {
	GuestPlan
	Err error // why a part of it is missing
}

// PlanAll is [Wirer.Plan] for many guests, in their order. It opens each switch
// once and takes one look at it, also where that fails.
func (w *Wirer) PlanAll(ctx context.Context, doms []libvirtnet.Domain) []Planned {
	var opened []*onlooker
	once := *w
	once.Open = func(ctx context.Context, sw vnet.Switch) (switchcfg.Driver, error) {
		same := func(o *onlooker) bool { return reflect.DeepEqual(o.sw, sw) }
		i := slices.IndexFunc(opened, same)
		if i < 0 {
			o := &onlooker{sw: sw}
			o.Driver, o.err = w.Open(ctx, sw)
			i, opened = len(opened), append(opened, o)
		}
		if opened[i].Driver == nil {
			return nil, opened[i].err
		}
		return opened[i].examining(), nil
	}
	plans := make([]Planned, len(doms))
	for i, dom := range doms {
		plans[i].GuestPlan, plans[i].Err = once.Plan(ctx, dom)
	}
	for _, o := range opened {
		if o.Driver == nil {
			continue
		}
		if err := o.Driver.Close(); err != nil {
			w.log().Warn("plan of all guests", "switch", o.sw.Name, "error", err)
		}
	}
	return plans
}

// onlooker is a driver that looks at all ports of its switch at the first look,
// and at none of them again. It stays open.
type onlooker struct {
	switchcfg.Driver // nil if it cannot be opened
	sw               vnet.Switch
	seen             *switchcfg.State
	err              error // of opening it, or of the look at all ports
}

// examining is the onlooker as an [switchcfg.Examiner], if its driver is one.
func (o *onlooker) examining() switchcfg.Driver {
	examiner, ok := o.Driver.(switchcfg.Examiner)
	if !ok {
		return o
	}
	return struct {
		*onlooker
		switchcfg.Examiner
	}{o, examiner}
}

// Observe implements [switchcfg.Driver].
func (o *onlooker) Observe(ctx context.Context, scope switchcfg.Scope) (switchcfg.State, error) {
	if o.seen == nil && o.err == nil {
		var all switchcfg.State
		all, o.err = o.Driver.Observe(ctx, switchcfg.Scope{})
		o.seen = &all
	}
	if o.err != nil {
		return switchcfg.State{}, o.err
	}
	some := part(*o.seen, scope.Devices)
	missing := func(device string) bool { _, seen := some.Ports[device]; return !seen }
	if slices.ContainsFunc(scope.Devices, missing) { // elsewhere, or nowhere
		return o.Driver.Observe(ctx, scope)
	}
	return some, nil
}

// Close implements [switchcfg.Driver].
func (o *onlooker) Close() error { return nil }
