// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Inspect implements [switchcfg.Inspector]: one transaction, and a word from
// ovs-vswitchd, without which OVSDB goes on saying what it last heard.
func (d *Driver) Inspect(ctx context.Context) (switchcfg.Condition, error) {
	if _, err := d.control(ctx, "version"); err != nil {
		return switchcfg.Condition{}, fmt.Errorf("switch %s: %w", d.name, err)
	}
	results, err := d.transact(ctx, d.readBridge("ports", "stp_enable", "rstp_enable"),
		ovsdb.Select("Port", []ovsdb.Condition{}, "_uuid", "name", "interfaces", "tag", "trunks", "vlan_mode", "cvlans", "status", "rstp_status"),
		ovsdb.Select("Interface", []ovsdb.Condition{}, "_uuid", "name", "type", "error", "ofport", "link_state"))
	if err != nil {
		return switchcfg.Condition{}, fmt.Errorf("switch %s: read ports: %w", d.name, err)
	}
	bridge, err := d.bridge(results)
	if err != nil {
		return switchcfg.Condition{}, fmt.Errorf("switch %s: %w", d.name, err)
	}
	ports, err := ovsdb.Rows[record](results, 1)
	if err != nil {
		return switchcfg.Condition{}, fmt.Errorf("switch %s: read ports: %w", d.name, err)
	}
	interfaces, err := ovsdb.Rows[record](results, 2)
	if err != nil {
		return switchcfg.Condition{}, fmt.Errorf("switch %s: read interfaces: %w", d.name, err)
	}
	return condense(bridge, ports, interfaces, d.uplink), nil
}

// condense is what the rows say of the bridge and of the port that has the
// interface called uplink, or is called so.
func condense(bridge record, ports, interfaces []record, uplink string) switchcfg.Condition {
	found := switchcfg.Condition{Forwarding: map[string]switchcfg.Forwarding{}}
	byUUID := make(map[ovsdb.UUID]record, len(interfaces))
	for _, i := range interfaces {
		byUUID[i.UUID] = i
	}
	ours := bridge.has()
	for _, p := range ports {
		if !ours[p.UUID] {
			continue
		}
		if bridge.STP || bridge.RSTP {
			state := cmp.Or(p.RSTPStatus["rstp_port_state"], p.Status["stp_state"])
			found.Forwarding[p.Name] = switchcfg.Forwarding{State: strings.ToLower(state)}
		}
		link, leads := false, uplink != "" && p.Name == uplink
		for _, id := range p.Interfaces {
			i := byUUID[id]
			if refusal, refused := i.refusal(); refused {
				if found.Refusals == nil {
					found.Refusals = map[string]switchcfg.Refusal{}
				}
				found.Refusals[i.Name] = refusal
			}
			link = link || i.LinkState.First() == "up"
			leads = leads || uplink != "" && i.Name == uplink
		}
		if leads {
			found.Uplink = switchcfg.UplinkCondition{Device: p.Name, Link: vnet.ToggleOf(link), VLAN: decode(p.vlanColumns)}
		}
	}
	return found
}

// refusal is why ovs-vswitchd, which runs, does not take up the interface, if it
// does not. It gives those that it does a positive number.
func (r record) refusal() (switchcfg.Refusal, bool) {
	if len(r.Error) == 0 && r.number() != 0 {
		return switchcfg.Refusal{}, false
	}
	ofport := "none"
	if len(r.PortNumber) > 0 {
		ofport = strconv.Itoa(r.PortNumber.First())
	}
	return switchcfg.Refusal{
		Reason: cmp.Or(r.Error.First(), "ovs-vswitchd gives it no port number"),
		Row:    fmt.Sprintf("Interface %s: type %q, ofport %s, link_state %s", r.Name, r.Type, ofport, cmp.Or(r.LinkState.First(), "none")),
	}, true
}
