// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// outcome is what became of one talk.
type outcome struct {
	status Status
	reason string
	// code, want, got and fix are of the problem, when it failed.
	code, want, got, fix string
	// cause is the problem that explains it, when it is another's.
	cause string
	// evidence is what was seen, and value what was measured.
	evidence, value string
}

// block returns why there is no use in holding the talk, or nil.
func (r *run) block(t *talk) *outcome {
	for _, n := range t.ends() {
		if n.resting() {
			return &outcome{status: StatusSkip, reason: n.guest.Name + " is expected to be down"}
		}
		if n != nil && n.held != "" {
			return &outcome{status: StatusInconclusive, reason: "libvirt has paused " + n.guest.Name + " for " + n.held}
		}
	}
	if host := t.from.away; host != "" {
		return &outcome{status: StatusSkip, reason: fmt.Sprintf("%s is on host %s: only virt-vnet verify there can send as it", t.from.guest.Name, host)}
	}
	for _, o := range []*outcome{t.blockedEnds(), t.blockedVanished(), t.blockedAddress(), t.blockedWay()} {
		if o != nil {
			return o
		}
	}
	if r.byDesign(t) {
		o := t.failed(CodeMacvtapHost, "no way: a macvtap and its own host never reach each other")
		o.fix = fmt.Sprintf("ip link add link %s name %.8s-host type macvlan mode bridge   # and give %s to that", t.from.lower, t.from.lower, t.addr)
		return &o
	}
	return nil
}

// blockedEnds is for guests that are broken already.
func (t *talk) blockedEnds() *outcome {
	broken := func(n *nic) *outcome { return &outcome{status: StatusNotReached, cause: n.problem.cause()} }
	switch n := t.unsound(); {
	case t.kind != talkDeny && n != nil:
		return broken(n)
	case !t.from.speaks() && t.from.problem != nil:
		return broken(t.from)
	case !t.from.speaks():
		return &outcome{status: StatusInconclusive, reason: "nothing is sent as a guest that never spoke: the switch would learn its MAC from us"}
	}
	return nil
}

// unsound is the end that is broken as far as this talk goes, or nil: one that
// drops echoes is for an echo.
func (t *talk) unsound() *nic {
	switch {
	case !t.from.sound():
		return t.from
	case t.to != nil && (!t.to.sound() || t.kind == talkEcho && t.to.dropsEcho()):
		return t.to
	}
	return nil
}

// blockedVanished is for guests that went away during the run.
func (t *talk) blockedVanished() *outcome {
	for _, n := range t.ends() {
		if n.vanished != "" {
			return &outcome{status: StatusInconclusive, reason: n.guest.Name + ": " + n.vanished}
		}
	}
	return nil
}

// blockedAddress is for guests of which no address is known.
func (t *talk) blockedAddress() *outcome {
	switch {
	case !t.addr.IsValid():
		return &outcome{status: StatusInconclusive, reason: "no address of " + t.to.guest.Name + " is known"}
	case !t.source.IsValid():
		return &outcome{status: StatusInconclusive, reason: fmt.Sprintf("no address of %s is known to speak to %s from", t.from.guest.Name, t.addr)}
	}
	return nil
}

// blockedWay is for talks that need a gateway which is not there, or that leave
// the host where nothing does.
func (t *talk) blockedWay() *outcome {
	if t.to == nil && t.kind != talkDeny && t.from.cutOff() {
		return &outcome{status: StatusNotReached, cause: t.from.problem.cause()}
	}
	dead := &outcome{status: StatusNotReached}
	if t.from.broken() == RungGateway {
		dead.cause = t.from.problem.cause()
	}
	switch {
	case t.addr == t.from.network.Gateway && dead.cause != "":
		return dead
	case t.direct || t.kind == talkDeny && t.to != nil:
		return nil
	case !t.gateway.IsValid():
		return &outcome{status: StatusInconclusive, reason: fmt.Sprintf("%s is outside of network %s, which has no gateway for it in the spec",
			t.addr, t.from.Want.Network)}
	case dead.cause != "":
		return dead
	}
	return nil
}

// byDesign reports whether a macvtap is to reach an address of the host on its
// own link: frames of a macvtap leave, and the host below never sees them
// (ip-link(8)).
func (r *run) byDesign(t *talk) bool {
	if !t.from.macvtap() || !t.direct || t.to != nil || t.kind == talkDeny {
		return false
	}
	index := r.hostDevice(t.addr)
	name, known := r.host.byIndex(index)
	// The way for the host is a macvlan of its own, beside the macvtap.
	beside := known && r.host[name].kind == "macvlan" && r.host[name].lower == r.host[t.from.lower].index
	return index != 0 && !beside
}

// hostDevice is the index of the device of the host that has the address, or
// zero.
func (r *run) hostDevice(addr netip.Addr) int {
	list, err := whole(func() ([]netlink.Addr, error) {
		return netlink.AddrList(nil, netlink.FAMILY_ALL) //nolint:forbidigo // tried again when interrupted
	})
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap() == addr {
			return a.LinkIndex
		}
	}
	if err != nil {
		r.limit("the host's own addresses are not known", err)
	}
	return 0
}

// overruled reports whether the user has said the opposite of what follows from
// the spec's networks for two NICs of one network.
func (r *run) overruled(a, b *nic, derived Expectation) bool {
	if a.Want.Network != b.Want.Network {
		return false
	}
	for _, e := range r.inventory.Expect {
		if derived == ExpectReach && e.Deny.IsZero() || derived == ExpectIsolation && e.Reach.IsZero() {
			continue
		}
		for _, ends := range [][2]*nic{{a, b}, {b, a}} {
			to := e.Target()
			has := to.Addr.IsValid() && ends[1].own(to.Addr.Is6()) == to.Addr
			if ends[0].isOf(e.From) && (ends[1].isOf(to) || has) {
				return true
			}
		}
	}
	return false
}
