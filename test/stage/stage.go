// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package stage builds in a lab what a spec takes for granted: the switches, a
// router for every network with a gateway, the guests, and our programs. The
// demo, the examples and the whole-system tests stand on it.
//
// Out of scope: anything virt-vnet does itself.
package stage

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Build makes the switches and devices that the topology names, a station called
// "far-UPLINK" at the end of every uplink of a Linux bridge, and one called
// "gw-NETWORK" at the gateway of every network that has one.
func Build(ctx context.Context, l *lab.Lab, t vnet.Topology) error {
	for _, sw := range t.Switches {
		var err error
		switch sw.Driver {
		case vnet.DriverOVS:
			err = l.AddOVSBridge(ctx, sw.Name)
		case vnet.DriverLinux:
			err = addLinuxBridge(ctx, l, t, sw)
		case vnet.DriverOVN:
			err = fmt.Errorf("switch %s: OVN takes a cluster of hosts, and not a stage", sw.Name)
		}
		if err != nil {
			return err
		}
	}
	for _, n := range t.Networks {
		if err := gateway(ctx, l, n); err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
	}
	return nil
}

// addLinuxBridge makes a bridge, which filters VLANs where the topology needs one
// and does not make it so itself, and a station at the end of its uplink.
func addLinuxBridge(ctx context.Context, l *lab.Lab, t vnet.Topology, sw vnet.Switch) error {
	add := l.AddLinuxBridge
	tagged := func(p vnet.Policy) bool { return !p.VLAN.IsZero() }
	for _, n := range t.Networks {
		if n.Switch == sw.Name && !sw.Bridge.Owned && slices.ContainsFunc(n.Policies(), tagged) {
			add = l.AddVLANBridge
		}
	}
	if err := add(ctx, sw.Name); err != nil || sw.Uplink == "" {
		return err
	}
	return l.AddStation(ctx, &lab.Station{Name: "far-" + sw.Uplink, Bridge: sw.Name, Device: sw.Uplink})
}

func gateway(ctx context.Context, l *lab.Lab, n vnet.Network) error {
	if n.Mode != vnet.ModeBridge && n.Mode != vnet.ModeMacvtap {
		return nil // libvirt makes it
	}
	s := &lab.Station{Name: "gw-" + n.Name, Bridge: n.Switch, Device: n.Device, VLAN: uint16(n.Policy.VLAN.PVID())}
	if n.Gateway.IsValid() {
		s.Addresses = []netip.Prefix{netip.PrefixFrom(n.Gateway, n.Subnet.Bits())}
	}
	if len(s.Addresses) == 0 && n.Device == "" {
		return nil
	}
	return l.AddStation(ctx, s)
}

// Programs builds virt-vnet and virt-vnet-hook into the directory dir, as make
// build does. The working directory must be inside the module.
func Programs(ctx context.Context, dir string) error {
	for program, cgo := range map[string]string{"virt-vnet": "1", "virt-vnet-hook": "0"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-tags", "libvirt_dlopen",
			"-o", filepath.Join(dir, program), "github.com/virt-vnet/virt-vnet/cmd/"+program)
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", program, err, out)
		}
	}
	return nil
}

// Guests returns the guests of the topology for the lab to boot, without those
// that are expected to be down.
func Guests(t vnet.Topology) []*lab.Guest {
	var guests []*lab.Guest
	for _, g := range t.Guests {
		if g.Down {
			continue
		}
		guest := &lab.Guest{Name: g.Name}
		for _, nic := range g.NICs {
			n, _ := t.Network(nic.Network)
			card := lab.NIC{Network: nic.Network, Portgroup: nic.Portgroup, Model: nic.Model.String()}
			if !nic.MAC.IsZero() {
				card.MAC = net.HardwareAddr(nic.MAC[:])
			}
			if nic.Address.IsValid() {
				card.Addresses = []netip.Prefix{netip.PrefixFrom(nic.Address, n.Subnet.Bits())}
			}
			guest.NICs = append(guest.NICs, card)
		}
		guests = append(guests, guest)
	}
	return guests
}
