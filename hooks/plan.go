// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// GuestPlan is what the hook would do for one guest. Its JSON form is part of
// the command line's contract.
type GuestPlan struct {
	Guest     string    `json:"guest"`
	UUID      string    `json:"uuid,omitempty"`
	Operation string    `json:"operation"`
	NICs      []NICPlan `json:"nics"`
	// Switches are the changes to switches themselves and to their uplinks, such
	// as "br0: eth0: vlan: access 1 -> trunk 1,20 native 1".
	Switches []string `json:"switches,omitempty"`
	// Warnings are what the wiring would do to others, a line each.
	Warnings []string `json:"warnings,omitempty"`
	// Note says what the operation does when it is not wiring.
	Note string `json:"note,omitempty"`
}

// NICPlan is what the hook would do for one NIC.
type NICPlan struct {
	MAC vnet.MAC `json:"mac"`
	// Device is empty while libvirt has not made it.
	Device  string `json:"device"`
	Network string `json:"network"`
	// Switch is empty when there is nothing to wire.
	Switch string `json:"switch"`
	// Managed says that the NIC is in a network of ours.
	Managed bool `json:"managed"`
	// Changes has a line for each setting that would change, such as
	// "vlan: untagged -> access 20". It is empty when all is well.
	Changes []string `json:"changes"`
	// Note says why there is nothing to wire, or what is in the way.
	Note string `json:"note,omitempty"`
}

// Simulate says what [Main] would do at ev, touching nothing. The error is the
// one the hook would fail with; the plan says what could be found out all the
// same.
func (w *Wirer) Simulate(ctx context.Context, ev Event) (GuestPlan, error) {
	op := operation(ev)
	if op.parse == nil {
		return GuestPlan{Guest: ev.Object, Operation: ev.Operation, NICs: []NICPlan{}, Note: op.Does}, nil
	}
	dom, err := op.parse(ev.Payload)
	if err != nil {
		return GuestPlan{}, err
	}
	if ev.Operation == "reconnect" {
		dom = Recall(w.Store, dom)
	}
	plan, err := GuestPlan{}, error(nil)
	if op.wires {
		plan, err = w.Plan(ctx, dom)
	} else {
		plan = newPlan(dom, w.legs(dom))
		plan.Note = op.Does
	}
	plan.Operation = ev.Operation
	return plan, err
}

// Plan says what [Wirer.Wire] would do for the guest, touching nothing. Of a
// device that does not exist yet it says everything that it would get.
func (w *Wirer) Plan(ctx context.Context, dom libvirtnet.Domain) (plan GuestPlan, err error) {
	legs := w.legs(dom)
	plan = newPlan(dom, legs)
	groups, errs := groups(withDevices(legs))
	defer func() { err = errors.Join(err, closeAll(groups)) }()
	changes := map[string][]string{}
	for _, g := range groups {
		if err := w.look(ctx, g, changes); err != nil {
			errs = append(errs, byPolicy(g.onFailure, err))
			plan.note(g, err)
		}
		plan.Switches = append(plan.Switches, g.besides()...)
		plan.Warnings = append(plan.Warnings, g.plan.Warnings...)
	}
	for i, l := range legs {
		if !l.wired() {
			continue
		}
		plan.NICs[i].Changes = append(plan.NICs[i].Changes, changes[l.port.Device]...)
	}
	return plan, combine(errs)
}

// newPlan is the plan without any change.
func newPlan(dom libvirtnet.Domain, legs []leg) GuestPlan {
	plan := GuestPlan{Guest: dom.Name, UUID: dom.UUID, Operation: "start", NICs: make([]NICPlan, len(legs))}
	for i, l := range legs {
		plan.NICs[i] = NICPlan{
			MAC: l.nic.MAC, Device: l.nic.Device, Network: l.nic.Network, Switch: l.sw.Name,
			Managed: l.managed, Changes: []string{}, Note: l.note,
		}
		if l.err != nil {
			plan.NICs[i].Note = oneLine(l.err)
		}
	}
	return plan
}

// note says at the NICs of g what is in their way.
func (p *GuestPlan) note(g *group, err error) {
	for i, nic := range p.NICs {
		mine := func(port vnet.Port) bool { return port.MAC == nic.MAC && port.Network == nic.Network }
		if slices.ContainsFunc(g.ports, mine) {
			p.NICs[i].Note = oneLine(err)
		}
	}
}

// besides are the lines of the plan that are not about ports of the guest.
func (g *group) besides() []string {
	var lines []string
	for _, c := range g.plan.Changes {
		if c.Device != g.sw.Name && c.Device != g.have.Uplink.Device {
			continue
		}
		for _, line := range c.Lines() {
			lines = append(lines, fmt.Sprintf("%s: %s: %s", g.sw.Name, c.Device, line))
		}
	}
	return lines
}

// look finds out what would change on the switch of g, by device.
func (w *Wirer) look(ctx context.Context, g *group, changes map[string][]string) error {
	if err := w.able(ctx, g); err != nil {
		return err
	}
	have, err := g.driver.Observe(ctx, switchcfg.Scope{Devices: g.want.Devices()})
	if err != nil {
		return g.wrap(err)
	}
	g.have = have
	there := switchcfg.State{Switch: g.want.Switch, Ports: map[string]switchcfg.Port{}}
	for device, port := range g.want.Ports {
		if _, ok := have.Ports[device]; ok {
			there.Ports[device] = port
			continue
		}
		changes[device] = switchcfg.Change{Device: device, After: port}.Lines()
	}
	there.Uplink = g.want.Uplink
	if g.plan, err = switchcfg.Diff(there, have, ""); err != nil {
		return g.wrap(err)
	}
	for _, c := range g.plan.Changes {
		changes[c.Device] = c.Lines()
	}
	return nil
}
