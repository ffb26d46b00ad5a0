// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"slices"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// waive marks the problem when one of the spec's waivers that still hold covers
// it. It is called before problems are brought together, so that what is known
// of one guest does not hide the same of another.
func (r *run) waive(p *Problem) {
	for _, w := range r.inventory.Waivers {
		if !w.Expired(r.opts.Now()) && covers(w, p) {
			p.Waived = &Waived{Owner: w.Owner, Until: w.Until, Reason: w.Reason}
			return
		}
	}
}

func covers(w vnet.Waiver, p *Problem) bool {
	inNetwork := func(e Endpoint) bool { return e.Network == w.Network }
	ofGuest := func(e Endpoint) bool { return e.Guest == w.Guest }
	return (w.Code == "" || w.Code == p.Code) &&
		(w.Network == "" || w.Network == p.Network || slices.ContainsFunc(p.Affects, inNetwork)) &&
		(w.Guest == "" || slices.ContainsFunc(p.Affects, ofGuest))
}

// waived reports whether the user knows of the problem.
func (p *Problem) waived() bool { return p != nil && p.Waived != nil }

// notes are what the user should know and what changes no verdict: waivers that
// no longer hold, and guests that run though they are not expected to.
func (r *run) notes() []string {
	var notes []string
	for _, w := range r.inventory.Waivers {
		if w.Expired(r.opts.Now()) {
			notes = append(notes, fmt.Sprintf("the waiver at %s (%s) ended with %s and holds no longer",
				w.Where, w.Owner, w.Until.Format(time.DateOnly)))
		}
	}
	for _, g := range r.inventory.Guests {
		if g.Down && g.Running && slices.ContainsFunc(r.nics, func(n *nic) bool { return n.selected && n.guest == g.Ref }) {
			notes = append(notes, fmt.Sprintf("guest %s runs, and the spec expects it not to (guests: %[1]s: down)", g.Ref.Name))
		}
	}
	return notes
}

// resting reports whether the NIC is of a guest that is down as it should be:
// then there is nothing to find out about it.
func (n *nic) resting() bool { return n.down && !n.running }

// idle reports whether nothing can be found out about the NIC now: it rests, or
// libvirt holds its guest.
func (n *nic) idle() bool { return n.resting() || n.held != "" }
