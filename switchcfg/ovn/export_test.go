// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Switch is what the networks are made on.
func (n *Networks) Switch() vnet.Switch { return n.sw }

// Write is Apply without the wait for ovn-controller: what of it is ours to make
// fast.
func (d *Driver) Write(ctx context.Context, plan switchcfg.Plan) error {
	tx, err := d.prepare(ctx, plan)
	if err == nil {
		_, err = d.commit(ctx, tx)
	}
	return err
}

// OneChassis has the driver take the northbound database for one before OVN 22.06,
// with which the ovn-northd of today does not work.
func (d *Driver) OneChassis() { delete(d.schema, "Static_MAC_Binding") }
