// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"context"
	"fmt"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
)

// Inspect implements [switchcfg.Inspector]: one dump of the ports, and one of
// the VLANs of the uplink.
func (d *Driver) Inspect(ctx context.Context) (switchcfg.Condition, error) {
	bridge, err := d.bridge(ctx)
	if err != nil {
		return switchcfg.Condition{}, err
	}
	ports, err := d.ports(ctx, bridge.Index)
	if err != nil {
		return switchcfg.Condition{}, fmt.Errorf("switch %s: list ports: %w", d.name, rtnl.Translate(err))
	}
	found := switchcfg.Condition{Forwarding: make(map[string]switchcfg.Forwarding, len(ports))}
	for _, l := range ports {
		found.Forwarding[l.Name] = l.spanning(bridge.bridge.ForwardDelay)
	}
	uplink, err := d.uplink(ctx, bridge)
	found.Uplink.Device = uplink.Name
	if err == nil && uplink.Exists() && d.tagging() {
		var all map[int][]vlanEntry
		all, err = d.vlans(ctx, uplink.Index)
		found.Uplink.VLAN = membership(all[uplink.Index])
	}
	if err != nil {
		return switchcfg.Condition{}, fmt.Errorf("switch %s: look at uplink %s: %w", d.name, d.sw.Uplink, rtnl.Translate(err))
	}
	return found, nil
}

// portStates are the names of BR_STATE_* (linux/if_bridge.h).
var portStates = [...]string{"disabled", "listening", "learning", switchcfg.StateForwarding, "blocking"}

// spanning is what spanning tree lets the port do. Listening and learning take a
// forward delay each, and their timer says what is left of it.
func (l link) spanning(delay time.Duration) switchcfg.Forwarding {
	f := switchcfg.Forwarding{}
	if int(l.state) < len(portStates) {
		f.State = portStates[l.state]
	}
	switch l.state {
	case stateListening:
		f.Left = l.stateLeft + delay
	case stateLearning:
		f.Left = l.stateLeft
	}
	return f
}
