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

// on is a NIC of a guest of its own, wired as it should be.
func on(network, sw string, policy vnet.Policy) *nic {
	n := &nic{
		NIC:     &NIC{},
		guest:   vnet.GuestRef{Name: network + "-guest"},
		running: true, hasLink: true, selected: true,
		link: link{up: true, carrier: true, kind: "tun"},
		sw:   &Switch{Switch: vnet.Switch{Name: sw}},
	}
	n.Want = vnet.Port{Device: "vnet0", Switch: sw, Network: network, MAC: macA, Policy: policy}
	n.Port = &Port{Switch: sw, VLAN: &policy.VLAN, Isolated: vnet.ToggleOf(policy.Isolated)}
	n.network = &vnet.Network{Name: network, Mode: vnet.ModeBridge, Switch: sw}
	n.rungs = []*Rung{{Name: RungMAC, Status: StatusPass}}
	return n
}

func access(id vnet.VLANID) vnet.Policy { return vnet.Policy{VLAN: vnet.VLANSet{Access: id}} }

func macvtapOn(network string, mode vnet.MacvtapMode) *nic {
	const lower = "eth1"
	n := on(network, "", vnet.Policy{})
	n.sw, n.Port, n.lower = nil, nil, lower
	n.network = &vnet.Network{Name: network, Mode: vnet.ModeMacvtap, Device: lower, Macvtap: mode}
	n.link.kind, n.link.mode = "macvtap", mode
	return n
}

