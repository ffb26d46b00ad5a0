// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// PlanAll is [Wirer.Plan] for many guests. It opens each switch once and takes
// one look at it. The first error ends it.
func (w *Wirer) PlanAll(ctx context.Context, doms []libvirtnet.Domain) (plans []GuestPlan, err error) {
	var opened []*onlooker
	defer func() {
		for _, o := range opened {
			err = errors.Join(err, o.Driver.Close())
		}
	}()
	once := *w
	once.Open = func(ctx context.Context, sw vnet.Switch) (switchcfg.Driver, error) {
		same := func(o *onlooker) bool { return reflect.DeepEqual(o.sw, sw) }
		if i := slices.IndexFunc(opened, same); i >= 0 {
			return opened[i].examining(), nil
		}
		driver, err := w.Open(ctx, sw)
		if err != nil {
			return nil, err
		}
		o := &onlooker{Driver: driver, sw: sw}
		opened = append(opened, o)
		return o.examining(), nil
	}
	for _, dom := range doms {
		plan, err := once.Plan(ctx, dom)
		if err != nil {
			return plans, fmt.Errorf("guest %s: %w", dom.Name, err)
		}
		plans = append(plans, plan)
	}
	return plans, nil
}

// onlooker is a driver that looks at all ports of its switch at the first look,
// and at none of them again. It stays open.
type onlooker struct {
	switchcfg.Driver
	sw   vnet.Switch
	seen *switchcfg.State
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
	if o.seen == nil {
		all, err := o.Driver.Observe(ctx, switchcfg.Scope{})
		if err != nil {
			return switchcfg.State{}, err
		}
		o.seen = &all
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
