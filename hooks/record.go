// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"maps"
	"reflect"
	"slices"

	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// record is what is wired, or about to be.
func (j *job) record(complete bool) state.Guest {
	r := state.Guest{Guest: j.guest, Updated: j.w.now(), Started: j.old.Started, Complete: complete}
	for _, l := range j.legs {
		if l.managed && l.err == nil && !l.wired() {
			r.Ports = append(r.Ports, l.port)
		}
	}
	defer func() { // a running guest does not start
		for i := range r.Ports {
			r.Ports[i].Starts = false
		}
	}()
	for _, g := range slices.Concat(j.groups, j.stuck) {
		if len(g.ports) == 0 {
			continue
		}
		r.Ports = append(r.Ports, g.ports...)
		if !slices.ContainsFunc(r.Switches, func(sw vnet.Switch) bool { return reflect.DeepEqual(sw, g.sw) }) {
			r.Switches = append(r.Switches, g.sw)
		}
		if undo := images(j.old, g, j.guest.UUID); !undo.Empty() {
			r.Undo = append(r.Undo, undo)
		}
	}
	return r
}

// images returns the plan from how the ports of g were before virt-vnet first
// touched them to how they will be. What an earlier run found is kept while the
// ports are still the same: they carry our mark, or that run did not get to its
// end and may have died before the mark.
func images(old state.Guest, g *group, uuid string) switchcfg.Plan {
	plan := switchcfg.Plan{Switch: g.sw.Name}
	after := maps.Clone(g.have.Ports)
	for _, c := range g.plan.Changes {
		after[c.Device] = c.After
	}
	for _, device := range g.want.Devices() {
		before := g.have.Ports[device]
		if image, ok := beforeImage(old, g.sw.Name, device); ok && (before.Owner.Guest == uuid || !old.Complete) {
			before = image
		}
		c := switchcfg.Change{Device: device, Before: before, After: after[device]}
		if !c.Empty() {
			plan.Changes = append(plan.Changes, c)
		}
	}
	return plan
}

// beforeImage returns how a port was before virt-vnet first touched it.
func beforeImage(r state.Guest, sw, device string) (switchcfg.Port, bool) {
	for _, plan := range r.Undo {
		for _, c := range plan.Changes {
			if plan.Switch == sw && c.Device == device {
				return c.Before, true
			}
		}
	}
	return switchcfg.Port{}, false
}
