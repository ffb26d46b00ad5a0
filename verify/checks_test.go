// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// housed gives each NIC an address of its network's subnet, and the network a
// gateway.
func housed(nics []*nic, subnet string) []*nic {
	p := netip.MustParsePrefix(subnet)
	addr := p.Addr().Next()
	for i, n := range nics {
		n.network.Subnet, n.network.Gateway = p, p.Addr().Next()
		addr = addr.Next()
		n.address = Address{addr, AddressSpec}
		n.index = i
	}
	return nics
}

func talksOf(r *run, e vnet.Expectation) []string {
	c := r.newCheck(nil, e) //nolint:staticcheck // no name is looked up
	if c == nil {
		return nil
	}
	var list []string
	for _, t := range c.talks {
		way := "direct"
		if !t.direct {
			way = "via " + t.gateway.String()
		}
		list = append(list, fmt.Sprintf("%s %s", t, way))
	}
	return list
}

func TestWhoTalks(t *testing.T) {
	red := housed(crowd("red", 3, 20), "10.0.20.0/24")
	blue := housed(crowd("blue", 1, 30), "10.0.30.0/24")
	both := housed([]*nic{on("blue", "ovs0", access(30))}, "10.0.30.0/24")
	both[0].guest, both[0].address.Addr = red[0].guest, netip.MustParseAddr("10.0.30.99")
	r := &run{nics: append(append(red, blue...), both...)}
	r.opts.defaults()
	guest := func(name string) vnet.Party { return vnet.Party{Guest: name} }
	network := func(name string) vnet.Party { return vnet.Party{Network: name} }
	for _, test := range []struct {
		e    vnet.Expectation
		want []string
	}{
		{vnet.Expectation{From: guest("red1"), Reach: guest("red2")}, []string{"red1 (red) -> red2 (red) direct"}},
		{vnet.Expectation{From: guest("red1"), Reach: guest("blue0")}, []string{"red1 (red) -> blue0 (blue) via 10.0.20.1"}},
		// A guest of two networks takes the one that both are in.
		{vnet.Expectation{From: guest("red0"), Reach: guest("blue0")}, []string{"red0 (blue) -> blue0 (blue) direct"}},
		{vnet.Expectation{From: vnet.Party{Guest: "red0", Network: "red"}, Reach: guest("blue0")}, []string{"red0 (red) -> blue0 (blue) via 10.0.20.1"}},
		// No way at all may be open.
		{
			vnet.Expectation{From: guest("red0"), Deny: guest("blue0")},
			[]string{"red0 (red) -> blue0 (blue) via 10.0.20.1", "red0 (blue) -> blue0 (blue) direct"},
		},
		{vnet.Expectation{From: guest("red1"), Reach: vnet.Party{Gateway: true}}, []string{"red1 (red) -> 10.0.20.1 direct"}},
		{vnet.Expectation{From: guest("red1"), Reach: vnet.Party{Addr: netip.MustParseAddr("192.0.2.1")}}, []string{"red1 (red) -> 192.0.2.1 via 10.0.20.1"}},
		{vnet.Expectation{From: guest("red1"), Reach: vnet.Party{Addr: netip.MustParseAddr("10.0.30.2")}}, []string{"red1 (red) -> blue0 (blue) via 10.0.20.1"}},
		// Nobody meets itself.
		{
			vnet.Expectation{From: network("red"), Reach: network("blue")},
			[]string{"red0 (red) -> blue0 (blue) via 10.0.20.1", "red1 (red) -> blue0 (blue) via 10.0.20.1", "red1 (red) -> red0 (blue) via 10.0.20.1", "red2 (red) -> blue0 (blue) via 10.0.20.1", "red2 (red) -> red0 (blue) via 10.0.20.1"},
		},
		{vnet.Expectation{From: guest("red1"), DNS: "www.example.org"}, []string{"red1 (red) -> 10.0.20.1 direct"}},
		{vnet.Expectation{From: guest("red1"), Reach: guest("red1")}, nil},
	} {
		t.Run(test.e.String(), func(t *testing.T) {
			if diff := cmp.Diff(test.want, talksOf(r, test.e)); diff != "" {
				t.Errorf("talks (-want +got):\n%s", diff)
			}
		})
	}
}

// Of many guests each is source once and destination once, and broken ones stand
// in for nobody.
func TestTalksAreSampled(t *testing.T) {
	r := &run{nics: housed(crowd("red", 40, 20, 3, 4), "10.0.20.0/24")}
	r.opts.defaults()
	e := vnet.Expectation{From: vnet.Party{Network: "red"}, Reach: vnet.Party{Network: "red"}}
	c := r.newCheck(t.Context(), e)
	sources, dests := map[string]int{}, map[string]int{}
	for _, talk := range c.talks {
		sources[talk.from.guest.Name]++
		dests[talk.to.guest.Name]++
		if talk.from == talk.to {
			t.Errorf("%s meets itself", talk.from.guest.Name)
		}
	}
	if len(sources) != 38 || len(dests) != 38 || len(c.talks) != 38 || c.all != 40*39 {
		t.Errorf("%d talks of %d, %d sources, %d destinations", len(c.talks), c.all, len(sources), len(dests))
	}
	r.opts.Full = true
	if c := r.newCheck(t.Context(), e); len(c.talks) != 40*39 {
		t.Errorf("%d talks, want all", len(c.talks))
	}
}

