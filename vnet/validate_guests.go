// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
)

// guests checks the NICs of every guest, alone and against each other.
func (v *validator) guests() {
	macs := map[MAC]string{}
	addresses := map[addressKey]string{}
	names := map[string]bool{}
	for _, g := range v.topology.Guests {
		if names[g.Name] {
			object{v, "guest " + g.Name, "guests." + g.Name}.duplicate("name", "two guests of this name", "one")
		}
		names[g.Name] = true
		for i, nic := range g.NICs {
			o := object{v, fmt.Sprintf("guest %s, NIC %d", g.Name, i+1), fmt.Sprintf("guests.%s.nics.%d", g.Name, i)}
			o.nic(nic, v.topology)
			if !nic.MAC.IsZero() {
				o.unique("mac", "MAC "+nic.MAC.String(), macs[nic.MAC])
				macs[nic.MAC] = o.subject
			}
			if key := (addressKey{nic.Network, nic.Address}); nic.Address.IsValid() {
				o.unique("address", "address "+nic.Address.String(), addresses[key])
				addresses[key] = o.subject
			}
		}
	}
}

// addressKey is one address in one network: two networks may use the same.
type addressKey struct {
	network string
	address netip.Addr
}

// unique reports what as a duplicate when another object has it already.
func (o object) unique(field, what, other string) {
	if other != "" {
		o.duplicate(field, what+", which is also that of "+other, "another")
	}
}

func (o object) nic(nic NIC, t *Topology) {
	if nic.Network == "" {
		o.missing("network", "network: one of "+listOr(networkNames(t), "the spec's networks"))
	} else if n, ok := t.Network(nic.Network); !ok {
		o.unknown("network", "network "+nic.Network, "one of the spec's networks: "+listOr(networkNames(t), "none is declared"))
	} else {
		o.plug(nic, n)
	}
	o.mac(nic.MAC)
	o.tuning(nic)
}

// plug checks what a NIC asks of the network it is in.
func (o object) plug(nic NIC, n Network) {
	policy, ok := n.PolicyFor(nic.Portgroup)
	if ok {
		o.allow(nic.Allow, policy.AntiSpoof || policy.Profile == ProfileAppliance)
	} else {
		known := make([]string, len(n.Portgroups))
		for i, g := range n.Portgroups {
			known[i] = g.Name
		}
		o.unknown("portgroup", "portgroup "+nic.Portgroup,
			fmt.Sprintf("one of network %s: %s", n.Name, listOr(known, "it has none")))
	}
	if nic.Address.IsValid() && n.Subnet.IsValid() {
		o.inSubnet("address", nic.Address, n)
	}
}

// mac checks that a MAC can be a NIC's: not a group address (IEEE 802, the
// I/G bit).
func (o object) mac(mac MAC) {
	if mac.IsGroup() {
		o.value("mac", mac.String()+", a group address", "a unicast MAC address, such as 52:54:00:12:34:56")
	}
}

func (o object) tuning(nic NIC) {
	if nic.Model != ModelVirtio && (nic.Queues != 0 || nic.RXRing != 0 || nic.TXRing != 0) {
		o.conflict("model", fmt.Sprintf("queues or ring sizes with model %s", nic.Model), "model: virtio, or neither")
	}
	if nic.Queues < 0 || nic.Queues > maxQueues {
		o.value("queues", fmt.Sprint(nic.Queues), fmt.Sprintf("1 to %d", maxQueues))
	}
	o.ring("rx_ring", nic.RXRing)
	o.ring("tx_ring", nic.TXRing)
}

// ring checks a virtio ring size: QEMU takes powers of two.
func (o object) ring(field string, size int) {
	if size == 0 {
		return
	}
	if size < minRing || size > maxRing || bits.OnesCount(uint(size)) != 1 {
		o.value(field, fmt.Sprint(size), strings.Join([]string{"256", "512", "1024"}, ", "))
	}
}
