// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// introduce makes those guests of the segment speak whose MAC the switch has not
// learned. It floods frames to such a MAC (IEEE 802.1Q, 8.6.3), so that asking
// many of them would put as many frames into each of their neighbours.
//
// Each is asked once, out of its own port, past the switch, which learns from
// the answer. Nothing is noted of who answers: whether the guest can be reached
// through the switch is still to be asked.
func (s *segment) introduce(ctx context.Context) error {
	var targets []*target
	for _, n := range s.nics {
		if t, ok := n.stranger(); ok {
			targets = append(targets, t)
		}
	}
	if len(targets) == 0 {
		return nil
	}
	if !s.prober.source.IsValid() {
		// Nothing came from us yet: the first is asked through the switch, which
		// so learns where the answers go.
		targets[0].via = 0
	}
	asking := s.prober.newAsking(targets)
	asking.replies = len(targets) + batch
	asking.out, ctx = newOutbox(ctx, asking.socket)
	defer asking.out.close()
	start := time.Now()
	for i, t := range targets {
		t.firstAsk = time.Now()
		asking.addRequest(t)
		if asking.out.waiting() < batch && i < len(targets)-1 {
			continue
		}
		asking.out.flush()
		if err := asking.socket.poll(asking.handle); err != nil {
			return err
		}
	}
	asking.out.flush()
	return asking.listen(ctx, start.Add(s.prober.timing.WindowMin/asks))
}

// stranger is the question that introduces the guest to its switch, if that has
// not learned its MAC anywhere and would.
func (n *nic) stranger() (*target, bool) {
	if !n.unlearned() || n.Want.Policy.Learning == vnet.ToggleOff {
		return nil, false
	}
	for _, a := range []Address{n.address, n.address6} {
		if a.Addr.IsValid() {
			return &target{index: n.index, mac: n.Want.MAC, addr: a.Addr, via: n.link.index}, true
		}
	}
	return nil, false
}

// unlearned reports whether the switch has not learned the guest's MAC anywhere,
// so that it floods frames to it.
func (n *nic) unlearned() bool {
	return !n.macvtap() && !n.overlay() && n.fdb.err == nil && len(n.fdb.rows()) == 0
}
