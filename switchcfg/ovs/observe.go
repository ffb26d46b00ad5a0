// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"fmt"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Observe implements [switchcfg.Driver]. With a scope it asks OVSDB for the
// ports in it, in two round trips, or one when it has seen them before; without
// a scope it reads the whole table of ports in one.
//
// Existence and MTU of a device are the kernel's answers, not OVSDB's.
func (d *Driver) Observe(ctx context.Context, scope switchcfg.Scope) (switchcfg.State, error) {
	v, err := d.look(ctx, scope)
	if err != nil {
		return switchcfg.State{}, fmt.Errorf("switch %s: %w", d.name, err)
	}
	state := switchcfg.State{Switch: d.name, Ports: map[string]switchcfg.Port{}}
	for device, p := range v.ports {
		port, exists, err := d.port(ctx, device, p)
		if err != nil {
			return switchcfg.State{}, fmt.Errorf("switch %s: port %s: look it up: %w", d.name, device, err)
		}
		if exists {
			state.Ports[device] = port
		}
	}
	return state, nil
}

// view is what OVSDB says about some devices.
type view struct {
	bridge uuid
	ports  map[string]seen
	// outdated is set once the driver has changed something.
	outdated bool
}

// seen is one device. Without a row OVSDB does not know it.
type seen struct {
	port   *portRow
	bridge string // that has the port
}

// covers reports whether the view has all the devices as they may still be.
func (v view) covers(devices []string) bool {
	return !v.outdated && !slices.ContainsFunc(devices, func(device string) bool {
		_, ok := v.ports[device]
		return !ok
	})
}

// uuids returns the identities of the ports among the devices.
func (v view) uuids(devices []string) set[uuid] {
	var all set[uuid]
	for _, device := range devices {
		if p := v.ports[device].port; p != nil {
			all = append(all, p.UUID)
		}
	}
	return all
}

// look reads what OVSDB knows of the devices. It keeps it: for Apply, whose
// transaction is guarded, and to save the second round trip next time.
func (d *Driver) look(ctx context.Context, scope switchcfg.Scope) (view, error) {
	if scope.Devices == nil {
		return d.lookAll(ctx)
	}
	expected := d.last.uuids(scope.Devices)
	ops := []operation{d.readBridge(), d.readHolder(expected)}
	for _, device := range scope.Devices {
		ops = append(ops, readPorts(where("name", device)))
	}
	results, err := d.transact(ctx, ops...)
	if err != nil {
		return view{}, fmt.Errorf("read ports: %w", err)
	}
	v, err := d.newView(results, scope.Devices)
	if err != nil {
		return view{}, err
	}
	all := v.uuids(scope.Devices)
	if held, err := rowsOf[bridgeRow](results, 1); err != nil || len(held) == 0 || !slices.Equal(all, expected) {
		if err := d.complete(ctx, v, scope.Devices); err != nil {
			return view{}, err
		}
	}
	d.last = v
	return v, nil
}

// readHolder asks for this bridge if it has all of the ports.
func (d *Driver) readHolder(ports set[uuid]) operation {
	return read("Bridge", []condition{{"name", "==", d.name}, {"ports", "includes", ports}}, "name")
}

// newView reads the answers to look, taking every port for one of this bridge.
func (d *Driver) newView(results []*result, devices []string) (view, error) {
	bridge, err := d.bridge(results)
	if err != nil {
		return view{}, err
	}
	v := view{bridge: bridge.UUID, ports: make(map[string]seen, len(devices))}
	for i, device := range devices {
		ports, err := rowsOf[portRow](results, 2+i)
		if err != nil {
			return view{}, fmt.Errorf("read port %s: %w", device, err)
		}
		v.ports[device] = seen{}
		if len(ports) > 0 {
			v.ports[device] = seen{&ports[0], d.name}
		}
	}
	return v, nil
}

