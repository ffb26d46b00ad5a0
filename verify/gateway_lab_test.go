// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"net/netip"
	"strings"
	"testing"

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
