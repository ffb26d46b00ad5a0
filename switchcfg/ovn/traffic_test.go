// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// station is what a guest sends and answers, plugged in as libvirt plugs guests.
func (s *site) station(host int, name string, last byte) (*lab.Station, vnet.Port) {
	s.Helper()
	own := vnet.MAC{0x52, 0x54, 0, 0, 0, last}
	station := &lab.Station{
		Name: name, Device: name, Bridge: lab.IntegrationBridge, MAC: net.HardwareAddr(own[:]),
		Addresses: []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, last}), 24),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 15: last}), 64),
		},
	}
	h := s.c.Hosts[host]
	if err := h.AddStation(s.Context(), station); err != nil {
		s.Fatal(err)
	}
	for _, args := range [][]string{
		{"ip", "netns", "exec", name, "ip", "link", "set", "eth0", "mtu", "1400"},
		{"ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0"},
		{"ovs-vsctl", "set", "Interface", name, "external_ids:iface-id=" + switchtest.InterfaceID(name)},
	} {
		run(s.T, h, args...)
	}
	p := port(name, guest, own)
	if name != "ct0" {
		p.Guest.UUID = other
	}
	return station, p
}

// TestSpoof sends across the tunnel between two hosts what is the guest's own
// and what is not, and between guests that are isolated.
func TestSpoof(t *testing.T) {
	s := startSite(t, 2)
	from, p := s.station(0, "ct0", 5)
	to, q := s.station(1, "ct1", 6)
	s.mustWire(1, q)
	peer4, peer6 := netip.MustParseAddr("10.0.0.6"), netip.MustParseAddr("fd00::6")
	wanted := func(what string, p vnet.Port, want4, want6 bool) {
		t.Helper()
		s.mustWire(0, p)
		if err := s.c.Central.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			to   netip.Addr
			want bool
		}{{peer4, want4}, {peer6, want6}} {
			err := from.Ping(t.Context(), c.to)
			for range 3 {
				if c.want && err != nil {
					err = from.Ping(t.Context(), c.to)
				}
			}
			if (err == nil) != c.want {
				t.Errorf("%s: ping %s: %v, want an answer: %v", what, c.to, err, c.want)
			}
		}
	}
	wanted("without a guard", p, true, true)
	p.Policy.AntiSpoof = true
	wanted("with its own MAC", p, true, true)
	p.Own.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.5")}
	wanted("with its own IPv4 address, and any IPv6", p, true, true)
	p.Own.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.77")}
	wanted("with another's IPv4 address", p, false, true)
	p.Own.Addresses = []netip.Addr{netip.MustParseAddr("fd00::77")}
	wanted("with another's IPv6 address", p, true, false)
	p.Own.Addresses = nil
	p.MAC[5] = 0x99
	wanted("with another's MAC", p, false, false)
	p.MAC[5] = 5
	wanted("with its own MAC again", p, true, true)
	p.Policy, q.Policy = vnet.Policy{Isolated: true}, vnet.Policy{Isolated: true}
	wanted("isolated, and the other one is not", p, true, true)
	s.mustWire(1, q)
	wanted("both isolated", p, false, false)
	for _, way := range []struct {
		from, to *lab.Station
		source   byte
	}{{from, to, 5}, {to, from, 6}} {
		if arrives(t, way.from, listen(t, way.to), udp4(way.source, 1000, 2000), false) {
			t.Errorf("both isolated: a frame from %s reaches the other one", way.from.Name)
		}
	}
	for _, meddle := range [][]string{
		{"set", "ACL", s.rulesOf(p), "priority=5"},
		{"clear", "Port_Group", "virt_vnet_isolated", "ports"},
		{"clear", "Logical_Switch", "red", "acls"},
	} {
		nbctl(t, s.c, meddle...)
		if plan := s.plan(p).String(); !strings.Contains(plan, "isolated: off -> on") {
			t.Errorf("%q, and the plan is:\n%s", meddle, plan)
		}
		s.mustWire(0, p)
		if plan := s.plan(p); !plan.Empty() {
			t.Errorf("%q, and after apply there is to do:\n%s", meddle, plan)
		}
		s.mustWire(1, q)
	}
	nbctl(t, s.c, "clear", "Port_Group", "virt_vnet_isolated", "ports")
	p.Policy.Isolated = false
	s.mustWire(0, p)
	if rules := s.rulesOf(p); rules != "" {
		t.Errorf("not isolated any more, and it has the rules %s", rules)
	}
	wanted("no longer isolated", p, true, true)
}

// rulesOf are the ACLs of the port.
func (s *site) rulesOf(p vnet.Port) string {
	s.Helper()
	return nbctl(s.T, s.c, "--bare", "--columns=_uuid", "find", "ACL", "external_ids:virt-vnet-port="+p.InterfaceID)
}
