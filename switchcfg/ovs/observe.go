// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Observe implements [switchcfg.Driver]. With a scope it asks OVSDB for the
// ports in it, without one for the whole table of ports: in one round trip, or in
// two when some of them are on other bridges.
//
// Existence and MTU of a device are the kernel's answers, not OVSDB's.
func (d *Driver) Observe(ctx context.Context, scope switchcfg.Scope) (switchcfg.State, error) {
	v, err := d.look(ctx, scope)
	if err != nil {
		return switchcfg.State{}, fmt.Errorf("switch %s: %w", d.name, err)
	}
	devices := slices.Collect(maps.Keys(v.ports))
	ports, err := d.ports(ctx, v, devices)
	if err != nil {
		return switchcfg.State{}, fmt.Errorf("switch %s: look devices up: %w", d.name, err)
	}
	if err := d.addGuards(ctx, v, ports); err != nil {
		return switchcfg.State{}, fmt.Errorf("switch %s: %w", d.name, err)
	}
	if err := d.addOwn(ctx, scope, ports); err != nil {
		return switchcfg.State{}, fmt.Errorf("switch %s: %w", d.name, err)
	}
	return switchcfg.State{Switch: d.name, Ports: ports}, nil
}

// view is what OVSDB says about some devices.
type view struct {
	bridge ovsdb.UUID
	ports  map[string]seen
	// outdated is set once the driver has changed something.
	outdated bool
}

// seen is one device. Without a row OVSDB does not know it.
type seen struct {
	port   *record
	bridge string // that has the port
	number int    // that ovs-vswitchd knows it by, or zero
}

// covers reports whether the view has all the devices as they may still be.
func (v view) covers(devices []string) bool {
	return !v.outdated && !slices.ContainsFunc(devices, func(device string) bool {
		_, ok := v.ports[device]
		return !ok
	})
}

// wide is from how many devices on OVSDB, which looks for a name by going through
// all rows, has less to do when it sends them all.
const wide = 64

// look reads what OVSDB knows of the devices. It keeps it for Apply, whose
// transaction is guarded.
func (d *Driver) look(ctx context.Context, scope switchcfg.Scope) (view, error) {
	switch {
	case scope.Devices == nil:
		return d.lookAll(ctx)
	case len(scope.Devices) > wide:
		return d.lookWide(ctx, scope.Devices)
	}
	ops := make([]ovsdb.Operation, 0, 1+2*len(scope.Devices))
	ops = append(ops, d.readBridge("ports"))
	for _, device := range scope.Devices {
		ops = append(ops, readPorts(ovsdb.Where("name", device)), readNumbers(ovsdb.Where("name", device)))
	}
	results, err := d.transact(ctx, ops...)
	if err != nil {
		return view{}, fmt.Errorf("read ports: %w", err)
	}
	v, foreign, err := d.newView(results, scope.Devices)
	if err == nil {
		err = d.complete(ctx, v, foreign)
	}
	return v, err
}

// complete finds out about the ports of foreign, which are on other bridges, and
// keeps the view.
func (d *Driver) complete(ctx context.Context, v view, foreign []string) error {
	if len(foreign) > 0 {
		if err := d.lookElsewhere(ctx, v, foreign); err != nil {
			return err
		}
	}
	d.last = v
	return nil
}

// lookWide is look for many devices.
func (d *Driver) lookWide(ctx context.Context, devices []string) (view, error) {
	all, elsewhere, err := d.readAll(ctx)
	if err != nil {
		return view{}, err
	}
	v := view{bridge: all.bridge, ports: make(map[string]seen, len(devices))}
	var foreign []string
	for _, device := range devices {
		v.ports[device] = all.ports[device]
		if s, there := elsewhere[device]; there {
			v.ports[device], foreign = s, append(foreign, device)
		}
	}
	return v, d.complete(ctx, v, foreign)
}

// newView reads the answers to look. The ports of foreign are on other bridges.
func (d *Driver) newView(results ovsdb.Results, devices []string) (v view, foreign []string, err error) {
	bridge, err := d.bridge(results)
	if err != nil {
		return view{}, nil, err
	}
	ours := bridge.has()
	v = view{bridge: bridge.UUID, ports: make(map[string]seen, len(devices))}
	for i, device := range devices {
		ports, err := ovsdb.Rows[record](results, 1+2*i)
		if err != nil {
			return view{}, nil, fmt.Errorf("read port %s: %w", device, err)
		}
		interfaces, err := ovsdb.Rows[record](results, 2+2*i)
		if err != nil {
			return view{}, nil, fmt.Errorf("read interface %s: %w", device, err)
		}
		v.ports[device] = seen{}
		if len(ports) == 0 {
			continue
		}
		s := seen{port: &ports[0], bridge: d.name}
		if len(interfaces) > 0 {
			s.number = interfaces[0].number()
		}
		v.ports[device] = s
		if !ours[ports[0].UUID] {
			foreign = append(foreign, device)
		}
	}
	return v, foreign, nil
}

