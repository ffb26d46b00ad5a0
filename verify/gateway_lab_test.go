// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

// A gateway that answers the host, and none of its guests, is one problem, and
// the gateway's.
func TestRunGatewayOfNobody(t *testing.T) {
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.net("lan").Gateway = netip.MustParseAddr("10.0.40.1")
	s.kernelGuest("pc1", "lan", "10.0.40.11/24")
	s.kernelGuest("pc2", "lan", "10.0.40.12/24")
	gateway := &lab.Station{Name: "rt", Bridge: br0, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.40.1/24")}}
	s.must(s.lab.AddStation(t.Context(), gateway))
	ignore := func(addresses string) {
		t.Helper()
		_, err := gateway.Run(t.Context(), "nft", "flush ruleset; add table arp f; add chain arp f in { type filter hook input priority 0; }; "+
			"add rule arp f in arp saddr ip { "+addresses+" } drop")
		s.must(err)
	}
	ignore("10.0.40.11, 10.0.40.12")
	report := s.verify()
	s.wantOnly(report, VerdictFail, CodeGatewayUnreachable+" network lan")
	if p := report.Problems[0]; len(p.Affects) != 2 || !strings.Contains(p.Got, "all 2 guests") {
		t.Errorf("affects %v, got %q", p.Affects, p.Got)
	}
	ignore("10.0.40.11")
	s.wantOnly(s.verify(), VerdictFail, CodeGatewayUnreachable+" guest pc1, NIC to-pc1")
}

// A gateway, or a switch before it, may know the MACs of its guests and drop the
// frames of anybody else: it is not dead.
func TestRunGatewayOfGuestsOnly(t *testing.T) {
	tests := []struct{ sw, subnet, gateway string }{
		{br0, "10.0.40.0/24", "10.0.40.1"},
		{ovs0, "10.0.40.0/24", "10.0.40.1"},
		{br0, "fd00:40::/64", "fd00:40::1"},
		{ovs0, "fd00:40::/64", "fd00:40::1"},
	}
	for _, test := range tests {
		t.Run(test.sw+" "+test.gateway, func(t *testing.T) {
			s := newSite(t)
			s.network("lan", test.sw, 0, test.subnet)
			n := s.net("lan")
			n.Gateway = netip.MustParseAddr(test.gateway)
			var names []string
			address := n.Gateway
			for i := range maxAskers + 2 {
				address = address.Next()
				names = append(names, fmt.Sprintf("pc%d", i+1))
				s.kernelGuest(names[i], "lan", netip.PrefixFrom(address, n.Subnet.Bits()).String())
			}
			gateway := &lab.Station{Name: "rt", Bridge: test.sw, Addresses: []netip.Prefix{netip.PrefixFrom(n.Gateway, n.Subnet.Bits())}}
			s.must(s.lab.AddStation(t.Context(), gateway))
			know := func(guests ...string) {
				t.Helper()
				macs := make([]string, len(guests))
				for i, guest := range guests {
					macs[i] = lab.MACFor(guest, 0).String()
				}
				rules := "flush ruleset; add table netdev f; add chain netdev f in { type filter hook ingress device eth0 priority 0; policy drop; }; "
				if len(macs) > 0 {
					rules += "add rule netdev f in ether saddr { " + strings.Join(macs, ", ") + " } accept"
				}
				_, err := gateway.Run(t.Context(), "nft", rules)
				s.must(err)
			}
			know(names...)
			report := s.verify()
			if report.Verdict() != VerdictPass {
				t.Errorf("want a pass:\n%s", brief(report))
			}
			for _, n := range report.NICs {
				if r := n.Rung(RungGateway); r.Status != StatusPass || !strings.Contains(strings.Join(r.Evidence, "\n"), "it answers guests, but not") {
					t.Errorf("%s: gateway %+v", n.Guest, r)
				}
			}
			var looks [][]string
			_, err := Wait(t.Context(), s.collectCounted(&looks), Options{Switches: s, Timing: Timing{Confirm: []time.Duration{500 * time.Millisecond}}}, time.Minute)
			s.must(err)
			if len(looks) != 2 {
				t.Errorf("%d looks, want one and the check: there is nothing to wait for", len(looks))
			}
			know(names[1:]...)
			s.wantOnly(s.verify(), VerdictFail, CodeGatewayUnreachable+" guest pc1, NIC to-pc1")
			know()
			report = s.verify()
			s.wantOnly(report, VerdictFail, CodeGatewayUnreachable+" network lan")
			if p := report.Problems[0]; len(p.Affects) != len(names) {
				t.Errorf("affects %v", p.Affects)
			}
		})
	}
}

// Guests reach each other, a service and an address beyond through a gateway
// with an IPv6 address, and a gateway that does not forward is told.
func TestRunGatewayOfIPv6(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "2001:db8:20::/64")
	s.network("blue", ovs0, 30, "2001:db8:30::/64")
	s.kernelGuest("web1", "red", "2001:db8:20::11/64")
	s.kernelGuest("db1", "blue", "2001:db8:30::11/64")
	s.routed("red", "blue")
	// A router that has just come up is not one yet: it looks for duplicates of
	// its own link-local addresses first.
	s.must(s.nsGuests["web1"].WaitPing(t.Context(), netip.MustParseAddr("2001:db8:30::11"), 10*time.Second))
	s.serve("db1", "5432")
	s.expects("web1 reach db1", "web1 tcp db1:5432", "web1 reach gateway", "network red reach network blue", "web1 reach 2001:db8:30::11",
		"web1 tcp db1:81", "web1 reach 2001:db8:30::99", "web1 deny db1")
	s.wantChecks(s.verify(), "pass", "pass", "pass", "pass", "pass", "fail TCP_REFUSED", "fail UNREACHABLE", "leak REACHABLE")

	s.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=0")
	s.expects("web1 reach gateway", "web1 reach db1", "web1 tcp db1:5432")
	s.wantChecks(s.verify(), "pass", "fail UNREACHABLE", "fail TCP_FILTERED")
}
