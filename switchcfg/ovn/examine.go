// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
)

// Examine implements [switchcfg.Examiner]: the networks of the ports are there,
// ovn-controller runs and reaches the southbound database, and its tunnels end
// at an address of this host.
func (d *Driver) Examine(ctx context.Context, want switchcfg.State) error {
	if err := d.controller(ctx); err != nil {
		return fmt.Errorf("switch %s: %w", d.name, err)
	}
	if err := d.encapsulates(); err != nil {
		return fmt.Errorf("switch %s: %w", d.name, err)
	}
	var networks []string
	for _, port := range want.Ports {
		if l := port.Settings.Logical; l != nil {
			networks = append(networks, l.Network)
		}
	}
	v := view{networks: map[string]*network{}, rules: map[string]ovsdb.UUID{}}
	networks = unique(networks)
	if err := d.lookAround(ctx, v, networks); err != nil {
		return fmt.Errorf("switch %s: %w", d.name, err)
	}
	for _, name := range networks {
		if v.networks[name].uuid == "" {
			return fmt.Errorf("switch %s: %w", d.name, noNetwork(name))
		}
	}
	return nil
}

// encapsulates reports when the tunnels would have no end on this host.
func (d *Driver) encapsulates() error {
	if d.encap == "" {
		return fmt.Errorf("%w: chassis %s has no address for its tunnels: "+
			"ovs-vsctl set Open_vSwitch . external_ids:ovn-encap-type=geneve external_ids:ovn-encap-ip=ADDRESS",
			switchcfg.ErrUnreachable, d.chassis)
	}
	have, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("read the host's addresses: %w", err)
	}
	for word := range strings.SplitSeq(d.encap, ",") {
		want, err := netip.ParseAddr(strings.TrimSpace(word))
		ours := func(a net.Addr) bool {
			prefix, err := netip.ParsePrefix(a.String())
			return err == nil && prefix.Addr() == want
		}
		if err != nil || !slices.ContainsFunc(have, ours) {
			return fmt.Errorf("%w: external_ids:ovn-encap-ip of Open_vSwitch is %s, which is no address of this host: "+
				"no tunnel would end here", switchcfg.ErrUnreachable, word)
		}
	}
	return nil
}
