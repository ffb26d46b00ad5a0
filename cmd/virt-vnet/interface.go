// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func defineInterfaceCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "interface",
		Usage:     "add an interface to a guest: to its config and, when it runs, live",
		ArgsUsage: "GUEST",
		Description: "  virt-vnet define interface web1 --network red\n" +
			"  virt-vnet define interface web1 --network red --portgroup dmz --queues 4 --config",
		Flags: append(targetFlags(),
			&cli.StringFlag{Name: "network", Usage: "`NETWORK` to plug into"},
			&cli.StringFlag{Name: "portgroup", Usage: "portgroup of the network"},
			&cli.StringFlag{Name: "mac", Usage: "`MAC` address; default is a new one"},
			&cli.StringFlag{Name: "model", Value: vnet.ModelVirtio.String(), Usage: "the NIC the guest sees: " + strings.Join(vnet.Models(), ", ")},
			&cli.IntFlag{Name: "queues", Usage: "queue pairs of a virtio NIC"},
			&cli.IntFlag{Name: "rx-ring", Usage: "receive ring of a virtio NIC in descriptors"},
			&cli.IntFlag{Name: "tx-ring", Usage: "transmit ring of a virtio NIC in descriptors"},
			printXMLFlag()),
		Action: func(c *cli.Context) error {
			guest, err := oneArg(c, "GUEST")
			if err != nil {
				return err
			}
			if c.String("network") == "" {
				return usagef("define interface needs --network, the network to plug into")
			}
			return defineInterface(c, std, guest)
		},
	}
}

func targetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "live", Usage: "only the running guest"},
		&cli.BoolFlag{Name: "config", Usage: "only the guest's next start"},
	}
}

// targetOf is what --live and --config ask for. With neither: the config and,
// when the guest runs, live as well.
func (s *site) targetOf(c *cli.Context, guest string) (virtapi.Target, error) {
	target := virtapi.Target{Live: c.Bool("live"), Config: c.Bool("config")}
	if target.Live || target.Config {
		return target, nil
	}
	g, err := s.guest(c.Context, guest)
	return virtapi.Target{Live: g.Active, Config: true}, err
}

func targetText(target virtapi.Target) string {
	switch {
	case target.Live && target.Config:
		return "live and config"
	case target.Live:
		return "live"
	}
	return "config"
}

func defineInterface(c *cli.Context, std stdio, guest string) error {
	nic, err := nicFromFlags(c)
	if err != nil {
		return usage(err)
	}
	spec, err := loadSpec(c)
	if err != nil {
		return err
	}
	t := spec.Topology
	n, known := t.Network(nic.Network)
	if !known {
		// A libvirt network that the spec does not know can be plugged into
		// all the same.
		n = vnet.Network{Name: nic.Network}
	}
	if sw, _ := t.Switch(n.Switch); sw.Driver == vnet.DriverOVN {
		nic.InterfaceID = uuid.NewString()
	}
	// What is expected of other guests has nothing to do with it.
	t.Guests, t.Expect, t.Waivers = []vnet.Guest{{Name: guest, NICs: []vnet.NIC{nic}}}, nil, nil
	if known {
		if problems := t.Validate(); len(problems) > 0 {
			return usagef("%s", problems[0])
		}
	}
	if c.Bool("print-xml") {
		xml, err := libvirtnet.InterfaceXML(nic, n)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(std.out, xml)
		return err
	}
	s, err := openSite(c, std, t, c.String("connect"))
	if err != nil {
		return err
	}
	defer s.conn.Close() //nolint:errcheck // the work is done or has failed already
	return s.attach(c, std, guest, nic, n)
}

// attach plugs the NIC in and, live, has it wired: libvirt runs no qemu hook
// when an interface is added to a running guest.
func (s *site) attach(c *cli.Context, std stdio, guest string, nic vnet.NIC, n vnet.Network) error {
	if err := s.macIsFree(c, nic.MAC); err != nil {
		return err
	}
	xml, err := libvirtnet.InterfaceXML(nic, n)
	if err != nil {
		return err
	}
	target, err := s.targetOf(c, guest)
	if err != nil {
		return err
	}
	if err := s.conn.AttachInterface(c.Context, guest, xml, target); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "guest %s: interface %s on network %s (%s)\n", guest, nic.MAC, nic.Network, targetText(target))
	if !target.Live || !s.local {
		return nil
	}
	_, err = s.repair(c.Context, std, func(d libvirtnet.Domain) bool { return d.Name == guest })
	if err != nil {
		return fmt.Errorf("the interface is plugged in and not wired: %w; then run: virt-vnet repair %s", err, guest)
	}
	return nil
}

// macIsFree refuses a MAC that another NIC of this host has.
func (s *site) macIsFree(c *cli.Context, mac vnet.MAC) error {
	guests, err := s.guests(c.Context)
	if err != nil {
		return err
	}
	for _, g := range guests {
		if _, taken := g.Domain.NIC(mac); taken {
			return usagef("MAC %s is that of guest %s already: leave --mac out for a new one", mac, g.Name)
		}
	}
	return nil
}

func nicFromFlags(c *cli.Context) (vnet.NIC, error) {
	nic := vnet.NIC{
		Network: c.String("network"), Portgroup: c.String("portgroup"),
		Queues: c.Int("queues"), RXRing: c.Int("rx-ring"), TXRing: c.Int("tx-ring"),
	}
	if err := nic.Model.UnmarshalText([]byte(c.String("model"))); err != nil {
		return nic, fmt.Errorf("--model: %w", err)
	}
	if text := c.String("mac"); text != "" {
		mac, err := vnet.ParseMAC(text)
		if err != nil {
			return nic, fmt.Errorf("--mac: %w", err)
		}
		nic.MAC = mac
		return nic, nil
	}
	// 52:54:00 is the prefix QEMU and libvirt use for their guests.
	nic.MAC = vnet.MAC{0x52, 0x54, 0x00}
	_, err := rand.Read(nic.MAC[3:])
	return nic, err
}
