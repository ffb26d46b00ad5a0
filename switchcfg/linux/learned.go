// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// sizeofNeighbour is the fixed part of an RTM_NEWNEIGH message (struct ndmsg).
const sizeofNeighbour = 12

// Learned implements [switchcfg.Learner]: one dump of the bridge's forwarding
// database, and one of its ports for their names. Permanent entries, which are
// the addresses of the host's own devices, are left out.
func (d *Driver) Learned(ctx context.Context) ([]switchcfg.Learned, error) {
	bridge, err := d.bridge(ctx)
	if err != nil {
		return nil, err
	}
	ports, err := d.ports(ctx, bridge.Index)
	if err != nil {
		return nil, fmt.Errorf("switch %s: list ports: %w", d.name, rtnl.Translate(err))
	}
	names := make(map[int]string, len(ports))
	for _, l := range ports {
		names[l.Index] = l.Name
	}
	answers, err := d.conn.Dump(ctx, func() rtnl.Message {
		m := rtnl.LinkMessage(unix.RTM_GETNEIGH, unix.NLM_F_DUMP, unix.AF_BRIDGE, 0)
		m.Attr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(bridge.Index)))
		return m
	}, unix.RTM_NEWNEIGH)
	if err != nil {
		return nil, fmt.Errorf("switch %s: list learned addresses: %w", d.name, rtnl.Translate(err))
	}
	var rows []switchcfg.Learned
	for _, answer := range answers {
		n, err := parseNeighbour(answer)
		if err != nil {
			return nil, fmt.Errorf("switch %s: list learned addresses: %w", d.name, err)
		}
		if n.Device = names[n.index]; n.Device != "" && !n.permanent {
			rows = append(rows, n.Learned)
		}
	}
	return rows, nil
}

// neighbour is one entry of the forwarding database.
type neighbour struct {
	switchcfg.Learned
	index     int
	permanent bool
}

// parseNeighbour reads the payload of an RTM_NEWNEIGH message of the bridge
// family.
func parseNeighbour(msg []byte) (neighbour, error) {
	if len(msg) < sizeofNeighbour {
		return neighbour{}, rtnl.ErrMalformed
	}
	n := neighbour{
		index:     int(int32(binary.NativeEndian.Uint32(msg[4:]))),
		permanent: binary.NativeEndian.Uint16(msg[8:])&unix.NUD_PERMANENT != 0,
	}
	err := rtnl.EachAttr(msg[sizeofNeighbour:], func(kind uint16, value []byte) error {
		switch kind {
		case unix.NDA_LLADDR:
			if len(value) != len(n.MAC) {
				return rtnl.ErrMalformed
			}
			n.MAC = vnet.MAC(value)
		case unix.NDA_VLAN:
			n.VLAN = vnet.VLANID(rtnl.Number(value))
		}
		return nil
	})
	return n, err
}
