// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// row is one line of the table: two of the medians of a group, and what their
// ratio should be.
type row struct {
	name  string // what was done
	group string // the group that measures it
	ours  string // the names of the two medians in the group
	peer  string
	// peerIs says who the peer is.
	peerIs string
	budget budget
}

// group measures contenders that do comparable work, in turns.
type group struct {
	name    string
	measure func(context.Context, *bench) (medians, error)
}

// groups returns all groups in the order in which they are measured. Those that
// leave a thousand ports behind come last.
func groups() []group {
	return []group{
		{"linux, 1 NIC", func(ctx context.Context, b *bench) (medians, error) { return b.linux(ctx, 1) }},
		{"linux, 8 NICs", func(ctx context.Context, b *bench) (medians, error) { return b.linux(ctx, 8) }},
		{"linux, 64 NICs", func(ctx context.Context, b *bench) (medians, error) { return b.linux(ctx, 64) }},
		{"further NICs", furtherNICs},
		{"networks", manyNetworks},
		{"crowd", crowd},
		{"define", define},
		{"virsh", defineFew},
		{"ovs, 1 NIC", func(ctx context.Context, b *bench) (medians, error) { return b.ovs(ctx, 1) }},
		{"ovs, 8 NICs", func(ctx context.Context, b *bench) (medians, error) { return b.ovs(ctx, 8) }},
		{"ovs, 100 NICs", func(ctx context.Context, b *bench) (medians, error) { return b.ovs(ctx, ovsMost) }},
		{"ovs, ways", func(ctx context.Context, b *bench) (medians, error) { return b.ovsWays(ctx) }},
		{"OVN ports", ovnPorts},
		{"one by one", func(ctx context.Context, b *bench) (medians, error) { return oneByOne(ctx, b, false) }},
		{"one by one, guarded", func(ctx context.Context, b *bench) (medians, error) { return oneByOne(ctx, b, true) }},
		{"release", release},
		{"repair", repairAll},
		{"VLANs", vlans},
		{"throng", throng},
		{"collect", collect},
		{"ask", askGuests},
		{"every pair", everyPair},
		{"plan", plan},
		{"hall, OVS", ovsHall},
		{"forwarding", forwarding},
	}
}

// The names of contenders.
const (
	hookName  = "hook"  // virt-vnet-hook
	noopName  = "noop"  // a Go program that does nothing
	loopName  = "loop"  // a shell hook that calls the tools for each NIC
	batchName = "batch" // one that calls each tool once
)

// The peers in words.
const (
	noopIs     = "Go program that does nothing"
	linuxLoop  = "bash: ip and bridge per NIC"
	linuxBatch = "bash: one ip -batch, one bridge -batch"
	ovsLoop    = "bash: ovs-vsctl per NIC"
	ovsOnce    = "bash: one ovs-vsctl for all"
	firstOnes  = "the same for the first 100"
	wireIs     = "as many frames, there and back, unread"
	oneWayIs   = "as many frames, one way"
	limitIs    = "the budget"
	windowIs   = "the windows of a silent guest"
)