func TestOverruled(t *testing.T) {
	red := crowd("red", 3, 20)
	r := &run{nics: red, inventory: Inventory{Expect: []vnet.Expectation{
		{From: vnet.Party{Guest: "red0"}, Deny: vnet.Party{Guest: "red1"}},
		{From: vnet.Party{Guest: "red1"}, Reach: vnet.Party{Guest: "red2", Network: "red"}},
	}}}
	for _, test := range []struct {
		a, b    int
		derived Expectation
		want    bool
	}{
		{0, 1, ExpectReach, true},
		{1, 0, ExpectReach, true},
		{0, 1, ExpectIsolation, false},
		{0, 2, ExpectReach, false},
		{1, 2, ExpectIsolation, true},
		{1, 2, ExpectReach, false},
	} {
		if got := r.overruled(red[test.a], red[test.b], test.derived); got != test.want {
			t.Errorf("red%d and red%d, %s: %v", test.a, test.b, test.derived, got)
		}
	}
}

// What cannot be told is never a pass, and the worst of many talks counts.
func TestJudgeTalks(t *testing.T) {
	red := housed(crowd("red", 2, 20), "10.0.20.0/24")
	held := func(kind talkKind, change func(*talk)) *talk {
		n := &talk{kind: kind, from: red[0], to: red[1], addr: red[1].address.Addr, direct: true, dport: 80, entered: true, hop: &neighbor{known: true}}
		change(n)
		return n
	}
	heard := proofs{heard: map[*nic]*nic{red[1]: red[0]}}
	outside := netip.MustParseAddr("192.0.2.1")
	for _, test := range []struct {
		name   string
		talk   *talk
		known  proofs
		status Status
		code   string
	}{
		{"nothing seen entering", held(talkEcho, func(t *talk) { t.entered = false }), proofs{}, StatusInconclusive, ""},
		{"delivered, no answer", held(talkEcho, func(t *talk) { t.delivered = true }), proofs{}, StatusFail, CodeUnreachable},
		{"no next hop", held(talkTCP, func(t *talk) { t.hop.known = false }), proofs{}, StatusFail, CodeUnreachable},
		{"refused by the guest", held(talkTCP, func(t *talk) { t.refused, t.delivered = true, true }), proofs{}, StatusFail, CodeTCPRefused},
		{"refused on the way", held(talkTCP, func(t *talk) { t.refused = true }), proofs{}, StatusFail, CodeTCPFiltered},
		{"refused, then open", held(talkTCP, func(t *talk) { t.refused, t.open = true, true }), proofs{}, StatusPass, ""},
		{
			"the pair has failed already", held(talkTCP, func(*talk) {}),
			proofs{causes: map[[2]int]string{{0, 1}: "NOT_DELIVERED: network red"}},
			StatusNotReached, "",
		},
		{"denied, and it hears others", held(talkDeny, func(*talk) {}), heard, StatusPass, ""},
		{"denied, without a control", held(talkDeny, func(*talk) {}), proofs{}, StatusInconclusive, ""},
		{"denied, nothing seen entering", held(talkDeny, func(t *talk) { t.entered = false }), heard, StatusInconclusive, ""},
		{"denied, blind", held(talkDeny, func(t *talk) { t.blind = true }), heard, StatusInconclusive, ""},
		{"denied, and delivered", held(talkDeny, func(t *talk) { t.delivered = true }), heard, StatusLeak, CodeReachable},
		{"denied outside, silence", held(talkDeny, func(t *talk) { t.to, t.addr = nil, outside }), heard, StatusInconclusive, ""},
		{
			"denied outside, silence, and others are answered", held(talkDeny, func(t *talk) { t.to, t.addr = nil, outside }),
			proofs{answers: map[netip.Addr]string{outside: "web2"}},
			StatusPass, "",
		},
		{"denied outside, prohibited", held(talkDeny, func(t *talk) { t.to, t.prohibited = nil, true }), proofs{}, StatusPass, ""},
		{"denied outside, answered", held(talkDeny, func(t *talk) { t.to, t.open = nil, true }), proofs{}, StatusLeak, CodeReachable},
	} {
		t.Run(test.name, func(t *testing.T) {
			if o := test.talk.judge(test.known); o.status != test.status || o.code != test.code {
				t.Errorf("%+v, want %s %s", o, test.status, test.code)
			}
		})
	}
	var r CheckResult
	for _, s := range []Status{StatusNotReached, StatusPass, StatusFail, StatusInconclusive} {
		r.add(held(talkEcho, func(*talk) {}), outcome{status: s, reason: string(s)})
	}
	if r.Status != StatusFail || r.Reason != string(StatusFail) {
		t.Errorf("the result of many is %+v", r)
	}
}
