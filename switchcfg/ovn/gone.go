// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"
	"fmt"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
)

// Gone implements [switchcfg.Keeper]: the logical ports that only this chassis
// may have, and that no device here is for. They are called by their ids. Such
// are left when the northbound database did not answer as their guest ended, or
// when the host crashed.
func (d *Driver) Gone(ctx context.Context) (switchcfg.State, error) {
	gone := switchcfg.State{Switch: d.name, Ports: map[string]switchcfg.Port{}}
	var q questions
	alone := ovsdb.Condition{"options", "includes", ovsdb.Dict{keyChassis: d.chassis}}
	q.ask(ovsdb.Select(tablePort, []ovsdb.Condition{alone}, "name", "external_ids"), func(r record) {
		if owner := r.ExternalIDs.Owner(); owner.Guest != "" {
			gone.Ports[r.Name] = switchcfg.Port{Device: r.Name, Switch: d.name, Owner: owner}
		}
	})
	if err := q.answer(ctx, d.nb); err != nil {
		return gone, fmt.Errorf("switch %s: read logical ports: %w", d.name, err)
	}
	if len(gone.Ports) == 0 {
		return gone, nil
	}
	v := view{devices: map[string]*seen{}}
	if err := d.lookHere(ctx, v, nil); err != nil {
		return gone, fmt.Errorf("switch %s: %w", d.name, err)
	}
	for _, s := range v.devices {
		delete(gone.Ports, s.id())
	}
	return gone, nil
}
