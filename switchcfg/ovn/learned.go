// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Learned implements [switchcfg.Learner]. OVN does not learn where a MAC is: it
// knows it by the addresses of the logical port. The rows are those of the ports
// of this host.
func (d *Driver) Learned(ctx context.Context) ([]switchcfg.Learned, error) {
	v, err := d.look(ctx, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("switch %s: %w", d.name, err)
	}
	var rows []switchcfg.Learned
	for device, s := range v.devices {
		l := v.ports[s.id()]
		if l == nil || l.ExternalIDs[keyVantage] != "" {
			continue
		}
		for _, entry := range l.Addresses {
			first, _, _ := strings.Cut(entry, " ")
			if mac, err := vnet.ParseMAC(first); err == nil {
				rows = append(rows, switchcfg.Learned{MAC: mac, Device: device})
			}
		}
	}
	slices.SortFunc(rows, func(a, b switchcfg.Learned) int { return strings.Compare(a.Device, b.Device) })
	return rows, nil
}
