// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
)

func repairCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "repair",
		Usage:     "put the ports of running guests back to what their networks say",
		ArgsUsage: "[GUEST...]",
		Description: "Ports that carry virt-vnet's mark and are those of no running guest are stale. Without GUEST they are shown and\n" +
			"remembered. With --prune those that an earlier repair has shown are removed: taken off the switch where the device is\n" +
			"gone, else released. A port without the mark is never touched.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "prune", Usage: "remove stale ports that an earlier repair has shown"}},
		Action: func(c *cli.Context) error {
			if c.Bool("prune") && c.Args().Present() {
				return usagef("--prune is about whole switches: leave out %s", strings.Join(c.Args().Slice(), " "))
			}
			return withSite(c, std, func(_ *config.Spec, s *site) error { return repairGuests(c, std, s) })
		},
	}
}

func repairGuests(c *cli.Context, std stdio, s *site) error {
	if !s.local { // its guests' devices would be taken for those that have these names here
		return usagef("repair changes the switches of this machine, and %s is not this machine: run it there", s.conn.URI())
	}
	wanted, err := s.named(c.Context, c.Args().Slice())
	if err != nil {
		return err
	}
	if err := s.restoreRecords(c.Context, std); err != nil {
		return err
	}
	if err := s.putGuestSpecs(c.Context, std, !c.IsSet("file")); err != nil {
		return err
	}
	own, err := s.setSwitches(c.Context, std)
	if err != nil {
		return err
	}
	logical, err := s.repairNetworks(c.Context, std)
	if err != nil {
		return err
	}
	changed, err := s.repair(c.Context, std, func(d libvirtnet.Domain) bool { return wanted(d.Name) })
	stale := 0
	if !c.Args().Present() {
		var errPrune error
		stale, errPrune = s.prune(c.Context, std, c.Bool("prune"))
		err = errors.Join(err, errPrune)
	}
	err = errors.Join(err, s.tidySwitches(c.Context))
	if err == nil && changed+own+logical+stale == 0 {
		fmt.Fprintln(std.out, "nothing to repair: every port is as its network says")
	}
	return err
}

// repair wires the running guests that match, says what it changed and returns
// how many ports that were. One guest's failure does not keep the others from
// being repaired.
func (s *site) repair(ctx context.Context, std stdio, match func(libvirtnet.Domain) bool) (changed int, err error) {
	guests, err := s.guests(ctx)
	if err != nil {
		return 0, err
	}
	var running []libvirtnet.Domain
	for _, g := range guests {
		if g.Active && match(g.Domain) {
			running = append(running, g.Domain)
		}
	}
	var byCause causes
	for _, r := range s.wirer.RepairAll(ctx, running) {
		byCause.add(r.Guest.Name, r.Err)
		for _, plan := range r.Changed {
			changed += len(plan.Changes)
			for line := range strings.Lines(plan.String()) {
				fmt.Fprintf(std.out, "guest %s: %s", r.Guest.Name, line)
			}
		}
	}
	return changed, byCause.error()
}

// restoreRecords writes the records of our networks that the state directory has
// lost: as the spec has them, or as they carry them in their definitions.
func (s *site) restoreRecords(ctx context.Context, std stdio) error {
	defined, err := s.conn.Networks(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(defined, func(a, b virtapi.Network) int { return cmp.Compare(a.Name, b.Name) })
	for _, d := range defined {
		_, err := s.store.Network(d.Name)
		if !d.Owned || err == nil {
			continue
		}
		if errors.Is(err, state.ErrNewer) {
			return err
		}
		var record state.Network
		switch n, declared := s.topology.Network(d.Name); {
		case declared:
			record.Network = n
			record.Switch, _ = s.topology.Switch(n.Switch)
		case d.Record == "":
			continue
		default:
			if record, err = hooks.Carried(d.Name, d.Record); err != nil {
				return err
			}
		}
		if err := s.store.PutNetwork(record); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "network %s: record written anew\n", d.Name)
	}
	return nil
}
