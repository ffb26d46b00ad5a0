// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// collection is the inventory for verify while it is made, and the open
// switches, which verify goes on to use.
type collection struct {
	site      *site
	inventory verify.Inventory
	switches  map[string]openSwitch
	addresses map[string]guestAddresses
	wants     *hooks.Wants
}

// openSwitch is a switch of the host as it was seen once. A nil driver has err.
type openSwitch struct {
	sw     vnet.Switch
	driver switchcfg.Driver
	state  switchcfg.State
	// condition is nil when it is not known.
	condition *switchcfg.Condition
	err       error
}

// askAddresses finds out the addresses of guests, as [site.addresses] does.
type askAddresses func(context.Context, []virtapi.Guest) (map[string]guestAddresses, error)

// collect takes one look at libvirt and one at each switch, for the guests of
// these names or, without names, for all. A nil ask leaves the guests themselves
// alone: their addresses are those of the spec only. Close the collection when
// verify is done.
func (s *site) collect(ctx context.Context, names []string, ask askAddresses) (*collection, error) {
	col := &collection{site: s, switches: map[string]openSwitch{}, wants: s.wirer.Wants()}
	col.inventory.Networks = s.topology.Networks
	col.inventory.Expect, col.inventory.Waivers = s.topology.Expect, s.topology.Waivers
	guests, err := s.guestsHere(ctx, names)
	if err != nil {
		return nil, err
	}
	guests = slices.DeleteFunc(guests, func(g virtapi.Guest) bool { return !col.concerns(g) })
	if ask != nil {
		if col.addresses, err = ask(ctx, guests); err != nil {
			return nil, err
		}
	}
	for _, g := range guests {
		col.look(ctx, g)
		col.inventory.Guests = append(col.inventory.Guests, col.guest(g))
	}
	all := len(s.topology.Hosts) < 2
	if s.elsewhere && len(s.topology.Hosts) > 0 && !col.has(slices.Concat(names, s.only)) {
		all = col.lookElsewhere(ctx, names)
	}
	col.addAbsent(names, all)
	slices.SortFunc(col.inventory.Guests, func(a, b verify.Guest) int { return cmp.Compare(a.Ref.Name, b.Ref.Name) })
	for _, name := range slices.Sorted(maps.Keys(col.switches)) {
		col.inventory.Switches = append(col.inventory.Switches, col.switches[name].found(ctx))
	}
	return col, nil
}

// has reports whether guests are named, and all of them are here.
func (col *collection) has(names []string) bool {
	return len(names) > 0 && !slices.ContainsFunc(names, func(name string) bool {
		return !slices.ContainsFunc(col.inventory.Guests, func(g verify.Guest) bool { return g.Ref.Name == name })
	})
}

// addAbsent adds the guests of the spec that were not found, if all hosts have been
// looked at. Who is asked about a guest misses it anyway.
func (col *collection) addAbsent(names []string, all bool) {
	for _, want := range col.site.topology.Guests {
		if len(names) > 0 && !slices.Contains(names, want.Name) || len(names) == 0 && !all {
			continue
		}
		if !slices.ContainsFunc(col.inventory.Guests, func(g verify.Guest) bool { return g.Ref.Name == want.Name }) {
			guest := col.absent(want)
			if hosts := col.site.topology.Hosts; len(hosts) > 1 && all {
				guest.State = "not defined on " + hostNames(hosts)
			}
			col.inventory.Guests = append(col.inventory.Guests, guest)
		}
	}
}

// concerns reports whether a guest is to be looked at: it runs with a NIC in a
// network of ours, or the spec expects it.
func (col *collection) concerns(g virtapi.Guest) bool {
	_, expected := col.site.topology.Guest(g.Name)
	return expected || g.Active && usesAny(g.Domain, col.site.topology.Networks)
}

// look opens and observes the switches that the guest's NICs are or should be
// on, each once.
func (col *collection) look(ctx context.Context, g virtapi.Guest) {
	for _, nic := range g.Domain.NICs {
		n, ours := col.site.topology.Network(nic.Network)
		sw := col.switchOf(n, nic)
		if _, open := col.switches[sw.Name]; open || !ours || sw.Name == "" {
			continue
		}
		col.switches[sw.Name] = observe(ctx, sw)
	}
}

// switchOf is the switch of a NIC in network n: of libvirt's own networks the
// bridge that libvirt made, of a macvtap none.
func (col *collection) switchOf(n vnet.Network, nic libvirtnet.DomainNIC) vnet.Switch {
	switch n.Mode {
	case vnet.ModeBridge:
		sw, _ := col.site.topology.Switch(n.Switch)
		return sw
	case vnet.ModeNAT, vnet.ModeIsolated:
		return vnet.Switch{Name: nic.Bridge, Driver: vnet.DriverLinux}
	default:
		return vnet.Switch{}
	}
}

