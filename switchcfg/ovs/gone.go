// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"fmt"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
)

// Gone implements [switchcfg.Keeper]: OVSDB keeps the row of a port until
// somebody deletes it, and when libvirt is killed before it could, nobody does.
func (d *Driver) Gone(ctx context.Context) (switchcfg.State, error) {
	gone := switchcfg.State{Switch: d.name, Ports: map[string]switchcfg.Port{}}
	v, err := d.lookAll(ctx)
	if err != nil {
		return gone, fmt.Errorf("switch %s: %w", d.name, err)
	}
	var devices []string
	for device, s := range v.ports {
		if !s.port.ExternalIDs.Owner().IsZero() {
			devices = append(devices, device)
		}
	}
	links, err := d.links.LinksByName(ctx, devices...)
	if err != nil {
		return gone, fmt.Errorf("switch %s: look devices up: %w", d.name, rtnl.Translate(err))
	}
	for i, device := range devices {
		if links[i].Exists() {
			continue
		}
		s := v.ports[device]
		_, exists, err := d.virtual(ctx, device, s.port.Interfaces.First())
		if err != nil {
			return gone, fmt.Errorf("switch %s: port %s: %w", d.name, device, err)
		}
		if !exists {
			gone.Ports[device] = s.known(device)
		}
	}
	return gone, nil
}
