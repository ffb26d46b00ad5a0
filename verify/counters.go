// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"fmt"
	"slices"
)

// A port that loses so many frames during a run, and one in so many, has a
// problem. Fewer may be a guest that was busy for a moment.
const (
	mostLost   = 10
	lostOfThem = 100
)

func (f flow) lost() uint64 { return f.dropped + f.errors }

// lossy reports whether more is lost than a healthy port loses.
func (f flow) lossy() bool { return f.lost() >= mostLost && f.lost()*lostOfThem >= f.passed+f.lost() }

// String returns "3 passed, 1 dropped, 0 errors".
func (f flow) String() string {
	return fmt.Sprintf("%d passed, %d dropped, %d errors", f.passed, f.dropped, f.errors)
}

// loses reports whether the port's device lost more during the run than that of
// a healthy port does.
func (n *nic) loses() bool { return n.counted && (n.in.lossy() || n.out.lossy()) }

// confirmLosses watches the devices of ports that lost frames for a while longer.
// A guest that was busy for a moment has caught up by then.
func (r *run) confirmLosses(ctx context.Context) error {
	if !slices.ContainsFunc(r.nics, (*nic).loses) || len(r.opts.Timing.Confirm) == 0 {
		return nil
	}
	before, err := dumpLinks()
	if err != nil {
		return err
	}
	if err := sleep(ctx, r.opts.Timing.Confirm[0]); err != nil {
		return err
	}
	after, err := dumpLinks()
	if err != nil {
		return err
	}
	for _, n := range r.nics {
		n.confirmLoss(before[n.Want.Device], after[n.Want.Device])
	}
	return nil
}

// confirmLoss notes whether the device has stopped losing frames between two
// looks.
func (n *nic) confirmLoss(before, after link) {
	n.caughtUp = n.loses() && !after.in.since(before.in).lossy() && !after.out.since(before.out).lossy()
}

// judgeCounters compares what the port's device counted before the first probe
// and after the last.
func (n *nic) judgeCounters() finding {
	switch {
	case !n.counted:
		return skip("its device was not looked at again")
	case n.in.lost()+n.out.lost() == 0:
		return pass() // as almost all
	}
	evidence := []string{
		fmt.Sprintf("%s, to the guest: %s", n.Want.Device, n.toGuest()),
		fmt.Sprintf("%s, from the guest: %s", n.Want.Device, n.fromGuest()),
	}
	f := finding{
		status: StatusFail, code: CodePortDrops, want: "a port that loses no frames", evidence: evidence,
		fix: "ip -s -s link show dev " + n.Want.Device + "   # which counter rises?",
	}
	switch to, from := n.toGuest(), n.fromGuest(); {
	case n.caughtUp:
		return pass(append(evidence, "it has stopped losing frames since")...)
	case to.lossy():
		f.got = fmt.Sprintf("%d frames to the guest were lost during the run", to.lost())
		f.fix = fmt.Sprintf("ip link set %s txqueuelen 10000   # and does the guest get the CPU it needs? virsh domstats --vcpu %s",
			n.Want.Device, quoted(n.guest.Name))
	case from.lossy():
		f.got = fmt.Sprintf("%d frames of the guest were lost during the run", from.lost())
	default:
		return pass(evidence...)
	}
	return f
}

// toGuest is what was counted of frames on their way to the guest, which is at
// the far end of a tap and stands in for the host's end of a macvtap.
func (n *nic) toGuest() flow {
	if n.link.macvtap() {
		return n.in
	}
	return n.out
}

func (n *nic) fromGuest() flow {
	if n.link.macvtap() {
		return n.out
	}
	return n.in
}
