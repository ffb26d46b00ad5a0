// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
)

func applyCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "apply",
		Usage: "define every network of the spec and put the ports of running guests right",
		Flags: []cli.Flag{fileFlag()},
		Action: func(c *cli.Context) error {
			return withSite(c, std, func(spec *config.Spec, s *site) error {
				if len(spec.Topology.Networks) == 0 {
					return usagef("there is no network in the spec: write one to %s, or see virt-vnet define network --help", c.String("config"))
				}
				return s.apply(c.Context, spec.Topology.Networks, std)
			})
		},
	}
}

func repairCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "repair",
		Usage:     "put the ports of running guests back to what their networks say",
		ArgsUsage: "[GUEST...]",
		Action: func(c *cli.Context) error {
			return withSite(c, std, func(_ *config.Spec, s *site) error { return repairGuests(c, std, s) })
		},
	}
}

func repairGuests(c *cli.Context, std stdio, s *site) error {
	wanted, err := s.named(c.Context, c.Args().Slice())
	if err != nil {
		return err
	}
	if err := s.restoreRecords(c.Context, std); err != nil {
		return err
	}
	changed, err := s.repair(c.Context, std, func(d libvirtnet.Domain) bool { return wanted(d.Name) })
	if err == nil && changed == 0 {
		fmt.Fprintln(std.out, "nothing to repair: every port is as its network says")
	}
	return err
}
