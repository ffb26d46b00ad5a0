// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchtest

import (
	"context"
	"fmt"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// vantageMark is the foreign mark of a vantage.
const vantageMark = "virt-vnet vantage"

// driver is the driver of one switch of a [Host].
type driver struct {
	host *Host
	sw   *Switch
	as   vnet.Switch // what it was opened as: with the spec's wishes
}

var (
	_ switchcfg.Driver   = (*driver)(nil)
	_ switchcfg.Learner  = (*driver)(nil)
	_ switchcfg.Vantager = (*driver)(nil)
	_ switchcfg.Sweeper  = (*driver)(nil)
)

func (d *driver) Capabilities() switchcfg.Capabilities {
	return switchcfg.Capabilities{Switch: d.sw.Name, Missing: d.sw.Missing}
}

func (d *driver) Observe(ctx context.Context, scope switchcfg.Scope) (switchcfg.State, error) {
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return switchcfg.State{}, err
	}
	state := switchcfg.State{Switch: d.sw.Name, Ports: map[string]switchcfg.Port{}}
	if _, missing := d.sw.Missing[switchcfg.FeatureVLAN]; !missing {
		state.Untagged = d.sw.Untagged
	}
	for device, port := range d.host.devices {
		wanted := slices.Contains(scope.Devices, device)
		if wanted || (scope.Devices == nil && port.Switch == d.sw.Name) {
			state.Ports[device] = port
		}
	}
	if uplink, ok := d.host.devices[d.as.Uplink]; ok && uplink.Switch == d.sw.Name {
		state.Uplink.Device, state.Ports[d.as.Uplink] = d.as.Uplink, uplink
	}
	if slices.Contains(scope.Devices, d.sw.Name) || scope.Devices == nil && d.as.Bridge.Owned {
		state.Ports[d.sw.Name] = d.own()
	}
	return state, nil
}

// own is the switch's own port.
func (d *driver) own() switchcfg.Port {
	own := d.sw.Own
	return switchcfg.Port{Device: d.sw.Name, Switch: d.sw.Name, Settings: switchcfg.Settings{Bridge: &own}}
}

// Sweep implements [switchcfg.Sweeper].
func (d *driver) Sweep(ctx context.Context, _ []int) error {
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	d.sw.Swept++
	return ctx.Err()
}

func (d *driver) Apply(ctx context.Context, plan switchcfg.Plan) ([]switchcfg.Change, error) {
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	var applied []switchcfg.Change
	for _, c := range plan.Changes {
		if err := d.change(ctx, c); err != nil {
			return applied, fmt.Errorf("switch %s: %w", d.sw.Name, &switchcfg.PortError{Device: c.Device, Err: err})
		}
		applied = append(applied, c)
	}
	return applied, nil
}

func (d *driver) change(ctx context.Context, c switchcfg.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.host.fault(); err != nil {
		return err
	}
	if c.Device == d.sw.Name {
		d.sw.Own = *c.After.Settings.Bridge
		return nil
	}
	found, ok := d.host.devices[c.Device]
	if !ok {
		return switchcfg.ErrNoPort
	}
	if err := c.Admit(found); err != nil {
		return err
	}
	want := switchcfg.State{Ports: map[string]switchcfg.Port{c.Device: c.After}}
	if err := d.Capabilities().Check(ctx, want); err != nil {
		return err
	}
	after := found
	if found.Switch != c.After.Switch {
		after = d.host.plugged(found, c.After.Switch)
	}
	after.Owner = c.After.Owner
	overlay(&after.Settings, c.After.Settings)
	d.host.devices[c.Device] = after
	return nil
}

// fault counts a change, and returns the injected error when it is its turn.
func (h *Host) fault() error {
	if h.failAt == 0 {
		return nil
	}
	h.failAt--
	if h.failAt > 0 {
		return nil
	}
	return h.failWith
}

// overlay sets what want does not leave alone.
func overlay(have *switchcfg.Settings, want switchcfg.Settings) {
	if want.VLAN != nil {
		have.VLAN = want.VLAN
	}
	if want.MTU != 0 {
		have.MTU = want.MTU
	}
	if want.Guard != nil {
		have.Guard = want.Guard
	}
	if want.QoS != nil {
		have.QoS = want.QoS
	}
	for f := range switchcfg.AllFlags() {
		if want.Flags[f] != vnet.ToggleLeave {
			have.Flags[f] = want.Flags[f]
		}
	}
}

func (d *driver) Close() error { return nil }

func (d *driver) Learned(ctx context.Context) ([]switchcfg.Learned, error) {
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	return slices.Clone(d.host.learned[d.sw.Name]), ctx.Err()
}

func (d *driver) OpenVantage(ctx context.Context, vlan vnet.VLANID) (string, error) {
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	reason, missing := d.sw.Missing[switchcfg.FeatureVLAN]
	if missing && vlan != 0 {
		return "", fmt.Errorf("%w: %s: %s", switchcfg.ErrUnsupported, d.sw.Name, reason)
	}
	d.host.vantages++
	device := fmt.Sprintf("vantage%d", d.host.vantages)
	port := d.host.plugged(switchcfg.Port{Device: device, Settings: switchcfg.Settings{MTU: defaultMTU}}, d.sw.Name)
	port.Foreign = vantageMark
	if vlan != 0 {
		port.Settings.VLAN = &vnet.VLANSet{Access: vlan}
	}
	d.host.devices[device] = port
	return device, nil
}

func (d *driver) CloseVantage(ctx context.Context, device string) error {
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	port, ok := d.host.devices[device]
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !ok:
		return nil
	case port.Foreign != vantageMark:
		return fmt.Errorf("switch %s: close vantage %s: %w", d.sw.Name, device, switchcfg.ErrNotOwned)
	}
	delete(d.host.devices, device)
	return nil
}
