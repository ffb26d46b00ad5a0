// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package rtnl

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/nlconn"
)

// filterSkipStats (RTEXT_FILTER_SKIP_STATS) leaves out counters, which are half
// of a link message.
const filterSkipStats = 1 << 3

// ErrMalformed means that a message is not what the kernel's headers describe.
var ErrMalformed = nlconn.ErrMalformed

// Link is what a message says about a network device of any kind.
type Link struct {
	Index int
	// Master is the index of the bridge, bond or datapath it is enslaved to,
	// or zero.
	Master int
	// Lower is the index of the device it is on top of (IFLA_LINK), or zero.
	Lower int
	// Up is whether it is set up, and Carrier whether something is at its other
	// end (IFF_LOWER_UP), such as the guest of a tap.
	Up, Carrier bool
	MTU         int
	// QueueLength is how many frames wait at most to be sent (IFLA_TXQLEN).
	QueueLength int
	// Qdisc is the kind of its queueing discipline (tc(8)), such as "htb".
	Qdisc string
	Name  string
	Alias string
	// MAC is zero where it is not of Ethernet's length.
	MAC [6]byte
	// Info is IFLA_LINKINFO: what kind of link it is, and what its master says
	// about it.
	Info []byte
}

// Exists reports whether l is a device at all.
func (l Link) Exists() bool { return l.Index != 0 }

// Filter makes m ask for links without their counters.
func (m Message) Filter() { m.Attr(unix.IFLA_EXT_MASK, nl.Uint32Attr(filterSkipStats)) }

// LinksByName looks devices up, several at a time. The link of one that does not
// exist is zero.
func (c *Conn) LinksByName(ctx context.Context, names ...string) ([]Link, error) {
	var asked []int // indices of names
	var messages []Message
	for i, name := range names {
		if name == "" || len(name) >= unix.IFNAMSIZ {
			continue // no device can be called so
		}
		m := LinkMessage(unix.RTM_GETLINK, 0, unix.AF_UNSPEC, 0)
		m.Attr(unix.IFLA_IFNAME, nl.ZeroTerminated(name))
		m.Filter()
		asked, messages = append(asked, i), append(messages, m)
	}
	answers, err := c.SendAll(ctx, messages, unix.RTM_NEWLINK)
	if err != nil {
		return nil, err
	}
	links := make([]Link, len(names))
	for i, answer := range answers {
		l, err := answer.link()
		if IsGone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// Some kernels also find a device by an alternative name of it.
		if l.Name == names[asked[i]] {
			links[asked[i]] = l
		}
	}
	return links, nil
}

// LinkByName looks one device up. No such device is [IsGone].
func (c *Conn) LinkByName(ctx context.Context, name string) (Link, error) {
	links, err := c.LinksByName(ctx, name)
	if err != nil {
		return Link{}, err
	}
	if !links[0].Exists() {
		return Link{}, unix.ENODEV
	}
	return links[0], nil
}

// LinkByIndex looks one device up. No such device is [IsGone].
func (c *Conn) LinkByIndex(ctx context.Context, index int) (Link, error) {
	m := LinkMessage(unix.RTM_GETLINK, 0, unix.AF_UNSPEC, index)
	m.Filter()
	payloads, err := c.Send(ctx, m, unix.RTM_NEWLINK)
	return Answer{payloads, err}.link()
}

// link reads the answer about one link.
func (a Answer) link() (Link, error) {
	if a.Err != nil {
		return Link{}, a.Err
	}
	if len(a.Payloads) != 1 {
		return Link{}, fmt.Errorf("%w: %d answers about one link", ErrMalformed, len(a.Payloads))
	}
	return ParseLink(a.Payloads[0])
}

// UpMessage starts a request that brings a device up.
func UpMessage(index int) Message {
	info := nl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index, info.Flags, info.Change = int32(index), unix.IFF_UP, unix.IFF_UP
	m := NewMessage(unix.RTM_SETLINK, unix.NLM_F_ACK)
	m.AddData(info)
	return m
}

// ParseLink reads the payload of an RTM_NEWLINK message.
func ParseLink(msg []byte) (Link, error) {
	if len(msg) < unix.SizeofIfInfomsg {
		return Link{}, ErrMalformed
	}
	flags := binary.NativeEndian.Uint32(msg[8:])
	l := Link{
		Index:   int(int32(binary.NativeEndian.Uint32(msg[4:]))),
		Up:      flags&unix.IFF_UP != 0,
		Carrier: flags&unix.IFF_LOWER_UP != 0,
	}
	err := EachAttr(msg[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) error {
		switch kind {
		case unix.IFLA_IFNAME:
			l.Name = Text(value)
		case unix.IFLA_IFALIAS:
			l.Alias = Text(value)
		case unix.IFLA_ADDRESS:
			if len(value) == len(l.MAC) {
				l.MAC = [6]byte(value)
			}
		case unix.IFLA_LINK:
			l.Lower = int(Number(value))
		case unix.IFLA_MTU:
			l.MTU = int(Number(value))
		case unix.IFLA_TXQLEN:
			l.QueueLength = int(Number(value))
		case unix.IFLA_QDISC:
			l.Qdisc = Text(value)
		case unix.IFLA_MASTER:
			l.Master = int(Number(value))
		case unix.IFLA_LINKINFO:
			l.Info = value
		}
		return nil
	})
	return l, err
}

// EachAttr calls f for every attribute in b, without the flags in its type.
// (nl.ParseRouteAttr panics when the last one lacks its padding.)
func EachAttr(b []byte, f func(kind uint16, value []byte) error) error {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		kind := binary.NativeEndian.Uint16(b[2:])
		if size < unix.SizeofRtAttr || size > len(b) {
			return ErrMalformed
		}
		if err := f(kind&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:size]); err != nil {
			return err
		}
		b = b[min((size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(b)):]
	}
	return nil
}

// Text reads a string attribute.
func Text(value []byte) string { return strings.TrimRight(string(value), "\x00") }

// Number reads an unsigned integer of any size that attributes have.
func Number(value []byte) uint32 {
	switch len(value) {
	case 1:
		return uint32(value[0])
	case 2:
		return uint32(binary.NativeEndian.Uint16(value))
	case 4:
		return binary.NativeEndian.Uint32(value)
	}
	return 0
}
