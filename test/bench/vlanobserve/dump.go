// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// From linux/rtnetlink.h and linux/if_bridge.h.
const (
	filterSkipStats     = 1 << 3 // RTEXT_FILTER_SKIP_STATS
	sizeofBridgeVLANMsg = 8      // struct br_vlan_msg
)

// bufferSize is more than the kernel ever answers at once.
const bufferSize = 256 << 10

// dumper reads what the kernel says about the ports, as little as can be done
// with it: it looks for the end of the list.
type dumper struct {
	fd          int
	buf         []byte
	links, tags []byte // the requests
}

// newDumper prepares asking for the ports of a bridge: as we ask, without their
// counters, and without the other links.
func newDumper(bridge int) (*dumper, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	number := binary.NativeEndian.AppendUint32
	about := make([]byte, unix.SizeofIfInfomsg)
	about = append(about, attr(unix.IFLA_EXT_MASK, number(nil, filterSkipStats))...)
	about = append(about, attr(unix.IFLA_MASTER, number(nil, uint32(bridge)))...)
	tags := make([]byte, sizeofBridgeVLANMsg)
	tags[0] = unix.AF_BRIDGE
	return &dumper{
		fd: fd, buf: make([]byte, bufferSize),
		links: request(unix.RTM_GETLINK, about), tags: request(unix.RTM_GETVLAN, tags),
	}, nil
}

func (d *dumper) close() { _ = unix.Close(d.fd) }

// request encodes one for a dump.
func request(kind uint16, payload []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(payload)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b = append(b, make([]byte, 8)...) // number and sender
	return append(b, payload...)
}

// attr encodes an attribute, whose value is of whole words.
func attr(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(value)))
	return append(binary.NativeEndian.AppendUint16(b, kind), value...)
}

// dump reads everything.
func (d *dumper) dump() error {
	nothing := func([]byte) {}
	return errors.Join(d.read(d.links, nothing), d.read(d.tags, nothing))
}

// read asks and calls f for the payload of every message of the answer.
func (d *dumper) read(request []byte, f func(payload []byte)) error {
	if err := unix.Sendto(d.fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for {
		n, _, err := unix.Recvfrom(d.fd, d.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue // Go interrupts its threads
		}
		if err != nil {
			return err
		}
		for rest := d.buf[:n]; len(rest) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(rest))
			if size < unix.SizeofNlMsghdr || size > len(rest) {
				return fmt.Errorf("a message of %d bytes", size)
			}
			switch kind := binary.NativeEndian.Uint16(rest[4:]); kind {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR:
				return fmt.Errorf("the kernel refuses: %v", rest[:size])
			}
			f(rest[unix.SizeofNlMsghdr:size])
			rest = rest[min((size+3)&^3, len(rest)):]
		}
	}
}

// check finds out whether the kernel tells of all ports and all VLANs.
func (d *dumper) check() error {
	links, tags := 0, 0
	err := errors.Join(
		d.read(d.links, func([]byte) { links++ }),
		d.read(d.tags, func(payload []byte) { tags += countAttrs(payload[sizeofBridgeVLANMsg:]) }))
	if err == nil && (links != ports || tags < ports*vlans) {
		err = fmt.Errorf("the kernel tells of %d links and %d VLANs, want %d and %d", links, tags, ports, ports*vlans)
	}
	return err
}

// countAttrs counts attributes.
func countAttrs(b []byte) (count int) {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr {
			return count
		}
		b = b[min((size+3)&^3, len(b)):]
		count++
	}
	return count
}
