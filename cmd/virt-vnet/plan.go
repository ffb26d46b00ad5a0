// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
)

// planVersion is the version of the plan's JSON form.
const planVersion = 1

// sitePlan is what apply would change.
type sitePlan struct {
	Version int `json:"version"`
	// Host is the host of the spec, each of which has a plan of its own.
	Host     string            `json:"host,omitempty"`
	Switches []switchPlan      `json:"switches"`
	Logical  []logicalPlan     `json:"logical"`
	Networks []networkPlan     `json:"networks"`
	Guests   []hooks.GuestPlan `json:"guests"`
}

type networkPlan struct {
	Name   string `json:"name"`
	Action string `json:"action"`
	// Changes are those of an update, a line each.
	Changes []string          `json:"changes,omitempty"`
	Duties  []libvirtnet.Duty `json:"duties"`
	// Handover says who carries out a setting from now on, when that changes.
	Handover string `json:"handover,omitempty"`
}

// What apply would do about a network.
const (
	actionCreate = "create"
	actionUpdate = "update"
	actionNone   = "none"
	actionRefuse = "refuse" // somebody else defined a network of that name
)

func planCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "plan",
		Usage: "show what apply would change, and who carries out which setting",
		Flags: []cli.Flag{
			fileFlag(), hostFlag(), outputFlag("text", "json"),
			&cli.BoolFlag{Name: "detailed-exitcode", Usage: "exit with 3 when there is something to change"},
		},
		Action: func(c *cli.Context) error {
			return withSites(c, std, func(_ *config.Spec, s *site, std stdio) error {
				plan, failed, err := s.plan(c.Context)
				if err != nil {
					return err
				}
				if err := errors.Join(writePlan(c, std, plan, failed == nil), failed); err != nil {
					return err
				}
				if c.Bool("detailed-exitcode") && plan.pending() {
					return &exitError{code: exitPending}
				}
				return nil
			})
		},
	}
}

// plan compares the spec with libvirt, the switches and the ports of running
// guests. What failed is why a part of the plan is missing.
func (s *site) plan(ctx context.Context) (plan sitePlan, failed, err error) {
	plan = sitePlan{
		Version: planVersion, Host: s.host,
		Switches: []switchPlan{}, Logical: []logicalPlan{}, Networks: []networkPlan{}, Guests: []hooks.GuestPlan{},
	}
	changes, err := s.changesFor(s.topology.Networks)
	if err != nil {
		return plan, nil, err
	}
	defined, err := s.conn.Networks(ctx)
	if err != nil {
		return plan, nil, err
	}
	guests, err := s.guests(ctx)
	if err != nil {
		return plan, nil, err
	}
	var errSwitches, errLogical, errNetworks, errGuests error
	if s.local {
		plan.Switches, errSwitches = s.switchPlans(ctx, defined, running(guests))
	}
	plan.Logical, errLogical = s.logicalPlans(ctx)
	for _, c := range changes {
		n, err := s.networkPlan(c, defined)
		if err != nil {
			errNetworks = errors.Join(errNetworks, err)
			continue
		}
		plan.Networks = append(plan.Networks, n)
	}
	if s.local {
		var byCause causes
		for _, p := range s.wirer.PlanAll(ctx, running(guests)) {
			plan.Guests = append(plan.Guests, p.GuestPlan)
			byCause.add(p.Guest, p.Err)
		}
		errGuests = byCause.error()
	}
	return plan, errors.Join(errSwitches, errLogical, errNetworks, errGuests), nil
}

// networkPlan compares one network with those that libvirt has.
func (s *site) networkPlan(c networkChange, defined []virtapi.Network) (networkPlan, error) {
	plan := networkPlan{Name: c.network.Name, Action: actionNone, Duties: libvirtnet.Division(c.network, c.sw, s.conn.Version())}
	i := slices.IndexFunc(defined, func(n virtapi.Network) bool { return n.Name == c.network.Name })
	switch {
	case i < 0:
		plan.Action = actionCreate
		return plan, nil
	case !defined[i].Owned:
		plan.Action = actionRefuse
		return plan, nil
	}
	var err error
	plan.Changes, err = libvirtnet.NetworkDiff(defined[i].XML, c.xml)
	if before, errRecord := s.store.Network(c.network.Name); errRecord == nil {
		plan.Handover = libvirtnet.Handover(before.Network, c.network, c.sw, plan.Changes, s.conn.Version())
	}
	plan.Changes = append(plan.Changes, s.guestLines(c.network)...)
	if len(plan.Changes) > 0 || s.recordDiffers(c) {
		plan.Action = actionUpdate
	}
	return plan, err
}

