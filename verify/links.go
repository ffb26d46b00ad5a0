// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// link is what the kernel says of a device of the host.
type link struct {
	index int
	kind  string
	alias string
	// master is the index of the bridge, bond or datapath it is a port of.
	master int
	// in is what came by it, and out what was sent by it. What a tap drops on
	// the way out the guest did not take from its queue in time.
	in, out flow
	// up is the administrative state, carrier whether something is at the
	// other end.
	up, carrier bool
	// mtu is the longest packet that it takes, in bytes.
	mtu int
	// lower and mode are of a macvtap or macvlan: the index of the device it
	// sits on, and how it reaches its siblings.
	lower int
	mode  vnet.MacvtapMode
}

// flow is what the kernel has counted of the frames that took one way through a
// device (struct rtnl_link_stats64): those that passed, and those that it lost.
type flow struct{ passed, dropped, errors uint64 }

// since is what was counted since before. Counters only rise.
func (f flow) since(before flow) flow {
	return flow{f.passed - min(before.passed, f.passed), f.dropped - min(before.dropped, f.dropped), f.errors - min(before.errors, f.errors)}
}

func (l link) macvtap() bool { return l.kind == "macvtap" || l.kind == "macvlan" }

// toGuest reports whether s is a frame on its way to the guest behind l, or
// else one that came from it. The guest's end of a tap is outside of the
// host's stack; a macvtap stands in for the guest inside of it.
func (l link) toGuest(s seen) bool { return s.outgoing != l.macvtap() }

// links is every device of the host by name, from one dump.
type links map[string]link

func (ls links) byIndex(index int) (string, bool) {
	for name, l := range ls {
		if l.index == index {
			return name, true
		}
	}
	return "", false
}

// longestPause ends the tries of [whole], after a quarter of a second in all.
const longestPause = 128 * time.Millisecond

// whole repeats a dump that a change interrupted, as something could be missing
// from it. The pauses grow, so that what changes comes to rest: many guests
// that start, or another verify that makes its own devices.
func whole[T any](dump func() ([]T, error)) ([]T, error) {
	for pause := time.Millisecond; ; pause *= 2 {
		list, err := dump()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || pause > longestPause {
			return list, err
		}
		time.Sleep(pause)
	}
}

// dumpLinks reads all devices.
func dumpLinks() (links, error) {
	list, err := whole(netlink.LinkList) //nolint:forbidigo // tried again when interrupted
	if err != nil {
		return nil, fmt.Errorf("list the host's devices: %w", err)
	}
	all := make(links, len(list))
	for _, l := range list {
		all[l.Attrs().Name] = newLink(l)
	}
	return all, nil
}

func newLink(l netlink.Link) link {
	a := l.Attrs()
	out := link{
		index:   a.Index,
		kind:    l.Type(),
		alias:   a.Alias,
		master:  a.MasterIndex,
		mtu:     a.MTU,
		up:      a.Flags&net.FlagUp != 0,
		carrier: a.RawFlags&unix.IFF_LOWER_UP != 0,
		lower:   a.ParentIndex,
	}
	if s := a.Statistics; s != nil {
		out.in, out.out = flow{s.RxPackets, s.RxDropped, s.RxErrors}, flow{s.TxPackets, s.TxDropped, s.TxErrors}
	}
	switch v := l.(type) {
	case *netlink.Macvtap:
		out.mode = macvtapMode(v.Mode)
	case *netlink.Macvlan:
		out.mode = macvtapMode(v.Mode)
	}
	return out
}

func macvtapMode(m netlink.MacvlanMode) vnet.MacvtapMode {
	switch m {
	case netlink.MACVLAN_MODE_PRIVATE:
		return vnet.MacvtapPrivate
	case netlink.MACVLAN_MODE_VEPA:
		return vnet.MacvtapVEPA
	case netlink.MACVLAN_MODE_PASSTHRU:
		return vnet.MacvtapPassthrough
	default:
		return vnet.MacvtapBridge
	}
}
