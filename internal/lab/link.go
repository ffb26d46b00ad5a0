// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
)

// AddOVSBridge makes an Open vSwitch bridge with the userspace datapath, up.
// Open vSwitch must run.
func (l *Lab) AddOVSBridge(ctx context.Context, name string) error {
	_, err := vsctl(ctx, "add-br", name, "--", "set", "bridge", name, "datapath_type=netdev")
	if err != nil {
		return fmt.Errorf("lab: add OVS bridge %s: %w", name, err)
	}
	return linkUp(name)
}

// AddLinuxBridge makes a plain Linux bridge, up, without spanning tree.
func (l *Lab) AddLinuxBridge(_ context.Context, name string) error {
	link := &netlink.Bridge{LinkAttrs: attrs(name)}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("lab: add Linux bridge %s: %w", name, err)
	}
	return linkUp(name)
}

// AddVeth makes a pair of links, both up.
func (l *Lab) AddVeth(_ context.Context, name, peer string) error {
	pair := netlink.NewVeth(attrs(name))
	pair.PeerName = peer
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("lab: add veth %s: %w", name, err)
	}
	if err := linkUp(name); err != nil {
		return err
	}
	return linkUp(peer)
}

// attach makes device a port of the bridge, of either kind. The VLAN is for
// Open vSwitch; 0 means none.
func attach(ctx context.Context, device, bridge string, vlan uint16) error {
	link, err := netlink.LinkByName(bridge)
	if err == nil && link.Type() == "bridge" {
		if vlan != 0 {
			return fmt.Errorf("attach %s: %s is a Linux bridge: no VLAN there", device, bridge)
		}
		port, err := netlink.LinkByName(device)
		if err != nil {
			return fmt.Errorf("attach %s: %w", device, err)
		}
		if err := netlink.LinkSetMaster(port, link); err != nil {
			return fmt.Errorf("attach %s to %s: %w", device, bridge, err)
		}
		return nil
	}
	args := []string{"add-port", bridge, device}
	if vlan != 0 {
		args = append(args, fmt.Sprintf("tag=%d", vlan))
	}
	_, err = vsctl(ctx, args...)
	return err
}

func linkUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("lab: find link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("lab: set %s up: %w", name, err)
	}
	return nil
}

func attrs(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}
