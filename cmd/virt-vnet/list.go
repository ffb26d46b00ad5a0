// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func listCommand(std stdio) *cli.Command {
	what := func(name, usage string, rows func(context.Context, *site) (listing, error)) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage,
			Flags: []cli.Flag{fileFlag(), outputFlag("table", "json")},
			Action: func(c *cli.Context) error {
				return withSite(c, std, func(_ *config.Spec, s *site) error {
					list, err := rows(c.Context, s)
					if err != nil {
						return err
					}
					for _, err := range list.lacks {
						warn(std, "%v", err)
					}
					if c.String("output") == "json" {
						return writeJSON(std.out, list.records())
					}
					return writeTable(std.out, list.header, list.rows)
				})
			},
		}
	}
	return &cli.Command{
		Name:  "list",
		Usage: "list networks, switches, guests or ports",
		Subcommands: []*cli.Command{
			what("networks", "networks of the spec and how libvirt has them", listNetworks),
			what("switches", "switches of the spec and what they can do", listSwitches),
			what("guests", "guests with a NIC in a network of ours", listGuests),
			what("ports", "ports of running guests as they are on their switches", listPorts),
		},
	}
}

// listing is a table. Its JSON form has an object for each row, with the
// header's words as keys.
type listing struct {
	header []string
	rows   [][]string
	lacks  []error // why rows are missing
}

func (l listing) records() []map[string]string {
	records := []map[string]string{}
	for _, row := range l.rows {
		record := map[string]string{}
		for i, cell := range row {
			record[strings.ToLower(l.header[i])] = cell
		}
		records = append(records, record)
	}
	return records
}

func listNetworks(ctx context.Context, s *site) (listing, error) {
	list := listing{header: []string{"NAME", "MODE", "ON", "VLAN", "SUBNET", "LIBVIRT"}}
	defined, err := s.conn.Networks(ctx)
	if err != nil {
		return list, err
	}
	states := map[string]string{}
	for _, d := range defined {
		states[d.Name] = "inactive"
		if d.Active {
			states[d.Name] = "active"
		}
		if !d.Owned {
			states[d.Name] += ", not virt-vnet's"
		}
	}
	for _, n := range s.topology.Networks {
		vlan, subnet := "", ""
		if n.Mode == vnet.ModeBridge {
			vlan = n.Policy.VLAN.String()
		}
		if n.Subnet.IsValid() {
			subnet = n.Subnet.String()
		}
		list.rows = append(list.rows, []string{
			n.Name, n.Mode.String(), cmp.Or(n.Switch, n.Device), vlan, subnet, cmp.Or(states[n.Name], "not defined"),
		})
	}
	return list, nil
}

func listSwitches(ctx context.Context, s *site) (listing, error) {
	list := listing{header: []string{"NAME", "DRIVER", "UPLINK", "PORTS", "CANNOT"}}
	for _, sw := range s.topology.Switches {
		open := observe(ctx, sw)
		row := []string{sw.Name, sw.Driver.String(), sw.Uplink, "-", ""}
		if open.err != nil {
			row[4] = open.err.Error()
		} else {
			row[3] = fmt.Sprint(len(open.state.Ports))
			row[4] = cannot(ctx, open.driver.Capabilities())
		}
		if open.driver != nil {
			if err := open.driver.Close(); err != nil {
				return list, err
			}
		}
		list.rows = append(list.rows, row)
	}
	return list, nil
}

// cannot names what the switch cannot do, the first few of it.
func cannot(ctx context.Context, c switchcfg.Capabilities) string {
	const few = 4
	var features []string
	for _, f := range switchcfg.Features() {
		_, missing := c.Missing[f]
		if missing || c.Try != nil && c.Try(ctx, f) != "" {
			features = append(features, string(f))
		}
	}
	if more := len(features) - few; more > 1 {
		features = append(features[:few], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(features, ", ")
}

func listGuests(ctx context.Context, s *site) (listing, error) {
	list := listing{header: []string{"GUEST", "STATE", "NETWORKS"}}
	guests, err := s.guests(ctx)
	if err != nil {
		return list, err
	}
	for _, g := range guests {
		var networks []string
		for _, nic := range g.Domain.NICs {
			if _, ours := s.topology.Network(nic.Network); ours {
				networks = append(networks, nic.Network)
			}
		}
		if len(networks) > 0 {
			list.rows = append(list.rows, []string{g.Name, g.State.String(), strings.Join(networks, ", ")})
		}
	}
	return list, nil
}

func listPorts(ctx context.Context, s *site) (listing, error) {
	list := listing{header: []string{"GUEST", "DEVICE", "MAC", "NETWORK", "SWITCH", "VLAN", "ISOLATED", "MARK"}}
	col, err := s.collect(ctx, nil, nil) // an agent that is asked taints its guest
	if err != nil {
		return list, err
	}
	for _, g := range col.inventory.Guests {
		for _, nic := range g.NICs {
			list.rows = append(list.rows, portRow(col, g.Ref.Name, nic.Want))
		}
	}
	if err := col.close(); err != nil {
		return list, err
	}
	guests, err := s.guests(ctx)
	if err != nil {
		return list, err
	}
	for _, sw := range s.topology.Switches {
		stale, err := s.stale(ctx, sw, running(guests))
		if err != nil {
			list.lacks = append(list.lacks, err)
		}
		for _, p := range stale {
			list.rows = append(list.rows, staleRow(p.Port))
		}
	}
	return list, nil
}

// staleRow is a port of ours that no running guest has.
func staleRow(port switchcfg.Port) []string {
	vlan := "-"
	if port.Settings.VLAN != nil {
		vlan = port.Settings.VLAN.String()
	}
	return []string{
		port.Owner.Guest, port.Device, port.Owner.MAC.String(), port.Owner.Network, port.Switch, vlan,
		port.Settings.Flags[switchcfg.FlagIsolated].String(), "stale",
	}
}

func portRow(col *collection, guest string, want vnet.Port) []string {
	row := []string{guest, want.Device, want.MAC.String(), want.Network, "-", "-", "-", "-"}
	n, _ := col.site.topology.Network(want.Network)
	if n.Mode == vnet.ModeMacvtap {
		row[4] = "macvtap on " + n.Device
		return row
	}
	port, found := col.switches[want.Switch].state.Ports[want.Device]
	if !found {
		return row
	}
	row[4], row[6] = port.Switch, port.Settings.Flags[switchcfg.FlagIsolated].String()
	if port.Settings.VLAN != nil {
		row[5] = port.Settings.VLAN.String()
	}
	if !port.Owner.IsZero() {
		row[7] = "wired"
	}
	return row
}
