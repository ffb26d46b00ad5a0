// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchtest

import (
	"context"
	"testing"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Plan is what a switch itself, and ports on it, lack of what the spec says. The
// error is what the switch cannot do.
func Plan(ctx context.Context, d switchcfg.Driver, sw vnet.Switch, ports ...vnet.Port) (switchcfg.Plan, error) {
	want, err := switchcfg.Desired(ports, sw)
	if err != nil {
		return switchcfg.Plan{}, err
	}
	if err := d.Capabilities().Check(ctx, want); err != nil {
		return switchcfg.Plan{}, err
	}
	have, err := d.Observe(ctx, switchcfg.Scope{Devices: want.Devices()})
	if err != nil {
		return switchcfg.Plan{}, err
	}
	return switchcfg.Diff(want, have, "")
}

// MustPlan is Plan for what the switch can do.
func MustPlan(t *testing.T, d switchcfg.Driver, sw vnet.Switch, ports ...vnet.Port) switchcfg.Plan {
	t.Helper()
	plan, err := Plan(t.Context(), d, sw, ports...)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}