// recordDiffers reports whether the hook knows another network than the spec
// has.
func (s *site) recordDiffers(c networkChange) bool {
	if !s.local {
		return false
	}
	record, err := s.store.Network(c.network.Name)
	return err != nil || !reflect.DeepEqual(record.Network, c.network) || !reflect.DeepEqual(record.Switch, c.sw)
}

func (p sitePlan) pending() bool {
	return slices.ContainsFunc(p.Switches, func(sw switchPlan) bool { return len(sw.Changes) > 0 }) ||
		slices.ContainsFunc(p.Logical, func(l logicalPlan) bool { return len(l.Changes) > 0 }) ||
		slices.ContainsFunc(p.Networks, func(n networkPlan) bool { return n.Action != actionNone }) ||
		slices.ContainsFunc(p.Guests, func(g hooks.GuestPlan) bool {
			return slices.ContainsFunc(g.NICs, func(nic hooks.NICPlan) bool { return len(nic.Changes) > 0 })
		})
}

// writePlan prints the plan. One that is not whole is never said to be empty.
func writePlan(c *cli.Context, std stdio, plan sitePlan, whole bool) error {
	if c.String("output") == "json" {
		return writeJSON(std.out, plan)
	}
	words := map[string]string{
		actionCreate: "+ create", actionUpdate: "~ update", actionNone: "  as it is",
		actionRefuse: "! in the way: libvirt has a network of this name that virt-vnet did not define",
	}
	for _, sw := range plan.Switches {
		writeSwitchPlan(std, sw)
	}
	for _, l := range plan.Logical {
		writeSwitchPlan(std, switchPlan{Name: l.Switch + ", for all hosts", Changes: l.Changes})
	}
	for _, n := range plan.Networks {
		fmt.Fprintf(std.out, "network %-12s %s\n", n.Name, words[n.Action])
		for _, line := range n.Changes {
			fmt.Fprintf(std.out, "    ~ %s\n", line)
		}
		if n.Handover != "" {
			fmt.Fprintf(std.out, "    %s\n", n.Handover)
		}
		for _, d := range n.Duties {
			fmt.Fprintf(std.out, "    %s\n", d)
		}
	}
	for _, g := range plan.Guests {
		writeGuestPlan(std, g, false)
	}
	if whole && !plan.pending() {
		fmt.Fprintln(std.out, "nothing to change")
	}
	return nil
}

// writeSwitchPlan prints what there is to say of a switch, which is mostly
// nothing.
func writeSwitchPlan(std stdio, sw switchPlan) {
	if len(sw.Changes)+len(sw.Warnings) == 0 {
		return
	}
	fmt.Fprintf(std.out, "switch %s\n", sw.Name)
	for _, line := range sw.Changes {
		fmt.Fprintf(std.out, "    ~ %s\n", line)
	}
	for _, line := range sw.Warnings {
		fmt.Fprintf(std.out, "    ! %s\n", line)
	}
}

// writeGuestPlan prints the NICs of one guest. Those with nothing to say are
// left out unless all is set.
func writeGuestPlan(std stdio, g hooks.GuestPlan, all bool) {
	for _, change := range g.Switches {
		fmt.Fprintf(std.out, "guest %s, switch %s\n", g.Guest, change)
	}
	for _, warning := range g.Warnings {
		fmt.Fprintf(std.out, "guest %s ! %s\n", g.Guest, warning)
	}
	for _, nic := range g.NICs {
		if len(nic.Changes) == 0 && !all {
			continue
		}
		fmt.Fprintf(std.out, "guest %s, NIC %s\n", g.Guest, strings.Join(nonEmpty(nic.MAC.String(), nic.Device, place(nic)), ", "))
		for _, change := range nic.Changes {
			fmt.Fprintf(std.out, "    ~ %s\n", change)
		}
		switch {
		case nic.Note != "":
			fmt.Fprintf(std.out, "    %s\n", nic.Note)
		case len(nic.Changes) == 0:
			fmt.Fprintln(std.out, "    as it should be")
		}
	}
}

// place says where a NIC is plugged in.
func place(nic hooks.NICPlan) string {
	switch {
	case nic.Network == "":
		return ""
	case nic.Switch == "":
		return "network " + nic.Network
	}
	return fmt.Sprintf("network %s on %s", nic.Network, nic.Switch)
}

func nonEmpty(list ...string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}
