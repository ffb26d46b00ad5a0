// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/dns/dnsmessage"

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

// Nobody speaks to guests that went away, nor as them, and no rung of theirs says so.
func TestVanishedBlock(t *testing.T) {
	red := housed(crowd("red", 2, 20), "10.0.20.0/24")
	r := &run{nics: red}
	r.opts.defaults()
	for i, n := range red {
		n.vanished = "its device vnet0 vanished during the run"
		n.pardon()
		for _, e := range []vnet.Expectation{
			{From: vnet.Party{Guest: "red0"}, TCP: vnet.Service{Party: vnet.Party{Guest: "red1"}, Port: 80}},
			{From: vnet.Party{Guest: "red0"}, Deny: vnet.Party{Guest: "red1"}},
		} {
			o := r.block(r.newCheck(t.Context(), e).talks[0])
			if want := fmt.Sprintf("red%d: %s", i, n.vanished); o == nil || o.status != StatusInconclusive || o.reason != want {
				t.Errorf("%s: %+v, want inconclusive, %q", e, o, want)
			}
		}
		n.vanished = ""
	}
}

// A guest that drops echoes is not asked for one again; what else is expected of
// it is tried, and fails for itself where it says so or the echoes are waived.
func TestTalksToWhoDropsEcho(t *testing.T) {
	red := housed(crowd("red", 2, 20), "10.0.20.0/24")
	problem := &Problem{Problem: vnet.Problem{Code: CodeICMPFiltered, Subject: "guest red1"}, Rung: RungICMP}
	red[1].problem = problem
	r := &run{nics: red}
	r.opts.defaults()
	party := func(n int) vnet.Party { return vnet.Party{Guest: red[n].guest.Name} }
	service := func(n int) vnet.Service { return vnet.Service{Party: party(n), Port: 3389} }
	for _, test := range []struct {
		e    vnet.Expectation
		want bool
	}{
		{vnet.Expectation{From: party(0), Reach: party(1)}, true},
		{vnet.Expectation{From: party(0), To: party(1), Loss: 0.1}, true},
		{vnet.Expectation{From: party(1), Reach: party(0)}, false},
		{vnet.Expectation{From: party(0), TCP: service(1)}, false},
		{vnet.Expectation{From: party(1), TCP: service(0)}, false},
		{vnet.Expectation{From: party(0), DNS: "www.example.org", Server: party(1)}, false},
		{vnet.Expectation{From: party(0), Deny: party(1)}, false},
	} {
		o := r.block(r.newCheck(t.Context(), test.e).talks[0])
		if blocked := o != nil && o.status == StatusNotReached && o.cause == problem.cause(); blocked != test.want || o != nil && !blocked {
			t.Errorf("%s: %+v, want it blocked by the guest's problem: %v", test.e, o, test.want)
		}
	}
	for _, test := range []struct {
		name   string
		change func(*talk)
		waived *Waived
		status Status
	}{
		{"open", func(t *talk) { t.open = true }, nil, StatusPass},
		{"refused", func(t *talk) { t.refused, t.delivered = true, true }, nil, StatusFail},
		{"silent", func(t *talk) { t.delivered = true }, nil, StatusNotReached},
		{"silent, and that it drops echoes is known", func(t *talk) { t.delivered = true }, &Waived{}, StatusFail},
	} {
		held := &talk{kind: talkTCP, from: red[0], to: red[1], direct: true, entered: true, hop: &neighbor{known: true}}
		test.change(held)
		problem.Waived = test.waived
		if o := held.judge(proofs{}); o.status != test.status {
			t.Errorf("%s: %+v, want %s", test.name, o, test.status)
		}
	}
}

