// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"
	"fmt"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
)

var _ switchcfg.GuardCounter = (*Driver)(nil)

// violates is what the flows do to whose frames are dropped later, by what port
// security says of the port that they come in by (ovn-nb(5), port_security, and
// the stages ls_in_check_port_sec and ls_in_apply_port_sec of ovn-northd(8)).
const (
	violates   = " actions=load:0x1->NXM_NX_REG10[12]"
	violates15 = " actions=set_field:0x1000/0x1000->reg10" // as of OpenFlow 1.5
	comesIn    = "reg14="
)

// GuardDrops implements [switchcfg.GuardCounter] with the counters of the flows
// that check port security.
func (d *Driver) GuardDrops(ctx context.Context, bindings map[string]switchcfg.Binding) ([]switchcfg.GuardDrops, error) {
	if err := d.settleCounters(ctx); err != nil {
		return nil, fmt.Errorf("switch %s: %w", d.name, err)
	}
	v, err := d.look(ctx, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("switch %s: %w", d.name, err)
	}
	var list []switchcfg.GuardDrops
	for device, b := range bindings {
		l := v.ports[b.ID]
		if b.Cookie == 0 || l == nil || len(l.PortSecurity) == 0 {
			continue
		}
		flows, err := d.flows(ctx, fmt.Sprintf("cookie=%#x/-1", b.Cookie))
		if err != nil {
			return nil, fmt.Errorf("switch %s: %w", d.name, err)
		}
		for _, f := range flows {
			match := strings.TrimSuffix(strings.TrimSuffix(f.text, violates), violates15)
			if match != f.text && strings.Contains(match, comesIn) {
				list = append(list, switchcfg.GuardDrops{
					Device: device, Frames: f.packets,
					Place: "port_security of logical port " + b.ID,
					Rule:  fmt.Sprintf("%s (table %d of %s: %s)", strings.Join(l.PortSecurity, ", "), f.table, d.name, match),
				})
			}
		}
	}
	return list, nil
}

// settleCounters waits until the counters of flows have what was forwarded by now
// (ovs-vswitchd(8), revalidator/wait).
func (d *Driver) settleCounters(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, toolLimit)
	defer cancel()
	return d.vswitchd(ctx, "revalidator/wait")
}
