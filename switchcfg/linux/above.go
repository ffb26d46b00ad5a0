// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/vantage"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// errHostUnseen means that a macvlan on the bridge does not see the host.
var errHostUnseen = errors.New("the host is not seen")

const (
	kindMacvlan = "macvlan"

	macvlanMode       = 1 // IFLA_MACVLAN_MODE (linux/if_link.h)
	macvlanModeBridge = 4 // MACVLAN_MODE_BRIDGE
)

// looksFromAbove reports whether the vantage is better not a port. The kernel
// makes a new port of a bridge with spanning tree wait for twice the forward
// delay, lets nobody shorten that (br_set_port_state: EBUSY), and then tells all
// switches that the topology has changed (IEEE 802.1D-2004, 17.11), who forget
// what they have learned. A macvlan on the bridge itself needs none of that. It
// is in the VLANs that the bridge itself is in, so it does only where there are
// none.
func looksFromAbove(bridge link, vlan vnet.VLANID) bool {
	return bridge.bridge.STP == vnet.ToggleOn && bridge.bridge.ForwardDelay > 0 && !bridge.filtering() && vlan == 0
}

// letSeeHost lets a macvlan on the bridge see the host, where it has an address
// there: otherwise its gateway would be called dead, and its address free.
func (d *Driver) letSeeHost(ctx context.Context, device string, bridge link) error {
	addressed, err := d.hasAddress(ctx, bridge.Index)
	if err != nil || !addressed {
		return err
	}
	l, err := d.link(ctx, device)
	if err != nil {
		return err
	}
	if d.joinHost == nil {
		return errHostUnseen
	}
	side, err := d.joinHost(l.Index, l.MAC, bridge.Index)
	if err != nil {
		return fmt.Errorf("%w: %w", errHostUnseen, err)
	}
	d.hostSides[device] = side
	return nil
}

// hasAddress reports whether the host has an address on a device other than the
// link-local one that every device has (RFC 4291, 2.5.6).
func (d *Driver) hasAddress(ctx context.Context, index int) (bool, error) {
	const sizeofHeader = 8 // struct ifaddrmsg
	answers, err := d.conn.Dump(ctx, func() rtnl.Message {
		m := rtnl.NewMessage(unix.RTM_GETADDR, unix.NLM_F_DUMP)
		m.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
		return m
	}, unix.RTM_NEWADDR)
	if err != nil {
		return false, err
	}
	found := false
	for _, msg := range answers {
		if len(msg) < sizeofHeader {
			return false, rtnl.ErrMalformed
		}
		if int(binary.NativeEndian.Uint32(msg[4:])) != index {
			continue
		}
		err := rtnl.EachAttr(msg[sizeofHeader:], func(kind uint16, value []byte) error {
			addr, ok := netip.AddrFromSlice(value)
			if kind == unix.IFA_ADDRESS && ok && (addr.Is4() || !addr.IsLinkLocalUnicast()) {
				found = true
			}
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	return found, nil
}

// makeAbove makes a macvlan on the bridge. The bridge gets its MAC as one of the
// host's, so that it does not flood the answers.
func (d *Driver) makeAbove(ctx context.Context, bridge link) (string, error) {
	for device := range vantage.Names() {
		info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(unix.IFLA_INFO_KIND, nl.NonZeroTerminated(kindMacvlan))
		info.AddRtAttr(unix.IFLA_INFO_DATA, nil).AddRtAttr(macvlanMode, nl.Uint32Attr(macvlanModeBridge))
		m := rtnl.LinkMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, unix.AF_UNSPEC, 0)
		m.Attr(unix.IFLA_IFNAME, nl.ZeroTerminated(device))
		m.Attr(unix.IFLA_LINK, nl.Uint32Attr(uint32(bridge.Index)))
		m.AddData(info)
		if _, err := d.conn.Send(ctx, m, 0); !errors.Is(err, unix.EEXIST) {
			return device, err
		}
	}
	return "", errTooMany
}

// plugAbove marks the macvlan, keeps it silent, makes it known to the bridge and
// brings it up.
func (d *Driver) plugAbove(ctx context.Context, device, mark string, bridge link) error {
	l, err := d.link(ctx, device)
	if err != nil {
		return err
	}
	if err := vantage.Quiet(device); err != nil {
		return err
	}
	alias := rtnl.LinkMessage(unix.RTM_SETLINK, unix.NLM_F_ACK, unix.AF_UNSPEC, l.Index)
	alias.Attr(unix.IFLA_IFALIAS, []byte(mark))
	known := ownAddress(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_EXCL, bridge.Index, l.MAC)
	for _, m := range []rtnl.Message{alias, known, rtnl.UpMessage(l.Index)} {
		if _, err := d.conn.Send(ctx, m, 0); err != nil {
			if errors.Is(err, unix.ENETDOWN) {
				err = fmt.Errorf("is the bridge up? (ip link set %s up): %w", bridge.Name, err)
			}
			return err
		}
	}
	return nil
}

// removeAbove removes a macvlan, and its MAC from the bridge.
func (d *Driver) removeAbove(ctx context.Context, l link) error {
	_, err := d.conn.Send(ctx, ownAddress(unix.RTM_DELNEIGH, 0, l.Lower, l.MAC), 0)
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return errors.Join(err, d.remove(ctx, l.Index))
}

// ownAddress starts a request about a MAC address that is the bridge's own.
func ownAddress(kind, flags, bridge int, mac [6]byte) rtnl.Message {
	header := make([]byte, sizeofNeighbour)
	header[0] = unix.AF_BRIDGE
	binary.NativeEndian.PutUint32(header[4:], uint32(bridge))
	binary.NativeEndian.PutUint16(header[8:], unix.NUD_PERMANENT)
	header[10] = unix.NTF_SELF
	m := rtnl.NewMessage(kind, flags|unix.NLM_F_ACK)
	m.AddRawData(append(header, nl.NewRtAttr(unix.NDA_LLADDR, mac[:]).Serialize()...)) // which goes last
	return m
}
