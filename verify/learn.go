// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"
	"slices"

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
		compare := func(row Learned, mac vnet.MAC) int { return slices.Compare(row.MAC[:], mac[:]) }
		slices.SortStableFunc(rows, func(a, b Learned) int { return compare(a, b.MAC) })
		for _, n := range bySwitch[sw] {
			mac := n.Want.MAC
			first, _ := slices.BinarySearchFunc(rows, mac, compare)
			end := first
			for end < len(rows) && rows[end].MAC == mac {
				end++
			}
			n.learn(rows[first:end], err, again)
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
	mine := rows[:len(rows):len(rows)]
	foreign := func(row Learned) bool { return !n.sharesVLAN(row.VLAN) }
	if slices.ContainsFunc(rows, foreign) {
		mine = slices.DeleteFunc(slices.Clone(rows), foreign) // another NIC may have the others
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