// What cannot be told is never a pass, and the worst of many talks counts.
func TestJudgeTalks(t *testing.T) {
	red := housed(crowd("red", 2, 20), "10.0.20.0/24")
	held := func(kind talkKind, change func(*talk)) *talk {
		n := &talk{kind: kind, from: red[0], to: red[1], addr: red[1].address.Addr, direct: true, dport: 80, entered: true, hop: &neighbor{entered: true, known: true}}
		change(n)
		return n
	}
	away := on("blue", "br-int", vnet.Policy{})
	away.away = "host2"
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
		{"delivered, no answer, blind", held(talkEcho, func(t *talk) { t.delivered, t.blind = true, true }), proofs{}, StatusInconclusive, ""},
		{"answered, blind", held(talkEcho, func(t *talk) { t.echoed, t.blind = true, true }), proofs{}, StatusPass, ""},
		{"no next hop", held(talkTCP, func(t *talk) { t.hop.known = false }), proofs{}, StatusFail, CodeUnreachable},
		{"no next hop, and nothing seen entering", held(talkTCP, func(t *talk) { *t.hop = neighbor{} }), proofs{}, StatusInconclusive, ""},
		{"refused by the guest", held(talkTCP, func(t *talk) { t.refused, t.delivered = true, true }), proofs{}, StatusFail, CodeTCPRefused},
		{"refused on the way", held(talkTCP, func(t *talk) { t.refused = true }), proofs{}, StatusFail, CodeTCPFiltered},
		{"refused, then open", held(talkTCP, func(t *talk) { t.refused, t.open = true, true }), proofs{}, StatusPass, ""},
		{
			"the pair has failed already", held(talkTCP, func(*talk) {}),
			proofs{causes: map[[2]int]string{{0, 1}: "NOT_DELIVERED: network red"}},
			StatusNotReached, "",
		},
		{"silence of who is gone", held(talkTCP, func(t *talk) { t.vanished = "web2: gone" }), proofs{}, StatusInconclusive, ""},
		{"answered by who is gone now", held(talkTCP, func(t *talk) { t.open, t.vanished = true, "web2: gone" }), proofs{}, StatusPass, ""},
		{"denied, to who is gone", held(talkDeny, func(t *talk) { t.vanished = "web2: gone" }), heard, StatusInconclusive, ""},
		{"denied, delivered to who is gone now", held(talkDeny, func(t *talk) { t.delivered, t.vanished = true, "web2: gone" }), heard, StatusLeak, CodeReachable},
		{"denied, and it hears others", held(talkDeny, func(*talk) {}), heard, StatusPass, ""},
		{"denied, without a control", held(talkDeny, func(*talk) {}), proofs{}, StatusInconclusive, ""},
		{"denied, nothing seen entering", held(talkDeny, func(t *talk) { t.entered = false }), heard, StatusInconclusive, ""},
		{"denied, blind", held(talkDeny, func(t *talk) { t.blind = true }), heard, StatusInconclusive, ""},
		{"denied, and delivered", held(talkDeny, func(t *talk) { t.delivered = true }), heard, StatusLeak, CodeReachable},
		{"denied to a guest of another host, without a gateway", held(talkDeny, func(t *talk) { t.to, t.direct, t.hop = away, false, nil }), heard, StatusInconclusive, ""},
		{"denied outside, silence", held(talkDeny, func(t *talk) { t.to, t.addr = nil, outside }), heard, StatusInconclusive, ""},
		{
			"denied outside, silence, and others are answered", held(talkDeny, func(t *talk) { t.to, t.addr = nil, outside }),
			proofs{answers: map[netip.Addr]string{outside: "web2"}},
			StatusPass, "",
		},
		{"denied outside, prohibited", held(talkDeny, func(t *talk) { t.to, t.prohibited = nil, true }), proofs{}, StatusPass, ""},
		{
			"denied outside, refused", held(talkDeny, func(t *talk) { t.to, t.addr, t.refused = nil, outside, true }),
			proofs{answers: map[netip.Addr]string{outside: "web2"}},
			StatusInconclusive, "",
		},
		{"denied outside, prohibited and refused", held(talkDeny, func(t *talk) { t.to, t.prohibited, t.refused = nil, true, true }), proofs{}, StatusInconclusive, ""},
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

// Who says that it is forbidden matters: a router keeps the frames from their end,
// and the end itself has got them.
func TestWhoProhibits(t *testing.T) {
	from, outside, router := on("red", "ovs0", access(20)), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.0.20.1")
	for who, want := range map[netip.Addr]Status{router: StatusPass, outside: StatusInconclusive} {
		denied := &talk{kind: talkDeny, from: from, addr: outside, entered: true, hop: &neighbor{known: true}}
		c := &conversation{talks: []*talk{denied}}
		c.takeError(from, overheard{words: words{kind: wordError, from: who, prohibited: true, protocol: layers.IPProtocolICMPv4}})
		if o := denied.judge(proofs{answers: map[netip.Addr]string{outside: "web2"}}); o.status != want {
			t.Errorf("prohibited by %s: %+v, want %s", who, o, want)
		}
	}
}

// Silence of an address outside is proved by an answer to what it was silent to.
func TestControlsOutside(t *testing.T) {
	r := &run{nics: housed(crowd("red", 2, 20), "10.0.20.0/24")}
	r.opts.defaults()
	outside := vnet.Party{Addr: netip.MustParseAddr("192.0.2.1")}
	from := func(name string) vnet.Party { return vnet.Party{Guest: name} }
	for _, e := range []vnet.Expectation{
		{From: from("red0"), Deny: outside},
		{From: from("red1"), TCP: vnet.Service{Party: outside, Port: 5432}},
		{From: from("red1"), DNS: "www.example.org", Server: outside},
	} {
		r.checks = append(r.checks, r.newCheck(t.Context(), e))
	}
	r.noteKnownPorts()
	if diff := cmp.Diff([]uint16{22, 80, 443, 5432}, r.checks[0].talks[0].denyPorts()); diff != "" {
		t.Errorf("ports that are denied (-want +got):\n%s", diff)
	}
	r.checks[2].talks[0].dns = map[dnsmessage.Type]dnsAnswer{dnsmessage.TypeA: {}}
	if got := r.proofs(nil).answers; len(got) != 0 {
		t.Errorf("DNS is not denied and proves %v", got)
	}
	r.checks[1].talks[0].open = true
	if got := r.proofs(nil).answers[outside.Addr]; got != "red1" {
		t.Errorf("answers %q, want red1", got)
	}
}