// lookElsewhere finds the bridges of the ports that are not on this one.
func (d *Driver) lookElsewhere(ctx context.Context, v view, devices []string) error {
	ops := make([]ovsdb.Operation, len(devices))
	for i, device := range devices {
		ops[i] = ovsdb.Select("Bridge", []ovsdb.Condition{{"ports", "includes", v.ports[device].port.UUID}}, "name")
	}
	results, err := d.transact(ctx, ops...)
	if err != nil {
		return fmt.Errorf("read the bridges: %w", err)
	}
	for i, device := range devices {
		bridges, err := ovsdb.Rows[record](results, i)
		if err != nil {
			return fmt.Errorf("read the bridge of %s: %w", device, err)
		}
		if len(bridges) == 0 {
			v.ports[device] = seen{} // deleted meanwhile
			continue
		}
		s := v.ports[device]
		s.bridge = bridges[0].Name
		v.ports[device] = s
	}
	return nil
}

// lookAll looks at every port of the bridge but the one that every bridge has
// of its own name, which is the host's.
func (d *Driver) lookAll(ctx context.Context) (view, error) {
	v, _, err := d.readAll(ctx)
	delete(v.ports, d.name)
	return v, err
}

// readAll reads all ports. Those of other bridges are apart, without the names of
// these.
func (d *Driver) readAll(ctx context.Context) (v view, elsewhere map[string]seen, err error) {
	results, err := d.transact(ctx, d.readBridge("ports"), readPorts([]ovsdb.Condition{}), readNumbers([]ovsdb.Condition{}))
	if err != nil {
		return view{}, nil, fmt.Errorf("read ports: %w", err)
	}
	bridge, err := d.bridge(results)
	if err != nil {
		return view{}, nil, err
	}
	ports, err := ovsdb.Rows[record](results, 1)
	if err != nil {
		return view{}, nil, fmt.Errorf("read ports: %w", err)
	}
	interfaces, err := ovsdb.Rows[record](results, 2)
	if err != nil {
		return view{}, nil, fmt.Errorf("read interfaces: %w", err)
	}
	numbers := make(map[string]int, len(interfaces))
	for _, i := range interfaces {
		numbers[i.Name] = i.number()
	}
	ours := bridge.has()
	v, elsewhere = view{bridge: bridge.UUID, ports: make(map[string]seen, len(ours))}, map[string]seen{}
	for i, p := range ports {
		if ours[p.UUID] {
			v.ports[p.Name] = seen{&ports[i], d.name, numbers[p.Name]}
		} else {
			elsewhere[p.Name] = seen{port: &ports[i], number: numbers[p.Name]}
		}
	}
	return v, elsewhere, nil
}

// ports puts together what OVSDB and the kernel say of the devices that exist.
func (d *Driver) ports(ctx context.Context, v view, devices []string) (map[string]switchcfg.Port, error) {
	links, err := d.links.LinksByName(ctx, devices...)
	if err != nil {
		return nil, rtnl.Translate(err)
	}
	all := make(map[string]switchcfg.Port, len(devices))
	disciplines := make(map[string]string, len(devices))
	for i, device := range devices {
		disciplines[device] = links[i].Qdisc
		s := v.ports[device]
		port, exists := s.known(device), true
		switch {
		case links[i].Exists():
			port.Settings.MTU, port.Carrier = links[i].MTU, links[i].Carrier
			if s.port == nil {
				port.Switch, err = d.master(ctx, links[i])
			}
		case s.port == nil:
			exists = false
		default:
			port.Settings.MTU, exists, err = d.virtual(ctx, device, s.port.Interfaces.First())
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", device, err)
		}
		if exists {
			all[device] = port
		}
	}
	return all, d.addInbound(ctx, v, all, disciplines)
}

// master names the switch of the kernel's that the device is on, if any.
func (d *Driver) master(ctx context.Context, link rtnl.Link) (string, error) {
	if link.Master == 0 {
		return "", nil
	}
	master, err := d.links.LinkByIndex(ctx, link.Master)
	if err != nil {
		return "", rtnl.Translate(err)
	}
	return master.Name, nil
}

// known is what OVSDB says of the device.
func (s seen) known(device string) switchcfg.Port {
	port := switchcfg.Port{Device: device, Index: s.number, Switch: s.bridge}
	port.Settings.Guard, port.Settings.QoS = &switchcfg.Guard{}, &vnet.QoS{}
	if s.port != nil {
		port.Owner = s.port.ExternalIDs.Owner()
		port.Settings.VLAN = decode(s.port.vlanColumns)
		port.Settings.Flags[switchcfg.FlagIsolated] = vnet.ToggleOf(s.port.Protected)
	}
	return port
}

// virtual asks about a port that the kernel has no device of. It is there all
// the same if it is a bond, or of a type that is not the kernel's, such as a
// vhost-user socket.
func (d *Driver) virtual(ctx context.Context, device string, id ovsdb.UUID) (mtu int, exists bool, err error) {
	results, err := d.transact(ctx, readInterfaces(ovsdb.Where("_uuid", id)))
	if err != nil {
		return 0, false, err
	}
	rows, err := ovsdb.Rows[record](results, 0)
	if err != nil || len(rows) == 0 {
		return 0, false, err
	}
	return rows[0].MTU.First(), rows[0].virtual() || rows[0].Name != device, nil
}
