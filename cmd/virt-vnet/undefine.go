// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func undefineCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:        "undefine",
		Usage:       "take back a network, or an interface of a guest",
		Subcommands: []*cli.Command{undefineNetworkCommand(std), undefineInterfaceCommand(std)},
	}
}

func undefineNetworkCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:        "network",
		Usage:       "remove a network that virt-vnet defined from libvirt, and its file",
		ArgsUsage:   "NAME",
		Description: "Only from the libvirt of --connect, also when the spec has hosts. From OVN it is gone for all hosts.",
		Action: func(c *cli.Context) error {
			name, err := oneArg(c, "NAME")
			if err != nil {
				return err
			}
			return withSite(c, std, func(spec *config.Spec, s *site) error { return s.undefineNetwork(c, std, spec, name) })
		},
	}
}

// undefineNetwork goes the way of apply backwards: what its switch has of it,
// then libvirt, which both may refuse, then the record, then the file. Record and
// file are this machine's.
func (s *site) undefineNetwork(c *cli.Context, std stdio, spec *config.Spec, name string) error {
	undo, err := s.unmakeNetwork(c.Context, std, name)
	if err != nil {
		return err
	}
	err = s.conn.RemoveNetwork(c.Context, name)
	if errors.Is(err, virtapi.ErrNoNetwork) && s.local {
		// Only the record may be left, of a network that virsh removed.
		if _, noRecord := s.store.Network(name); noRecord == nil {
			err = nil
		}
	}
	if err != nil {
		return errors.Join(err, takeBack([]func() error{undo}))
	}
	if !s.local {
		fmt.Fprintf(std.out, "network %s: removed\n", name)
		s.tellOtherHosts(std, name)
		return nil
	}
	if err := s.store.RemoveNetwork(name); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "network %s: removed\n", name)
	s.tellOtherHosts(std, name)
	if err := errors.Join(s.returnSwitches(c.Context, std), s.tidySwitches(c.Context)); err != nil {
		return err
	}
	if ownFile(c, spec, name) {
		return os.Remove(networkFile(c, name))
	}
	if at, declared := spec.Where("networks", name); declared {
		fmt.Fprintf(std.err, "network %s is still declared in %s: remove it there, or the next apply defines it again\n", name, at)
	}
	return nil
}

// tellOtherHosts says that a network is gone from OVN, and so for all hosts, while
// the libvirt of others may have it still, where its guests would be refused.
func (s *site) tellOtherHosts(std stdio, name string) {
	network, _ := s.topology.Network(name)
	sw, _ := s.topology.Switch(network.Switch)
	others := slices.DeleteFunc(slices.Clone(s.topology.Hosts), func(h vnet.Host) bool { return h.URI == s.conn.URI() })
	if sw.Driver != vnet.DriverOVN || len(others) == 0 {
		return
	}
	fmt.Fprintf(std.err, "network %s is gone from OVN for all hosts, and from libvirt at %s only: for each of %s that has it still: "+
		"virt-vnet -c URI undefine network %s\n", name, s.conn.URI(), hostNames(others), name)
}

func undefineInterfaceCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "interface",
		Usage:     "remove an interface from a guest, from its config and live",
		ArgsUsage: "GUEST",
		Flags: append(targetFlags(),
			&cli.StringFlag{Name: "mac", Usage: "`MAC` address of the interface"}),
		Action: func(c *cli.Context) error {
			guest, err := oneArg(c, "GUEST")
			if err != nil {
				return err
			}
			mac, err := vnet.ParseMAC(c.String("mac"))
			if err != nil {
				return usagef("--mac: %w", err)
			}
			return withSite(c, std, func(_ *config.Spec, s *site) error {
				target, err := s.targetOf(c, guest)
				if err != nil {
					return err
				}
				if err := s.conn.DetachInterface(c.Context, guest, mac, target); err != nil {
					return err
				}
				fmt.Fprintf(std.out, "guest %s: interface %s removed (%s)\n", guest, mac, targetText(target))
				return nil
			})
		},
	}
}

// oneArg returns the command's only argument.
func oneArg(c *cli.Context, what string) (string, error) {
	if c.Args().Len() != 1 {
		return "", usagef("%s takes one %s, got %q", c.Command.HelpName, what, c.Args().Slice())
	}
	return c.Args().First(), nil
}
