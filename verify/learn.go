// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// learn looks at the forwarding databases: before the probes, and again for the
// NICs that were not found where they should be.
func (r *run) learn(ctx context.Context, again bool) {
	bySwitch := map[string][]*nic{}
	var order []string
	for _, n := range r.nics {
		if !n.wired() || n.macvtap() || n.overlay() || n.Want.Switch == "" || again && !n.unsettled() {
			continue
		}
		if bySwitch[n.Want.Switch] == nil {
			order = append(order, n.Want.Switch)
		}
		bySwitch[n.Want.Switch] = append(bySwitch[n.Want.Switch], n)
	}
	for _, sw := range order {
		rows, err := r.dump(ctx, sw)
		byMAC := make(map[vnet.MAC][]Learned, len(rows))
		for _, row := range rows {
			byMAC[row.MAC] = append(byMAC[row.MAC], row)
		}
		for _, n := range bySwitch[sw] {
			n.learn(byMAC[n.Want.MAC], err, again)
		}
	}
}

func (r *run) dump(ctx context.Context, sw string) ([]Learned, error) {
	if r.opts.Switches == nil {
		return nil, errors.New("no access to the switch")
	}
	return r.opts.Switches.Learned(ctx, sw)
}

// unsettled reports whether the first look did not find the MAC on its port and
// nowhere else.
func (n *nic) unsettled() bool {
	here, elsewhere := n.learnedOn()
	return n.fdb.err == nil && (here == "" || len(elsewhere) > 0)
}

func (n *nic) learn(rows []Learned, err error, again bool) {
	var mine []Learned
	for _, row := range rows {
		if n.sharesVLAN(row.VLAN) {
			mine = append(mine, row)
		}
	}
	n.fdb.err = err
	if again {
		n.fdb.again, n.fdb.after = true, mine
	} else {
		n.fdb.before = mine
	}
}

// sharesVLAN reports whether a row of that VLAN is about one of the NIC's. The
// same MAC in another VLAN is another station (802.1Q, independent learning).
func (n *nic) sharesVLAN(id vnet.VLANID) bool {
	untagged := n.sw != nil && id == n.sw.Untagged
	return id == 0 || n.carries(id) || untagged && n.pvid() == 0
}
