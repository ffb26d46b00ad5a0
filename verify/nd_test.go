// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

// both gives a guest with a real IP stack an IPv6 address too. It answers no
// router's advertisement and does not look for a twin, so that it has the
// address at once.
func (s *site) both(name, addr string) {
	s.t.Helper()
	_, err := s.nsGuests[name].Run(s.t.Context(), "ip", "-6", "address", "add", addr, "dev", "eth0", "nodad")
	s.must(err)
	nic := &s.guest(name).NICs[0]
	nic.Addresses = append(nic.Addresses, Address{netip.MustParsePrefix(addr).Addr(), AddressAgent})
}

// IPv6 on every kind of switch: guests with both, guests with IPv6 alone, and a
// gateway that has no other.
func TestRunIPv6(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.network("lan", br0, 0, "")
	s.net("lan").Gateway = netip.MustParseAddr("2001:db8:40::1")
	s.kernelGuest("web1", "red", "10.0.20.11/24")
	s.kernelGuest("web2", "red", "10.0.20.12/24")
	s.kernelGuest("pc1", "lan", "10.0.40.11/24")
	s.both("web1", "2001:db8:20::11/64")
	s.both("pc1", "2001:db8:40::11/64")
	pc1 := s.guest("pc1")
	pc1.NICs[0].Addresses = pc1.NICs[0].Addresses[1:]
	gateway := &lab.Station{
		Name: "rt", Bridge: br0, Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8:40::1/64")},
	}
	s.must(s.lab.AddStation(t.Context(), gateway))
	inGuest := func(name string, argv ...string) {
		t.Helper()
		_, err := s.nsGuests[name].Run(t.Context(), argv...)
		s.must(err)
	}

	report := s.verify()
	want := map[string]map[RungName]Status{
		"web1": {RungARP: StatusPass, RungND: StatusPass, RungICMP: StatusPass, RungGateway: StatusSkip},
		"web2": {RungARP: StatusPass, RungND: StatusSkip, RungICMP: StatusPass},
		"pc1":  {RungAddress: StatusPass, RungARP: StatusSkip, RungND: StatusPass, RungICMP: StatusPass, RungGateway: StatusPass},
	}
	for _, n := range report.NICs {
		for rung, status := range want[n.Guest] {
			if got := n.Rung(rung); got.Status != status {
				t.Errorf("%s %s: %s %s, want %s", n.Guest, rung, got.Status, got.Reason, status)
			}
		}
	}
	if len(report.Problems) > 0 {
		t.Errorf("healthy: want no problems:\n%s", brief(report))
	}
	if n := report.NICs[0]; n.Guest != "pc1" || n.Address != netip.MustParseAddr("2001:db8:40::11") || n.RTT == 0 {
		t.Errorf("%s has address %s, answered within %v", n.Guest, n.Address, n.RTT)
	}

	// IPv4 going well is no excuse.
	inGuest("web1", "ip", "-6", "address", "del", "2001:db8:20::11/64", "dev", "eth0")
	report = s.verify()
	s.wantOnly(report, VerdictFail, CodeNoND+" guest web1, NIC to-web1")
	if all := brief(report); !strings.Contains(all, "requests were delivered to to-web1") {
		t.Errorf("the evidence does not say that requests were delivered:\n%s", all)
	}
	inGuest("web1", "ip", "-6", "address", "add", "2001:db8:20::11/64", "dev", "eth0", "nodad")
	inGuest("web1", "busybox", "sh", "-c", "echo 1 > /proc/sys/net/ipv6/icmp/echo_ignore_all")
	s.wantOnly(s.verify(), VerdictFail, CodeICMPFiltered+" guest web1, NIC to-web1")
	inGuest("web1", "busybox", "sh", "-c", "echo 0 > /proc/sys/net/ipv6/icmp/echo_ignore_all")

	_, err := gateway.Run(t.Context(), "ip", "link", "set", "eth0", "down")
	s.must(err)
	s.wantOnly(s.verify(), VerdictFail, CodeGatewayUnreachable+" network lan")
}