// rows returns the table: section 9 of the design, and for honesty the
// strongest script that does each job, which has no budget.
func rows() []row {
	return []row{
		{"hook, Linux bridge, 1 NIC", "linux, 1 NIC", hookName, noopName, noopIs, atMost(2.5)},
		{"hook, Linux bridge, 1 NIC", "linux, 1 NIC", hookName, loopName, linuxLoop, fasterBy(2)},
		{"hook, Linux bridge, 1 NIC", "linux, 1 NIC", hookName, batchName, linuxBatch, budget{}},
		{"hook, Linux bridge, 8 NICs", "linux, 8 NICs", hookName, loopName, linuxLoop, budget{}},
		{"hook, Linux bridge, 8 NICs", "linux, 8 NICs", hookName, batchName, linuxBatch, budget{}},
		{"hook, Linux bridge, 64 NICs", "linux, 64 NICs", hookName, loopName, linuxLoop, fasterBy(20)},
		{"hook, Linux bridge, 64 NICs", "linux, 64 NICs", hookName, batchName, linuxBatch, budget{}},
		{"hook, each further NIC, 1 to 8", "further NICs", "few", "few, loop", linuxLoop, within(300 * time.Microsecond)},
		{"hook, each further NIC, 8 to 64", "further NICs", "many", "many, loop", linuxLoop, within(300 * time.Microsecond)},
		{"hook, 5,000 networks defined", "networks", "5000", "1", "the same with 1 network", atMost(1.1)},
		{"100 guests starting at once", "crowd", "at once", "alone", "CPU time of the 100 hooks alone / cores", atMost(1.5)},
		{"define 200 networks", "define", "ours", "raw", "raw libvirt API, one connection", atMost(1.3)},
		{"define 20 networks", "virsh", "ours", "virsh", "virsh net-define, 20 times", budget{}},
		{"hook, OVS, 1 NIC", "ovs, 1 NIC", hookName, loopName, ovsLoop, budget{}},
		{"hook, OVS, 8 NICs", "ovs, 8 NICs", hookName, loopName, ovsLoop, fasterBy(8)},
		{"hook, OVS, 8 NICs", "ovs, 8 NICs", hookName, batchName, ovsOnce, atMost(1.3)},
		{"hook, OVS, 100 NICs", "ovs, 100 NICs", hookName, loopName, ovsLoop, fasterBy(20)},
		{"hook, OVS, 100 NICs", "ovs, 100 NICs", hookName, batchName, ovsOnce, atMost(1.3)},
		{"hook, OVS, its socket, 1 NIC", "ovs, ways", "unix", noopName, noopIs, budget{}},
		{"hook, OVS, TLS, 1 NIC", "ovs, ways", "tls", noopName, noopIs, budget{}},
		{"hook, OVS, TLS, 1 NIC", "ovs, ways", "tls", "unix", "the same over its socket", budget{}},
		{"write 500 ports of OVN", "OVN ports", "Ports 500ours", "Ports 500nbctl", "ovn-nbctl per port", fasterBy(20)},
		{"write a port of OVN, of 2,000", "OVN ports", "Ports 2000each", "Ports 100each", "one of 100", atMost(1.3)},
		{"hook CPU, last 100 of 1,000 ports", "one by one", "last", "first", firstOnes, atMost(1.3)},
		{"wiring, last 100 of 1,000 ports", "one by one", "last, wiring", "first, wiring", firstOnes, atMost(1.3)},
		{"hook CPU, last 100 of 1,000 guarded", "one by one, guarded", "last", "first", firstOnes, atMost(1.3)},
		{"wiring, last 100 of 1,000 guarded", "one by one, guarded", "last, wiring", "first, wiring", firstOnes, atMost(1.3)},
		{"release, last 100 of 1,000 guarded", "release", "last", "first", "the same with 100 guarded ports", budget{}},
		{"repair, last 100 of 1,000 guarded", "repair", "last", "first", firstOnes, atMost(1.3)},
		{"observe 1,000 ports, 10 VLANs each, emulated", "VLANs", "observe", "dump", "raw netlink dump, in an emulated machine", atMost(3)},
		{"plan, 1,000 ports, no drift, CPU", "plan", "ours", "ip", "CPU of ip -d -j link show", within(150 * time.Millisecond)},
		{"plan, 1,000 OVS ports, no drift, CPU", "hall, OVS", "plan", "list", "CPU of ovs-vsctl list port", within(150 * time.Millisecond)},
		{"repair, 1,000 OVS ports, one transaction", "hall, OVS", "repair", "once", ovsOnce, budget{}},
		{"ask 1,000 guests", "throng", "1000 asked", "1000 wire", wireIs, within(20 * time.Millisecond)},
		{"ask 10,000 guests", "throng", "10000 asked", "10000 wire", wireIs, atMost(1.5)},
		{"ask 10,000 guests", "throng", "10000 asked", "10000 oneway", oneWayIs, budget{}},
		{"verify 10,000 guests, memory", "throng", "Memory peak", "", limitIs, megabytes(64)},
		{"ask 1,000 guests, a tenth dead", "throng", "1000,dead asked", "1000,dead windows", windowIs, atMost(1.1)},
		{"ask 10,000 guests, a tenth dead", "throng", "10000,dead asked", "10000,dead windows", windowIs, atMost(1.1)},
		{"collect 1,000 guests", "collect", "ours", "virsh", "virsh: dumpxml of each, one connection", atMost(3)},
		{"ask 500 guests of a bridge", "ask", "ours", fpingTuned, fpingTuned, fasterBy(15)},
		{"ask 500 guests of a bridge", "ask", "ours", arpScanTuned, arpScanTuned, fasterBy(15)},
		{"ask 500 guests of a bridge", "ask", "ours", nmapTuned, nmapTuned, fasterBy(15)},
		{"ask 500 guests of a bridge", "ask", "ours", fpingKnown, fpingKnown, budget{}},
		{"ask 500 guests of a bridge", "ask", "ours", arpScan, arpScan, budget{}},
		{"ask 500 guests of a bridge", "ask", "ours", nmapPlain, nmapPlain, budget{}},
		{"verify 500 guests, every pair", "every pair", "every pair", "sampled", "the same with a sample of pairs", within(10 * time.Second)},
		{"512 frames, 1,000 guarded ports", "forwarding", "1000", "10", "the same with 10 guarded ports", asFastAs(0.9)},
		{"512 frames, 10 guarded ports", "forwarding", "10", "0", "the same without any guard", budget{}},
	}
}

// choose returns the rows whose name and peer match.
func choose(all []row, pattern *regexp.Regexp) []row {
	return slices.DeleteFunc(all, func(r row) bool { return !pattern.MatchString(r.name + " / " + r.peerIs) })
}

// of returns the rows that a group measures.
func of(all []row, group string) []row {
	var mine []row
	for _, r := range all {
		if r.group == group {
			mine = append(mine, r)
		}
	}
	return mine
}

// result is the row with its figures. err is why its group has none.
func (r row) result(m medians, err error) result {
	res := result{Name: r.name, PeerIs: r.peerIs, Budget: r.budget.String(), limit: r.budget}
	if used, ok := m.megabytes[r.ours]; ok && err == nil && r.budget.memory > 0 {
		res.OursMB, res.Ratio, res.Rounds = used, used/r.budget.memory, 1
		res.Verdict = verdictOf(used <= r.budget.memory)
		return res
	}
	ours, okOurs := m.of[r.ours]
	peer, okPeer := m.of[r.peer]
	if err == nil && (!okOurs || !okPeer) {
		err = fmt.Errorf("row %s: group %s measures no %q or %q", r.name, r.group, r.ours, r.peer)
	}
	if err != nil {
		res.Verdict, res.Error = verdictError, err.Error()
		return res
	}
	res.Ours, res.Peer, res.Rounds = ours, peer, m.rounds
	res.Ratio, res.Verdict = r.budget.judge(ours, peer)
	return res
}
