// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi

import (
	"context"
	"errors"
	"net/netip"
	"time"

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

// Addresses is the IP addresses of one guest by MAC address, with the length of
// their subnet's prefix.
type Addresses struct {
	ByMAC map[vnet.MAC][]netip.Prefix `json:"byMAC,omitempty"`
	// Source is empty when libvirt knows no address.
	Source AddressSource `json:"source,omitempty"`
}

// Addresses returns the addresses of a running guest, found by its name or
// UUID: what its agent says, or else its DHCP leases, or else none, which is no
// error. Libvirt's third source, the host's neighbour table, is not asked: it
// knows no guest that the host does not talk to.
//
// An agent that hangs is waited for two seconds. The error is [ErrNoGuest] when
// there is no such guest.
func (c *Conn) Addresses(ctx context.Context, guest string) (Addresses, error) {
	const agentWait = 2 * time.Second
	agent, cancel := context.WithTimeout(ctx, agentWait)
	defer cancel()
	found, err := c.ask(agent, guest, libvirt.DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, SourceAgent)
	hangs := agent.Err() != nil && ctx.Err() == nil
	if err != nil && !hangs || len(found.ByMAC) > 0 {
		return found, err
	}
	return c.ask(ctx, guest, libvirt.DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, SourceLease)
}

// ask asks one source. That a guest has no agent, or a driver no leases, comes
// as one of many errors, and is no error here.
func (c *Conn) ask(ctx context.Context, guest string, from libvirt.DomainInterfaceAddressesSource, source AddressSource) (Addresses, error) {
	return withGuest(ctx, c, guest, func(handle *libvirt.Domain) (Addresses, error) {
		list, err := handle.ListAllInterfaceAddresses(from)
		if err = callError("guest "+guest+": ask for its addresses", err); errors.Is(err, ErrNotRunning) {
			return Addresses{}, err
		}
		byMAC := addresses(list)
		if len(byMAC) == 0 {
			return Addresses{}, nil
		}
		return Addresses{ByMAC: byMAC, Source: source}, nil
	})
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