// guest is libvirt's guest as verify wants it: its NICs in our networks, and
// those that the spec expects and it does not have.
func (col *collection) guest(g virtapi.Guest) verify.Guest {
	out := verify.Guest{Ref: g.GuestRef, Running: g.State == virtapi.StateRunning, State: g.State.String(), Held: g.Held}
	if record, err := col.site.store.Guest(g.UUID); err == nil && g.Active {
		out.Started = record.Started
	}
	wants := col.wants.Of(g.Domain)
	expected, _ := col.site.topology.Guest(g.Name)
	out.Down = expected.Down
	missing := slices.Clone(expected.NICs)
	for i, nic := range g.Domain.NICs {
		n, ours := col.site.topology.Network(nic.Network)
		if !ours {
			continue
		}
		found := col.nic(g.GuestRef, n, nic)
		col.switches[found.Want.Switch].compare(found.Port, wants[i], nic.Device)
		want, rest, _ := vnet.TakeNIC(missing, nic.MAC, nic.Network)
		if missing = rest; want.Address.IsValid() {
			found.Addresses = append(found.Addresses, verify.Address{Addr: want.Address, Source: verify.AddressSpec})
		}
		found.Addresses = append(found.Addresses, col.addresses[g.Name][nic.MAC]...)
		out.NICs = append(out.NICs, found)
	}
	for _, want := range missing {
		out.NICs = append(out.NICs, col.missingNIC(g.GuestRef, want))
	}
	return out
}

func (col *collection) nic(guest vnet.GuestRef, n vnet.Network, nic libvirtnet.DomainNIC) verify.NIC {
	policy, _ := n.PolicyFor(nic.Portgroup)
	policy.Isolated = policy.Isolated || nic.Isolated && n.Mode != vnet.ModeMacvtap
	sw := col.switchOf(n, nic)
	out := verify.NIC{
		Want: vnet.Port{
			Device: nic.Device, Switch: sw.Name, Guest: guest, MAC: nic.MAC, Network: n.Name,
			Portgroup: nic.Portgroup, MTU: cmp.Or(nic.MTU, n.MTU), Policy: policy,
		},
		LinkDown: nic.LinkDown,
	}
	if sw.Name != "" {
		out.Port = col.switches[sw.Name].port(nic.Device)
	}
	return out
}

// missingNIC is a NIC that the spec expects and the guest does not have.
func (col *collection) missingNIC(guest vnet.GuestRef, want vnet.NIC) verify.NIC {
	n, _ := col.site.topology.Network(want.Network)
	policy, _ := n.PolicyFor(want.Portgroup)
	return verify.NIC{Want: vnet.Port{
		Guest: guest, MAC: want.MAC, Network: n.Name, Portgroup: want.Portgroup, Switch: n.Switch, Policy: policy,
	}}
}

// absent is a guest that the spec expects and libvirt does not know.
func (col *collection) absent(want vnet.Guest) verify.Guest {
	ref := vnet.GuestRef{Name: want.Name}
	out := verify.Guest{Ref: ref, State: "not defined", Down: want.Down}
	for _, nic := range want.NICs {
		out.NICs = append(out.NICs, col.missingNIC(ref, nic))
	}
	return out
}

func (col *collection) close() error {
	var errs []error
	for _, open := range col.switches {
		if open.driver != nil {
			errs = append(errs, open.driver.Close())
		}
	}
	return errors.Join(errs...)
}

// Learned implements [verify.Switches].
func (col *collection) Learned(ctx context.Context, sw string) ([]verify.Learned, error) {
	learner, err := driverAs[switchcfg.Learner](col, sw)
	if err != nil {
		return nil, err
	}
	rows, err := learner.Learned(ctx)
	out := make([]verify.Learned, len(rows))
	for i, row := range rows {
		out[i] = verify.Learned{MAC: row.MAC, VLAN: row.VLAN, Device: row.Device}
	}
	return out, err
}

// OpenVantage implements [verify.Switches].
func (col *collection) OpenVantage(ctx context.Context, sw string, vlan vnet.VLANID) (string, error) {
	vantager, err := driverAs[switchcfg.Vantager](col, sw)
	if err != nil {
		return "", err
	}
	return vantager.OpenVantage(ctx, vlan)
}

// OpenNetworkVantage implements [verify.Networks].
func (col *collection) OpenNetworkVantage(ctx context.Context, sw, network string) (string, error) {
	vantager, err := driverAs[switchcfg.NetworkVantager](col, sw)
	if err != nil {
		return "", err
	}
	return vantager.OpenNetworkVantage(ctx, network)
}

// Trace implements [verify.Tracer].
func (col *collection) Trace(ctx context.Context, sw string, p verify.Packet) (verify.Traced, error) {
	tracer, err := driverAs[switchcfg.Tracer](col, sw)
	if err != nil {
		return verify.Traced{}, err
	}
	found, err := tracer.Trace(ctx, switchcfg.Packet(p))
	return verify.Traced{Delivered: found.Delivered, Stage: found.Stage, ACL: (*verify.ACL)(found.ACL)}, err
}

// CloseVantage implements [verify.Switches].
func (col *collection) CloseVantage(ctx context.Context, sw, device string) error {
	vantager, err := driverAs[vantageCloser](col, sw)
	if err != nil {
		return err
	}
	return vantager.CloseVantage(ctx, device)
}

// vantageCloser is what drivers that lend vantages have in common.
type vantageCloser interface {
	CloseVantage(ctx context.Context, device string) error
}

// driverAs is the driver of a switch as something that not every driver is.
func driverAs[T any](col *collection, sw string) (T, error) {
	open := col.switches[sw]
	driver, ok := any(open.driver).(T)
	if !ok {
		return driver, fmt.Errorf("switch %s: %w", sw, errors.Join(switchcfg.ErrUnsupported, open.err))
	}
	return driver, nil
}
