// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"context"
	"fmt"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/guard"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
)

// guarded is what nftables is to have for a port.
type guarded struct{ guard.Port }

func (g guarded) equal(other guarded) bool {
	return g.Priority == other.Priority && g.Guard.Equal(other.Guard)
}

// guardOf is what the settings of a port ask of nftables.
func guardOf(l link, p switchcfg.Port) guarded {
	return guarded{guard.Port{
		Index: l.Index, Guard: given(p.Settings.Guard), Priority: given(p.Settings.QoS).Priority,
	}}
}

// guards opens nftables, which most guests never need.
func (d *Driver) guards() (*guard.Conn, error) {
	if d.guard == nil {
		conn, err := guard.Open()
		if err != nil {
			return nil, fmt.Errorf("switch %s: open nftables: %w", d.name, err)
		}
		d.guard = conn
	}
	return d.guard, nil
}

// setGuards brings the guards of several ports into force at once.
func (d *Driver) setGuards(ctx context.Context, ports []guard.Port) error {
	conn, err := d.guards()
	if err != nil {
		return err
	}
	if err := conn.Set(ctx, ports); err != nil {
		return fmt.Errorf("switch %s: guard %d ports: %w", d.name, len(ports), err)
	}
	return nil
}

// addElsewhere completes the ports whose marks say that there is more of them
// than the link tells.
func (d *Driver) addElsewhere(ctx context.Context, state switchcfg.State, links []link, scope switchcfg.Scope) error {
	var guardedPorts, shapedPorts []link
	for _, l := range links {
		m := parseMark(l.Alias)
		if m.guarded {
			guardedPorts = append(guardedPorts, l)
		}
		if m.shaped {
			shapedPorts = append(shapedPorts, l)
		}
	}
	if len(shapedPorts) > 0 {
		rates, err := d.shapes(ctx, shapedPorts)
		if err != nil {
			return fmt.Errorf("switch %s: look at rates: %w", d.name, rtnl.Translate(err))
		}
		for i, l := range shapedPorts {
			*state.Ports[l.Name].Settings.QoS = rates[i]
		}
	}
	if len(guardedPorts) == 0 {
		return nil
	}
	found, err := d.guardsOf(ctx, guardedPorts, scope)
	if err != nil {
		return fmt.Errorf("switch %s: look at guards: %w", d.name, err)
	}
	for _, l := range guardedPorts {
		s := state.Ports[l.Name].Settings
		*s.Guard, s.QoS.Priority = found[l.Index].Guard, found[l.Index].Priority
	}
	return nil
}

func (d *Driver) guardsOf(ctx context.Context, ports []link, scope switchcfg.Scope) (map[int]guard.Port, error) {
	conn, err := d.guards()
	if err != nil {
		return nil, err
	}
	var indices []int // nil is all
	if scope.Devices != nil {
		for _, l := range ports {
			indices = append(indices, l.Index)
		}
	}
	return conn.Ports(ctx, indices)
}

// Sweep implements [switchcfg.Sweeper]: guards are kept in nftables by the
// number of their port, which the kernel does not give to another, so what ports
// leave there does no harm but takes up room.
func (d *Driver) Sweep(ctx context.Context, gone []int) error {
	conn, err := d.guards()
	if err != nil {
		return err
	}
	if gone != nil {
		return d.forget(ctx, conn, gone)
	}
	alive := func(index int) bool {
		l, err := d.conn.LinkByIndex(ctx, index)
		return !rtnl.IsGone(err) && (err != nil || parseMark(l.Alias).guarded)
	}
	if err := conn.Sweep(ctx, alive); err != nil {
		return fmt.Errorf("switch %s: sweep guards: %w", d.name, err)
	}
	return nil
}

// forget removes the guards of ports that are gone.
func (d *Driver) forget(ctx context.Context, conn *guard.Conn, gone []int) error {
	found, err := conn.Ports(ctx, gone)
	if err == nil && len(found) > 0 {
		var none []guard.Port
		for index := range found {
			none = append(none, guard.Port{Index: index})
		}
		err = conn.Set(ctx, none)
	}
	if err != nil {
		return fmt.Errorf("switch %s: remove the guards of %d ports: %w", d.name, len(gone), err)
	}
	return nil
}
