// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"errors"
	"fmt"
	"net"

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
	// dropped is how many frames on their way out of it were lost. Of a tap
	// they are those that the guest did not take from its queue in time.
	dropped uint64
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

// maxDumps bounds how often an interrupted dump is tried again.
const maxDumps = 4

// dumpLinks reads all devices. The dump is tried again when it was interrupted
// by a change, because a device could be missing from it.
func dumpLinks() (links, error) {
	var list []netlink.Link
	err := error(netlink.ErrDumpInterrupted)
	for range maxDumps {
		list, err = netlink.LinkList() //nolint:forbidigo // tried again when interrupted
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
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
	if a.Statistics != nil {
		out.dropped = a.Statistics.TxDropped
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