// complete finds the bridges of the ports: one question when all are of this
// bridge, as they nearly always are, and one for each port when not.
func (d *Driver) complete(ctx context.Context, v view, devices []string) error {
	all := v.uuids(devices)
	if len(all) == 0 {
		return nil
	}
	results, err := d.transact(ctx, d.readHolder(all))
	if err != nil {
		return fmt.Errorf("read the bridge's ports: %w", err)
	}
	if held, err := rowsOf[bridgeRow](results, 0); err != nil || len(held) > 0 {
		return err
	}
	ops := make([]operation, len(all))
	for i, id := range all {
		ops[i] = read("Bridge", []condition{{"ports", "includes", id}}, "name")
	}
	if results, err = d.transact(ctx, ops...); err != nil {
		return fmt.Errorf("read the bridges: %w", err)
	}
	next := 0
	for _, device := range devices {
		s := v.ports[device]
		if s.port == nil {
			continue
		}
		bridges, err := rowsOf[bridgeRow](results, next)
		if err != nil {
			return fmt.Errorf("read the bridge of %s: %w", device, err)
		}
		next++
		if len(bridges) == 0 {
			v.ports[device] = seen{} // deleted meanwhile
			continue
		}
		s.bridge = bridges[0].Name
		v.ports[device] = s
	}
	return nil
}

// lookAll looks at every port of the bridge but the one that every bridge has
// of its own name, which is the host's.
func (d *Driver) lookAll(ctx context.Context) (view, error) {
	results, err := d.transact(ctx, d.readBridge("ports"), readPorts([]condition{}))
	if err != nil {
		return view{}, fmt.Errorf("read ports: %w", err)
	}
	bridge, err := d.bridge(results)
	if err != nil {
		return view{}, err
	}
	ports, err := rowsOf[portRow](results, 1)
	if err != nil {
		return view{}, fmt.Errorf("read ports: %w", err)
	}
	ours := bridge.has()
	v := view{bridge: bridge.UUID, ports: make(map[string]seen, len(ours))}
	for i, p := range ports {
		if ours[p.UUID] && p.Name != d.name {
			v.ports[p.Name] = seen{&ports[i], d.name}
		}
	}
	return v, nil
}

// port puts together what OVSDB and the kernel say. It reports whether there is
// such a device.
func (d *Driver) port(ctx context.Context, device string, s seen) (port switchcfg.Port, exists bool, err error) {
	port = switchcfg.Port{Device: device, Switch: s.bridge}
	if s.port != nil {
		port.Owner = owner(s.port.ExternalIDs)
		port.Settings.VLAN = decode(s.port.vlanColumns)
		port.Settings.Isolated = vnet.ToggleOf(s.port.Protected)
	}
	link, err := d.links.LinkByName(ctx, device)
	switch {
	case rtnl.IsGone(err) && s.port != nil:
		port.Settings.MTU, exists, err = d.virtual(ctx, device, s.port.Interfaces.first())
		return port, exists, err
	case rtnl.IsGone(err):
		return port, false, nil
	case err != nil:
		return port, false, rtnl.Translate(err)
	}
	port.Settings.MTU = link.MTU
	if s.port == nil && link.Master != 0 {
		master, err := d.links.LinkByIndex(ctx, link.Master)
		if err != nil {
			return port, false, rtnl.Translate(err)
		}
		port.Switch = master.Name
	}
	return port, true, nil
}

// virtual asks about a port that the kernel has no device of. It is there all
// the same if it is a bond, or of a type that is not the kernel's, such as a
// vhost-user socket.
func (d *Driver) virtual(ctx context.Context, device string, id uuid) (mtu int, exists bool, err error) {
	results, err := d.transact(ctx, readInterfaces(where("_uuid", id)))
	if err != nil {
		return 0, false, err
	}
	rows, err := rowsOf[interfaceRow](results, 0)
	if err != nil || len(rows) == 0 {
		return 0, false, err
	}
	return rows[0].MTU.first(), rows[0].virtual() || rows[0].Name != device, nil
}
