// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// many is a thousand addresses, all alive, at one station, and a prober there.
func many(b *testing.B) (*prober, *lab.Station) {
	b.Helper()
	lab.Need(b)
	l := labtest.Start(b, lab.Options{})
	st := &lab.Station{Name: "many", MAC: lab.MACFor("many", 0)}
	for a := netip.MustParseAddr("10.9.0.1"); len(st.Addresses) < 1000; a = a.Next() {
		st.Addresses = append(st.Addresses, netip.PrefixFrom(a, 16))
	}
	if err := l.AddStation(b.Context(), st); err != nil {
		b.Fatal(err)
	}
	near, err := netlink.LinkByName(st.Device)
	if err != nil {
		b.Fatal(err)
	}
	p := &prober{
		device: near.Attrs().Index, mtu: near.Attrs().MTU, mac: macA, source: netip.MustParseAddr("10.9.255.254"),
		heard: map[vnet.MAC]netip.Addr{}, timing: Timing{WindowMax: time.Second},
	}
	if p.socket, err = openSocket(p.device, true); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.socket.close() })
	return p, st
}

func targetsAt(st *lab.Station) []*target {
	targets := make([]*target, len(st.Addresses))
	for i, a := range st.Addresses {
		targets[i] = &target{index: i, mac: vnet.MAC(st.MAC), addr: a.Addr(), wantICMP: true}
	}
	return targets
}

// BenchmarkAsk1000 asks a thousand addresses, all alive, for ARP and ICMP.
func BenchmarkAsk1000(b *testing.B) {
	p, st := many(b)
	for b.Loop() {
		targets := targetsAt(st)
		if err := p.ask(b.Context(), targets, time.Second); err != nil {
			b.Fatal(err)
		}
		for _, t := range targets {
			if !t.done() {
				b.Fatalf("%s did not answer", t.addr)
			}
		}
	}
}

// BenchmarkFullLength1000 sends an echo of full length to each of a thousand.
func BenchmarkFullLength1000(b *testing.B) {
	p, st := many(b)
	targets := targetsAt(st)
	if err := p.ask(b.Context(), targets, time.Second); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s := &segment{prober: p}
		for _, t := range targets {
			s.lengths = append(s.lengths, &lengthProbe{target: t, want: p.mtu})
		}
		if err := s.tryLengths(b.Context(), time.Second); err != nil {
			b.Fatal(err)
		}
		for _, l := range s.lengths {
			if !l.passed {
				b.Fatalf("no answer of %s", l.target.addr)
			}
		}
	}
}