func TestExpect(t *testing.T) {
	trunk := func(native vnet.VLANID, ranges ...vnet.VLANRange) vnet.Policy {
		return vnet.Policy{VLAN: vnet.VLANSet{Trunk: ranges, Native: native}}
	}
	isolated := access(20)
	isolated.Isolated = true
	uplinked := func(n *nic) *nic { n.sw.Uplink = "eth0"; return n }
	subnet := func(n *nic, p string) *nic { n.network.Subnet = netip.MustParsePrefix(p); return n }
	self := on("red", "ovs0", access(20))
	for _, test := range []struct {
		name string
		a, b *nic
		want Expectation
	}{
		{"itself", self, self, ""},
		{"two NICs of one guest", self, on("red", "ovs0", access(20)), ""},
		{"other VLAN", on("red", "ovs0", access(20)), on("blue", "ovs0", access(30)), ExpectIsolation},
		{"tagged and untagged", on("red", "ovs0", access(20)), on("lan", "ovs0", vnet.Policy{}), ExpectIsolation},
		{"other portgroup of one network", on("red", "ovs0", access(20)), on("red", "ovs0", access(21)), ExpectIsolation},
		{"isolated ports", on("red", "ovs0", isolated), on("red2", "ovs0", isolated), ExpectIsolation},
		{"isolated and not", on("red", "ovs0", isolated), on("red2", "ovs0", access(20)), ""},
		{"one VLAN in two networks", on("red", "ovs0", access(20)), on("pink", "ovs0", access(20)), ""},
		{"trunk that has it", on("red", "ovs0", access(20)), on("fw", "ovs0", trunk(0, vnet.VLANRange{First: 10, Last: 29})), ""},
		{"trunk that has it not", on("red", "ovs0", access(30)), on("fw", "ovs0", trunk(5, vnet.VLANRange{First: 10, Last: 29})), ExpectIsolation},
		{"from a trunk without native", on("fw", "ovs0", trunk(0, vnet.VLANRange{First: 10, Last: 29})), on("red", "ovs0", access(30)), ""},
		{"from a trunk's native VLAN", on("fw", "ovs0", trunk(5, vnet.VLANRange{First: 10, Last: 29})), on("red", "ovs0", access(20)), ExpectIsolation},
		{"untagged to a trunk", on("lan", "ovs0", vnet.Policy{}), on("fw", "ovs0", trunk(5, vnet.VLANRange{First: 1, Last: 4094})), ""},
		{"other switch", on("red", "ovs0", access(20)), on("lan", "br0", vnet.Policy{}), ExpectIsolation},
		{"other switch, same VLAN, no uplinks", on("red", "ovs0", access(20)), on("pink", "ovs1", access(20)), ExpectIsolation},
		{
			"other switch, same VLAN, both with uplinks",
			uplinked(on("red", "ovs0", access(20))), uplinked(on("pink", "ovs1", access(20))), "",
		},
		{
			"other switch, other VLAN, both with uplinks",
			uplinked(on("red", "ovs0", access(20))), uplinked(on("pink", "ovs1", access(30))), ExpectIsolation,
		},
		{
			"other switch, same subnet",
			subnet(on("red", "ovs0", access(20)), "10.0.0.0/16"), subnet(on("pink", "ovs1", access(30)), "10.0.7.0/24"), "",
		},
		{"macvtap and untagged bridge with uplink", macvtapOn("edge", 0), uplinked(on("lan", "br0", vnet.Policy{})), ""},
		{"macvtap and VLAN", macvtapOn("edge", 0), uplinked(on("red", "ovs0", access(20))), ExpectIsolation},
		{"macvtap private", macvtapOn("e1", vnet.MacvtapPrivate), macvtapOn("e2", vnet.MacvtapPrivate), ""},
		{"place not known", on("red", "", vnet.Policy{}), on("blue", "ovs0", access(30)), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := expect(test.a, test.b); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
	a, b := on("red", "ovs0", access(20)), on("red", "ovs0", access(20))
	b.guest.Name = "other"
	if got := expect(a, b); got != ExpectReach {
		t.Errorf("siblings: %q, want reach", got)
	}
	m, o := macvtapOn("edge", 0), macvtapOn("edge", 0)
	o.guest.Name = "other"
	if got := expect(m, o); got != ExpectReach {
		t.Errorf("macvtap siblings: %q, want reach", got)
	}
}

// crowd is n guests of a network, some of them broken.
func crowd(network string, n int, vlan vnet.VLANID, broken ...int) []*nic {
	list := make([]*nic, n)
	for i := range list {
		list[i] = on(network, "ovs0", access(vlan))
		list[i].guest.Name = fmt.Sprintf("%s%d", network, i)
	}
	for _, i := range broken {
		list[i].problem = &Problem{Rung: RungVLAN}
	}
	return list
}

func TestChoosePairsSamples(t *testing.T) {
	nics := append(crowd("red", 40, 20, 0, 7), crowd("blue", 25, 30)...)
	for i, n := range nics {
		n.index = i
	}
	pairs := choosePairs(nics, false)
	if len(pairs) > 4*65 {
		t.Errorf("%d pairs of 65 guests are no sample", len(pairs))
	}
	type role struct {
		guest, other string
		expect       Expectation
	}
	sound := map[role]bool{}
	any := map[role]bool{}
	for _, p := range pairs {
		good := p.from.sound() && p.to.sound()
		for _, r := range []role{
			{p.from.guest.Name, "to " + p.to.Want.Network, p.expect},
			{p.to.guest.Name, "from " + p.from.Want.Network, p.expect},
		} {
			any[r] = true
			sound[r] = sound[r] || good
		}
	}
	for _, n := range nics {
		for _, network := range []string{"red", "blue"} {
			e := ExpectIsolation
			if network == n.Want.Network {
				e = ExpectReach
			}
			for _, way := range []string{"to ", "from "} {
				r := role{n.guest.Name, way + network, e}
				if !any[r] || n.sound() && !sound[r] {
					t.Errorf("%+v: tried %v, with a sound partner %v", r, any[r], sound[r])
				}
			}
		}
	}
}

func TestChoosePairsFull(t *testing.T) {
	nics := append(crowd("red", 20, 20), crowd("blue", 10, 30)...)
	for i, n := range nics {
		n.index = i
	}
	if got := len(choosePairs(nics, true)); got != 30*29 {
		t.Errorf("%d pairs, want all %d", got, 30*29)
	}
}

func TestChoosePairsTouchesSelected(t *testing.T) {
	nics := crowd("red", 5, 20)
	for i, n := range nics {
		n.index, n.selected = i, i == 2
	}
	for _, p := range choosePairs(nics, true) {
		if p.from != nics[2] && p.to != nics[2] {
			t.Errorf("%s -> %s has nothing to do with the guest that was asked for", p.from.guest.Name, p.to.guest.Name)
		}
	}
}

func TestJudgePair(t *testing.T) {
	addressed := func(n *nic) *nic { n.address.Addr = ipA; return n }
	for _, test := range []struct {
		name    string
		pair    pair
		broken  RungName // of the target
		control string
		blind   bool
		status  Status
		cause   string
	}{
		{"leak", pair{expect: ExpectIsolation, entered: true, unicast: true}, "", "c", false, StatusLeak, ""},
		{"leak by broadcast, unseen entering", pair{expect: ExpectIsolation, broadcast: true}, "", "", true, StatusLeak, ""},
		{"leak by a wrong port", pair{expect: ExpectIsolation, entered: true, broadcast: true}, RungVLAN, "c", false, StatusLeak, "X: y"},
		{"wrong port, no leak", pair{expect: ExpectIsolation, entered: true}, RungVLAN, "c", false, StatusNotReached, "X: y"},
		{"not seen entering", pair{expect: ExpectIsolation}, "", "c", false, StatusInconclusive, ""},
		{"no control", pair{expect: ExpectIsolation, entered: true}, "", "", false, StatusInconclusive, ""},
		{"frames went by unseen", pair{expect: ExpectIsolation, entered: true}, "", "c", true, StatusInconclusive, ""},
		{"guest silent and no control", pair{expect: ExpectIsolation, entered: true}, RungMAC, "", false, StatusInconclusive, ""},
		{"apart", pair{expect: ExpectIsolation, entered: true}, "", "c", false, StatusPass, ""},
		{"guest silent, but it hears", pair{expect: ExpectIsolation, entered: true}, RungMAC, "c", false, StatusPass, ""},
		{"not delivered", pair{expect: ExpectReach, entered: true}, "", "", false, StatusFail, ""},
		{"not delivered, and frames went by unseen", pair{expect: ExpectReach, entered: true}, "", "", true, StatusInconclusive, ""},
		{"answers, and frames went by unseen", pair{expect: ExpectReach, arp: true}, "", "", true, StatusPass, ""},
		{"never entered", pair{expect: ExpectReach}, "", "", false, StatusInconclusive, ""},
		{"delivered, not answered", pair{expect: ExpectReach, entered: true, unicast: true}, "", "", false, StatusFail, ""},
		{"no ICMP", pair{expect: ExpectReach, arp: true, wantICMP: true}, "", "", false, StatusFail, ""},
		{"target is broken", pair{expect: ExpectReach, entered: true}, RungARP, "", false, StatusNotReached, "X: y"},
		{"target drops echoes, and answers ARP", pair{expect: ExpectReach, arp: true}, RungICMP, "", false, StatusPass, ""},
		{"target drops echoes, and is not reached", pair{expect: ExpectReach, entered: true}, RungICMP, "", false, StatusFail, ""},
		{"gateway of the target is broken", pair{expect: ExpectReach, arp: true}, RungGateway, "", false, StatusPass, ""},
		{"answers", pair{expect: ExpectReach, arp: true, icmp: true, wantICMP: true}, "", "", false, StatusPass, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := test.pair
			p.from, p.to = on("red", "ovs0", access(20)), addressed(on("blue", "ovs0", access(30)))
			if test.broken != "" {
				code := choose(test.broken == RungICMP, CodeICMPFiltered, "X")
				p.to.problem = &Problem{Problem: vnet.Problem{Code: code, Subject: "y"}, Rung: test.broken}
			}
			var got PairResult
			if p.expect == ExpectReach {
				p.judgeReach(&got, test.blind)
			} else {
				p.judgeApart(&got, test.control, test.blind)
			}
			if got.Status != test.status || got.Cause != test.cause {
				t.Errorf("%s, cause %q; want %s, cause %q", got.Status, got.Cause, test.status, test.cause)
			}
			if p.from.rungs[0].Status = StatusFail; p.expect == ExpectIsolation && !p.delivered() {
				p.from.problem = &Problem{Problem: vnet.Problem{Code: "X", Subject: "y"}, Rung: RungMAC}
				var mute PairResult
				if p.judgeApart(&mute, test.control, false); mute.Status != StatusNotReached || mute.Cause == "" {
					t.Errorf("from a guest that never spoke: %+v", mute)
				}
			}
			if got.Status == StatusInconclusive && got.Reason == "" {
				t.Error("inconclusive without a reason")
			}
			if got.Status == StatusPass && p.expect == ExpectIsolation && got.Control == "" {
				t.Error("a proof without its control")
			}
		})
	}
}

// Of a pair whose end went away only what arrived is certain.
func TestPardonPair(t *testing.T) {
	const gone = "its device vnet0 vanished during the run"
	for _, test := range []struct {
		name     string
		expect   Expectation
		from, to string
		was      Status
		want     Status
	}{
		{"isolated from who is gone", ExpectIsolation, "", gone, StatusPass, StatusInconclusive},
		{"isolated, of who is gone", ExpectIsolation, gone, "", StatusPass, StatusPass},
		{"leaked to who is gone", ExpectIsolation, "", gone, StatusLeak, StatusLeak},
		{"reached who is gone", ExpectReach, "", gone, StatusPass, StatusPass},
		{"did not reach who is gone", ExpectReach, "", gone, StatusFail, StatusInconclusive},
		{"who is gone did not reach", ExpectReach, gone, "", StatusFail, StatusInconclusive},
		{"nobody is gone", ExpectIsolation, "", "", StatusPass, StatusPass},
	} {
		p := &pair{from: on("red", "ovs0", access(20)), to: on("blue", "ovs0", access(30)), expect: test.expect}
		p.from.vanished, p.to.vanished = test.from, test.to
		got := PairResult{Status: test.was, Control: "answers ARP"}
		p.pardon(&got)
		if got.Status != test.want || got.Status == StatusInconclusive && (got.Reason == "" || got.Control != "") {
			t.Errorf("%s: %+v, want %s", test.name, got, test.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	nics := func(s ...Status) (list []NICResult) {
		for _, status := range s {
			list = append(list, NICResult{Status: status})
		}
		return list
	}
	for _, test := range []struct {
		name   string
		report Report
		want   Verdict
	}{
		{"nothing checked", Report{}, VerdictInconclusive},
		{"a leak beats a failure", Report{NICs: nics(StatusFail), Pairs: []PairResult{{Status: StatusLeak}}}, VerdictLeak},
		{"a failure beats a doubt", Report{NICs: nics(StatusInconclusive, StatusFail)}, VerdictFail},
		{"a failed pair", Report{NICs: nics(StatusPass), Pairs: []PairResult{{Status: StatusFail}}}, VerdictFail},
		{"a doubt beats a pass", Report{NICs: nics(StatusPass, StatusInconclusive)}, VerdictInconclusive},
		{"an unproved pair", Report{NICs: nics(StatusPass), Pairs: []PairResult{{Status: StatusInconclusive}}}, VerdictInconclusive},
		{"a limit", Report{NICs: nics(StatusPass), Limits: []string{"no privilege"}}, VerdictInconclusive},
		{"pass", Report{NICs: nics(StatusPass, StatusPass), Pairs: []PairResult{{Status: StatusPass}, {Status: StatusSkip}}}, VerdictPass},
	} {
		if got := test.report.Verdict(); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestGatherMakesOneOfMany(t *testing.T) {
	gateway := func(guest string) *Problem {
		return &Problem{
			Problem: vnet.Problem{Code: CodeGatewayUnreachable, Subject: "network red", Got: "silence", Evidence: []string{"e"}},
			Affects: []Endpoint{{Guest: guest, Network: "red"}},
		}
	}
	leak := &Problem{
		Problem: vnet.Problem{Code: CodeWrongVLAN, Subject: "guest z, NIC vnet9"},
		Affects: []Endpoint{{Guest: "z"}}, Leaks: []string{"b", "a", "a"},
	}
	down := &Problem{Problem: vnet.Problem{Code: CodeDomainDown, Subject: "guest x"}, Affects: []Endpoint{{Guest: "x"}}}
	got := gather([]*Problem{gateway("b"), gateway("a"), down, leak})
	want := []Problem{
		{Problem: leak.Problem, Affects: []Endpoint{{Guest: "z"}}, Leaks: []string{"a", "b"}},
		{Problem: down.Problem, Affects: []Endpoint{{Guest: "x"}}},
		{
			Problem: gateway("").Problem,
			Affects: []Endpoint{{Guest: "a", Network: "red"}, {Guest: "b", Network: "red"}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestCodesAreKnown(t *testing.T) {
	order := Rungs()
	at := 0
	for _, c := range Codes() {
		for c.Rung != "" && at < len(order) && order[at] != c.Rung {
			at++
		}
		if c.Meaning == "" || c.Evidence == "" || c.Cause == "" || c.Fix == "" || at == len(order) {
			t.Errorf("%s is not in the order of the ladder, or says nothing", c.Code)
		}
	}
}
