// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package drivers

import (
	"context"
	"errors"
	"fmt"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux"
	"github.com/virt-vnet/virt-vnet/switchcfg/ovn"
	"github.com/virt-vnet/virt-vnet/switchcfg/ovs"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Open opens the driver of sw. The caller closes it.
func Open(ctx context.Context, sw vnet.Switch) (switchcfg.Driver, error) { return OpenWith(ctx, sw) }

// OpenWith is Open with options for a Linux bridge.
func OpenWith(ctx context.Context, sw vnet.Switch, options ...linux.Option) (switchcfg.Driver, error) {
	switch sw.Driver {
	case vnet.DriverLinux:
		return opened(linux.Open(ctx, sw, options...))
	case vnet.DriverOVS:
		return opened(ovs.Open(ctx, sw))
	case vnet.DriverOVN:
		return opened(ovn.Open(ctx, sw))
	}
	return nil, fmt.Errorf("switch %s: no driver %s: want one of %v", sw.Name, sw.Driver, vnet.Drivers())
}

// OpenNetworker opens what makes the networks of sw. It reports false for a
// switch on which a network is no more than its ports. The caller closes it.
func OpenNetworker(ctx context.Context, sw vnet.Switch) (n switchcfg.Networker, ok bool, err error) {
	if sw.Driver != vnet.DriverOVN {
		return nil, false, nil
	}
	networks, err := ovn.OpenNetworks(ctx, sw)
	if err != nil {
		return nil, true, err
	}
	return networks, true, nil
}

// opened keeps a nil driver from becoming an interface that is not nil.
func opened[D switchcfg.Driver](d D, err error) (switchcfg.Driver, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Detect finds out which driver's switch of that name the host has. A bridge of
// Open vSwitch that is OVN's integration bridge is OVN's. The error
// is [switchcfg.ErrNoSwitch] when it has none, and says where it was looked
// for; any other error means that it could not be told.
func Detect(ctx context.Context, name string) (vnet.Driver, error) {
	var looked []error
	for _, driver := range []vnet.Driver{vnet.DriverLinux, vnet.DriverOVS} {
		d, err := Open(ctx, vnet.Switch{Name: name, Driver: driver})
		if err == nil && driver == vnet.DriverOVS {
			is, err := ovn.Manages(ctx, name)
			if err != nil {
				return 0, errors.Join(err, d.Close())
			}
			if is {
				driver = vnet.DriverOVN
			}
		}
		if err == nil {
			return driver, d.Close()
		}
		looked = append(looked, err)
	}
	bridge, vswitch := looked[0], looked[1]
	switch {
	case !errors.Is(bridge, switchcfg.ErrNoSwitch):
		return 0, bridge
	case errors.Is(vswitch, switchcfg.ErrNoSwitch):
		return 0, fmt.Errorf("switch %s: %w: the host has neither a Linux bridge nor an Open vSwitch bridge of that name",
			name, switchcfg.ErrNoSwitch)
	case errors.Is(vswitch, switchcfg.ErrUnreachable) && ctx.Err() == nil:
		return 0, fmt.Errorf("switch %s: %w: the host has no Linux bridge of that name, and Open vSwitch does not run",
			name, switchcfg.ErrNoSwitch)
	}
	return 0, vswitch
}
