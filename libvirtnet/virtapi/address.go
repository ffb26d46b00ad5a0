// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi

import (
	"context"
	"errors"
	"net/netip"

	"libvirt.org/go/libvirt"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// AddressSource says how libvirt knows the addresses of a guest.
type AddressSource string

// The sources.
const (
	// SourceAgent is the guest itself, through its QEMU guest agent.
	SourceAgent AddressSource = "agent"
	// SourceLease is a DHCP server that libvirt runs.
	SourceLease AddressSource = "lease"
)

// Addresses returns the IP addresses of a running guest, found by its name or
// UUID, that the source knows, by MAC address and with the length of their
// subnet's prefix. That the guest has no agent, or that libvirt serves it no
// DHCP, is no error, and no address. Libvirt's third source, the host's neighbour
// table, is not there: it knows no guest that the host does not talk to.
//
// An agent that hangs answers when libvirt gives up on it, after seconds, and
// libvirt takes only so many questions at a time from one connection
// (max_client_requests): give ctx a deadline, and ask agents on a connection of
// their own. [Conn.GuestInterfaces] says how they are asked. The error is
// [ErrNoGuest] when there is no such guest.
func (c *Conn) Addresses(ctx context.Context, guest string, source AddressSource) (map[vnet.MAC][]netip.Prefix, error) {
	if source == SourceAgent {
		return c.agentAddresses(ctx, guest)
	}
	return promptly(ctx, c, func(ctx context.Context) (map[vnet.MAC][]netip.Prefix, error) {
		return withGuest(ctx, c, guest, func(handle *libvirt.Domain) (map[vnet.MAC][]netip.Prefix, error) {
			list, err := handle.ListAllInterfaceAddresses(libvirt.DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE)
			// No leases comes as one of many errors.
			if err = callError("guest "+guest+": ask for its addresses", err); errors.Is(err, ErrNotRunning) {
				return nil, err
			}
			return addresses(list), nil
		})
	})
}

// agentAddresses are what the guest's agent says, if there is one.
func (c *Conn) agentAddresses(ctx context.Context, guest string) (map[vnet.MAC][]netip.Prefix, error) {
	list, err := c.GuestInterfaces(ctx, guest)
	for _, known := range []error{ErrNotRunning, ErrNoGuest, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, known) {
			return nil, err
		}
	}
	byMAC := map[vnet.MAC][]netip.Prefix{}
	for _, iface := range list {
		if !iface.MAC.IsZero() && len(iface.Addresses) > 0 {
			byMAC[iface.MAC] = append(byMAC[iface.MAC], iface.Addresses...)
		}
	}
	return byMAC, nil
}

// addresses is libvirt's list without loopback and what is no Ethernet.
func addresses(list []libvirt.DomainInterface) map[vnet.MAC][]netip.Prefix {
	byMAC := map[vnet.MAC][]netip.Prefix{}
	for _, iface := range list {
		mac, err := vnet.ParseMAC(iface.Hwaddr)
		if err != nil || mac.IsZero() {
			continue
		}
		for _, a := range iface.Addrs {
			addr, err := netip.ParseAddr(a.Addr)
			if err == nil && !addr.IsLoopback() && int(a.Prefix) <= addr.BitLen() {
				byMAC[mac] = append(byMAC[mac], netip.PrefixFrom(addr, int(a.Prefix)))
			}
		}
	}
	return byMAC
}
