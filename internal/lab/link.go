// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// AddOVSBridge makes an Open vSwitch bridge with the userspace datapath, up.
// Open vSwitch must run.
func (l *Lab) AddOVSBridge(ctx context.Context, name string) error {
	_, err := l.Vsctl(ctx, "add-br", name, "--", "set", "bridge", name, "datapath_type=netdev")
	if err != nil {
		return fmt.Errorf("lab: add OVS bridge %s: %w", name, err)
	}
	return l.at.do(func() error { return linkUp(name) })
}

// AddLinuxBridge makes a plain Linux bridge, up, without spanning tree.
func (l *Lab) AddLinuxBridge(_ context.Context, name string) error {
	return l.addLinuxBridge(&netlink.Bridge{LinkAttrs: attrs(name)})
}

// AddVLANBridge makes a Linux bridge whose ports have VLANs, up, without
// spanning tree. Like any that a user makes, it puts new ports into VLAN 1.
// Debian's kernel has such bridges, others may not.
func (l *Lab) AddVLANBridge(_ context.Context, name string) error {
	filtering := true
	return l.addLinuxBridge(&netlink.Bridge{LinkAttrs: attrs(name), VlanFiltering: &filtering})
}

func (l *Lab) addLinuxBridge(link *netlink.Bridge) error {
	return l.at.do(func() error {
		if err := netlink.LinkAdd(link); err != nil {
			return fmt.Errorf("lab: add Linux bridge %s: %w", link.Name, err)
		}
		return linkUp(link.Name)
	})
}

// AddVeth makes a pair of links, both up.
func (l *Lab) AddVeth(_ context.Context, name, peer string) error {
	pair := netlink.NewVeth(attrs(name))
	pair.PeerName = peer
	return l.at.do(func() error {
		if err := netlink.LinkAdd(pair); err != nil {
			return fmt.Errorf("lab: add veth %s: %w", name, err)
		}
		if err := linkUp(name); err != nil {
			return err
		}
		return linkUp(peer)
	})
}

// attach makes device a port of the bridge, of either kind, with the access
// VLAN; 0 leaves the port as the bridge makes it.
func attach(ctx context.Context, device, bridge string, vlan uint16) error {
	link, err := netlink.LinkByName(bridge)
	if err == nil && link.Type() == "bridge" {
		if err := attachLinux(device, link, vlan); err != nil {
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

func attachLinux(device string, bridge netlink.Link, vlan uint16) error {
	port, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(port, bridge); err != nil || vlan == 0 {
		return err
	}
	const pvid, untagged, self, master = true, true, false, true
	if err := netlink.BridgeVlanAdd(port, vlan, pvid, untagged, self, master); err != nil {
		return fmt.Errorf("add VLAN %d: %w", vlan, err)
	}
	// Where the kernel put the port, unless the bridge was told otherwise.
	if err := netlink.BridgeVlanDel(port, 1, pvid, untagged, self, master); err != nil && vlan != 1 {
		return fmt.Errorf("leave VLAN 1: %w", err)
	}
	return nil
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

func addAddress(link string, p netip.Prefix) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return fmt.Errorf("find link %s: %w", link, err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{
		IP:   p.Addr().AsSlice(),
		Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
	}, Flags: unix.IFA_F_NODAD}
	if err := netlink.AddrAdd(l, addr); err != nil {
		return fmt.Errorf("add address %s to %s: %w", p, link, err)
	}
	return nil
}
