// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// expect says what should happen to untagged frames from a to b by the spec, or
// "" when it says nothing.
func expect(a, b *nic) Expectation {
	if a == b || !a.placed() || !b.placed() || a.away != "" || b.away != "" && (!a.overlay() || !a.siblingOf(b)) {
		return ""
	}
	if a.macvtap() || b.macvtap() || a.Want.Switch != b.Want.Switch {
		return expectApart(a, b)
	}
	return expectOnSwitch(a, b)
}

// expectOnSwitch is for NICs of one switch.
func expectOnSwitch(a, b *nic) Expectation {
	switch vlan := a.pvid(); {
	case a.spans() != b.spans():
		return ExpectIsolation
	case vlan == 0 && b.Want.Policy.VLAN.IsTrunk():
		return "" // switches differ in whether a trunk carries untagged frames
	case !b.carries(vlan):
		return ExpectIsolation
	case a.Want.Policy.Isolated && b.Want.Policy.Isolated:
		return ExpectIsolation
	case a.siblingOf(b) && b.untagged() && b.pvid() == vlan:
		return ExpectReach
	}
	// One VLAN in two networks, or untagged here and tagged there: the spec
	// lets them meet and does not ask for it.
	return ""
}

// siblingOf reports whether both are in one network and of two guests: no guest
// answers itself.
func (n *nic) siblingOf(o *nic) bool { return n.Want.Network == o.Want.Network && n.guest != o.guest }

// placed reports whether it is known where the NIC belongs, and whether it has
// a place for untagged frames there.
func (n *nic) placed() bool {
	if n.resting() {
		return false
	}
	if n.macvtap() {
		return n.lower != "" && n.hasLink
	}
	return n.Want.Switch != "" && n.untagged()
}

// expectApart is for NICs that are not on the same switch of this host.
func expectApart(a, b *nic) Expectation {
	if a.macvtap() && b.macvtap() && a.lower == b.lower {
		if a.siblingOf(b) && a.link.mode == vnet.MacvtapBridge && b.link.mode == vnet.MacvtapBridge {
			return ExpectReach
		}
		// The other modes leave it to the fabric whether siblings meet.
		return ""
	}
	if a.uplinked() && b.uplinked() && a.fabricVLAN() == b.fabricVLAN() {
		return "" // the fabric may join them
	}
	if overlap(a.network.Subnet, b.network.Subnet) {
		return "" // they look like two legs of one network
	}
	return ExpectIsolation
}

// uplinked reports whether the NIC's frames can leave the host.
func (n *nic) uplinked() bool {
	return n.macvtap() || n.sw != nil && n.sw.Uplink != ""
}

// fabricVLAN is the VLAN in which the NIC's frames leave the host.
func (n *nic) fabricVLAN() vnet.VLANID {
	if n.macvtap() {
		return 0
	}
	return n.pvid()
}

func overlap(a, b netip.Prefix) bool { return a.IsValid() && b.IsValid() && a.Overlaps(b) }

// pair is an ordered pair of NICs, and what became of its frames.
type pair struct {
	from, to *nic
	expect   Expectation

	entered   bool
	unicast   bool
	broadcast bool
	arp, icmp bool
	wantICMP  bool
}

func (p *pair) delivered() bool { return p.unicast || p.broadcast }

// done reports whether a pair that should reach each other does.
func (p *pair) done() bool {
	return p.arp && (p.icmp || !p.wantICMP) || p.delivered() && !p.to.address.Addr.IsValid()
}

// class is NICs of which one is as good as another for pairs.
type class struct {
	network, place string
	vlan           string
	isolated       bool
}

func (n *nic) class() class {
	return class{n.Want.Network, n.Want.Switch + n.lower, n.Want.Policy.VLAN.String(), n.Want.Policy.Isolated}
}

// allPairsUpTo is how many pairs of two classes are tried in full.
const allPairsUpTo = 64

// choosePairs picks the pairs to try. With full it takes all; otherwise it
// takes all of small classes, and of large ones so many that every NIC is
// source once and target once towards each class. Broken NICs are paired too,
// but never in place of a sound one.
func choosePairs(nics []*nic, full bool) []*pair {
	var classes []class
	members := map[class][]*nic{}
	for _, n := range nics {
		c := n.class()
		if members[c] == nil {
			classes = append(classes, c)
		}
		members[c] = append(members[c], n)
	}
	var pairs []*pair
	for _, a := range classes {
		for _, b := range classes {
			sources, targets := members[a], members[b]
			if full || len(sources)*len(targets) <= allPairsUpTo {
				pairs = appendAll(pairs, sources, targets)
			} else {
				pairs = appendSample(pairs, sources, targets)
			}
		}
	}
	slices.SortFunc(pairs, comparePairs)
	return slices.CompactFunc(pairs, func(p, q *pair) bool { return p.from == q.from && p.to == q.to })
}

func comparePairs(p, q *pair) int {
	return cmp.Or(cmp.Compare(p.from.index, q.from.index), cmp.Compare(p.to.index, q.to.index))
}

func appendPair(pairs []*pair, a, b *nic) []*pair {
	if !a.selected && !b.selected {
		return pairs
	}
	if e := expect(a, b); e != "" {
		return append(pairs, &pair{from: a, to: b, expect: e, wantICMP: a.probe.target.icmp && b.probe.target.icmp})
	}
	return pairs
}

func appendAll(pairs []*pair, sources, targets []*nic) []*pair {
	for _, a := range sources {
		for _, b := range targets {
			pairs = appendPair(pairs, a, b)
		}
	}
	return pairs
}

func appendSample(pairs []*pair, sources, targets []*nic) []*pair {
	goodSources, badSources := bySoundness(sources)
	goodTargets, badTargets := bySoundness(targets)
	if len(goodSources) > 0 && len(goodTargets) > 0 {
		for i := range max(len(goodSources), len(goodTargets)) {
			// Within a class the next one, so that nobody meets itself.
			a, b := goodSources[i%len(goodSources)], goodTargets[(i+1)%len(goodTargets)]
			pairs = appendPair(pairs, a, b)
		}
	}
	pairs = appendAll(pairs, badSources, targets[:1])
	return appendAll(pairs, sources[:1], badTargets)
}

func bySoundness(nics []*nic) (good, bad []*nic) {
	for _, n := range nics {
		if n.sound() {
			good = append(good, n)
		} else {
			bad = append(bad, n)
		}
	}
	return good, bad
}

// sound reports whether the NIC itself works, so that what fails between it and
// another is no consequence. An uplink that is down and a gateway that is silent
// are no fault of the NIC, short frames pass whatever the MTU, a port that loses
// some frames passes others, and a guest that drops echoes may do nothing else.
func (n *nic) sound() bool {
	if n.problem == nil {
		return n.held == ""
	}
	return n.dropsEcho() || slices.Contains([]RungName{RungMTU, RungUplink, RungGateway, RungPathMTU, RungCounters}, n.broken())
}

// dropsEcho reports whether all that is wrong is that the guest does not answer
// ICMP echo.
func (n *nic) dropsEcho() bool { return n.brokenAt(RungICMP) && n.problem.Code == CodeICMPFiltered }

// cutOff reports whether nothing of the NIC leaves the host.
func (n *nic) cutOff() bool {
	return n.brokenAt(RungUplink) && n.problem.Code != CodeMTUMismatch
}
