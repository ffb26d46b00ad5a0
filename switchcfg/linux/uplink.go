// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"context"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
)

// mastersAbove bounds the way from the uplink that the spec names to the port
// of the bridge: a device, its bond, and perhaps a team of those.
const mastersAbove = 3

// uplink finds the port of the bridge that leads to the device which the spec
// names: the device itself, or the bond above it. The zero link is none.
func (d *Driver) uplink(ctx context.Context, bridge link) (link, error) {
	if d.sw.Uplink == "" {
		return link{}, nil
	}
	base, err := d.conn.LinkByName(ctx, d.sw.Uplink)
	for range mastersAbove {
		switch {
		case rtnl.IsGone(err) || err == nil && base.Master == 0:
			return link{}, nil
		case err != nil:
			return link{}, err
		case base.Master == bridge.Index:
			return parseLink(base)
		}
		base, err = d.conn.LinkByIndex(ctx, base.Master)
	}
	return link{}, err
}
