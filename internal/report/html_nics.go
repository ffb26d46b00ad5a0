// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/verify"
)

// detailedUpTo is how many NICs may be in a report for those that pass to be
// shown with their evidence, too.
const detailedUpTo = 100

// nicTable is the NICs, the broken ones first.
type nicTable struct {
	Rows  []nicRow
	More  int
	Rungs []verify.RungName
	// Latency and Waited are whether any NIC has a value there.
	Latency, Waited bool
}

// nicRow is one NIC.
type nicRow struct {
	verify.NICResult

	// Place is the switch and VLAN, or the device below a macvtap.
	Place string
	// Stop is the rung that decides the status, and Says what the strip shows.
	Stop verify.Rung
	Says string
	// Steps are the rungs of the strip; Details those shown with their
	// evidence, or nil.
	Steps   []pageMark
	Details []verify.Rung
	// Loss is the share of echoes not answered, such as "3 of 20 lost".
	Loss string
}

func newNICTable(r verify.Report) nicTable {
	t := nicTable{Rungs: verify.Rungs()}
	sorted := slices.Clone(r.NICs)
	slices.SortStableFunc(sorted, func(a, b verify.NICResult) int {
		return cmp.Compare(badness(drawnStatus(b)), badness(drawnStatus(a)))
	})
	for i, n := range sorted {
		if i == mostNICs {
			t.More = len(sorted) - mostNICs
			break
		}
		t.Latency = t.Latency || n.Latency != nil
		t.Waited = t.Waited || n.ReachableAfter > 0
		t.Rows = append(t.Rows, newNICRow(n, len(r.NICs) <= detailedUpTo || n.Status != verify.StatusPass))
	}
	return t
}

func newNICRow(n verify.NICResult, detailed bool) nicRow {
	row := nicRow{NICResult: n, Place: placeOf(n), Stop: stop(n)}
	passed := 0
	for _, name := range verify.Rungs() {
		step := n.Rung(name)
		row.Steps = append(row.Steps, markOf(step.Status))
		if step.Status == verify.StatusPass {
			passed++
		}
		if detailed && step.Status != verify.StatusNotReached {
			step.Evidence = limited(step.Evidence, mostLines)
			row.Details = append(row.Details, step)
		}
	}
	row.Says = fmt.Sprintf("%d rungs pass", passed)
	if row.Stop.Name != "" {
		row.Says = fmt.Sprintf("%s at %s, %s", markOf(row.Stop.Status).Word, row.Stop.Name, row.Says)
	}
	if l := n.Latency; l != nil && l.Received < l.Sent {
		row.Loss = fmt.Sprintf("%d of %d lost", l.Sent-l.Received, l.Sent)
	}
	return row
}

// placeOf says what the NIC is plugged into.
func placeOf(n verify.NICResult) string {
	switch {
	case n.Host != "":
		return strings.TrimSpace(n.Switch+" "+n.VLAN) + " on " + n.Host
	case n.Switch != "":
		return strings.TrimSpace(n.Switch + " " + n.VLAN)
	case n.Lower != "":
		return "macvtap on " + n.Lower
	}
	return ""
}

// stop is the rung that decides the NIC's status, or the zero Rung.
func stop(n verify.NICResult) verify.Rung {
	for _, status := range []verify.Status{verify.StatusFail, verify.StatusInconclusive} {
		for _, r := range n.Rungs {
			if r.Status == status {
				return *r
			}
		}
	}
	return verify.Rung{}
}

// rungCount is how the NICs fared on one rung.
type rungCount struct {
	Name  verify.RungName
	Asks  string
	Parts []rungPart
}

// rungPart is the NICs with one result; From and Width are percentages.
type rungPart struct {
	Mark        pageMark
	Number      int
	From, Width float64
}

func countRungs(r verify.Report) []rungCount {
	var list []rungCount
	for _, name := range verify.Rungs() {
		n := tallyStatus(r.NICs, func(n verify.NICResult) verify.Status { return n.Rung(name).Status })
		c := rungCount{Name: name, Asks: asks(name)}
		from := 0.0
		for _, s := range slices.Backward(badToGood()) {
			if n[s] > 0 {
				width := 100 * float64(n[s]) / float64(len(r.NICs))
				c.Parts = append(c.Parts, rungPart{Mark: markOf(s), Number: n[s], From: from, Width: width})
				from += width
			}
		}
		list = append(list, c)
	}
	return list
}

// asks is the question of a rung.
func asks(name verify.RungName) string {
	return map[verify.RungName]string{
		verify.RungDomain:     "Is the guest running?",
		verify.RungNIC:        "Is the NIC's device there?",
		verify.RungLink:       "Is its link up, with a carrier?",
		verify.RungSwitch:     "Is it on the right switch, and that up?",
		verify.RungForwarding: "Does spanning tree let the port forward?",
		verify.RungVLAN:       "Is it in the right VLANs?",
		verify.RungIsolated:   "Is its isolation as wanted?",
		verify.RungSettings:   "Are its guards, limits and flags?",
		verify.RungMTU:        "Do port, switch and network agree on the MTU?",
		verify.RungMAC:        "Is its MAC learned here and nowhere else?",
		verify.RungAddress:    "Is its address known, and its alone?",
		verify.RungARP:        "Does it answer ARP in its VLAN?",
		verify.RungND:         "Does it answer neighbour discovery?",
		verify.RungICMP:       "Does it answer ICMP echo?",
		verify.RungUplink:     "Is the switch's way out up, with the VLAN?",
		verify.RungGateway:    "Does it reach its gateway?",
		verify.RungPathMTU:    "Do frames of full length pass?",
		verify.RungCounters:   "Does its port lose no frames?",
	}[name]
}
