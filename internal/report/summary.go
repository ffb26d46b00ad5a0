// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/verify"
)

// tally is what a network's line says.
type tally struct {
	nics    map[verify.Status]int
	guests  []string
	gateway map[verify.Status]int
	reach   map[verify.Status]int
	// latency are the NICs' medians, sent and lost their frames.
	latency    []time.Duration
	sent, lost int
	apart      map[string]map[verify.Status]int
}

func (p *printer) networks(r Result) {
	if len(r.NICs) == 0 {
		p.line("")
		p.line("No NIC was checked.")
		return
	}
	tallies := tallyUp(r)
	rows := [][]cell{{{"NETWORK", dim}, {"GUESTS", dim}, {"NICS", dim}, {"GATEWAY", dim}, {"REACH", dim}, {"LATENCY", dim}, {"KEPT APART FROM", dim}}}
	measured := false
	for _, name := range slices.Sorted(maps.Keys(tallies)) {
		t := tallies[name]
		measured = measured || t.sent > 0
		rows = append(rows, []cell{
			{name, bold}, {brief(t.guests, 4), ""}, ratio(t.nics), ratio(t.gateway), ratio(t.reach), t.latencyCell(), apart(t.apart),
		})
	}
	if !measured {
		for i := range rows {
			rows[i] = slices.Delete(rows[i], 5, 6)
		}
	}
	p.line("")
	p.table(rows)
}

func tallyUp(r Result) map[string]*tally {
	all := map[string]*tally{}
	for _, n := range r.NICs {
		t := all[n.Network]
		if t == nil {
			t = &tally{
				nics: map[verify.Status]int{}, gateway: map[verify.Status]int{},
				reach: map[verify.Status]int{}, apart: map[string]map[verify.Status]int{},
			}
			all[n.Network] = t
		}
		t.nics[counted(n.Status, n.Waived)]++
		t.gateway[counted(n.Rung(verify.RungGateway).Status, n.Waived)]++
		if g := t.guests; len(g) == 0 || g[len(g)-1] != n.Guest {
			t.guests = append(t.guests, n.Guest)
		}
		if l := n.Latency; l != nil {
			t.sent, t.lost = t.sent+l.Sent, t.lost+l.Sent-l.Received
			if l.Received > 0 {
				t.latency = append(t.latency, l.Median)
			}
		}
	}
	for _, pair := range r.Pairs {
		if pair.Expect == verify.ExpectReach {
			if t := all[pair.From.Network]; t != nil {
				t.reach[counted(pair.Status, pair.Waived)]++
			}
			continue
		}
		countApart(all, pair, pair.From.Network, pair.To.Network)
		if pair.From.Network != pair.To.Network {
			countApart(all, pair, pair.To.Network, pair.From.Network)
		}
	}
	return all
}

func countApart(all map[string]*tally, pair verify.PairResult, network, other string) {
	t := all[network]
	if t == nil {
		return
	}
	if t.apart[other] == nil {
		t.apart[other] = map[verify.Status]int{}
	}
	t.apart[other][counted(pair.Status, pair.Waived)]++
}

// latencyCell is the latency in the middle of the NICs', the worst NIC's, and
// what was lost.
func (t *tally) latencyCell() cell {
	var parts []string
	if n := len(t.latency); n > 0 {
		slices.Sort(t.latency)
		text := milliseconds(t.latency[(n-1)/2])
		if n > 1 {
			text += " to " + milliseconds(t.latency[n-1])
		}
		parts = append(parts, text+" ms")
	}
	if t.lost > 0 {
		return cell{strings.Join(append(parts, fmt.Sprintf("%d of %d lost", t.lost, t.sent)), ", "), yellow}
	}
	if len(parts) == 0 {
		return cell{"-", dim}
	}
	return cell{parts[0], ""}
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond))
}

// ratio says how many of those that could be checked are fine. What was not
// reached because of something else is not counted.
func ratio(n map[verify.Status]int) cell {
	good, bad, unsure := n[verify.StatusPass], n[verify.StatusFail]+n[verify.StatusLeak], n[verify.StatusInconclusive]+n[statusWaived]
	switch {
	case good+bad+unsure == 0:
		return cell{"-", dim}
	case bad > 0:
		return cell{fmt.Sprintf("%d of %d", good, good+bad+unsure), red}
	case unsure > 0:
		return cell{fmt.Sprintf("%d of %d", good, good+unsure), yellow}
	}
	return cell{fmt.Sprintf("%d of %d", good, good), green}
}

// apart lists the networks that a network is kept apart from, the worst first.
func apart(networks map[string]map[verify.Status]int) cell {
	var leaks, waived, unsure, proved []string
	for _, name := range slices.Sorted(maps.Keys(networks)) {
		n := networks[name]
		switch {
		case n[verify.StatusLeak] > 0:
			leaks = append(leaks, name)
		case n[statusWaived] > 0:
			waived = append(waived, name)
		case n[verify.StatusInconclusive] > 0:
			unsure = append(unsure, name)
		case n[verify.StatusPass] > 0:
			proved = append(proved, name)
		}
	}
	var parts []string
	color := green
	if len(proved) > 0 {
		parts = append(parts, brief(proved, 6))
	}
	if len(unsure) > 0 {
		parts, color = append([]string{"not proved: " + brief(unsure, 6)}, parts...), yellow
	}
	if len(waived) > 0 {
		parts, color = append([]string{"leaks, waived: " + brief(waived, 6)}, parts...), yellow
	}
	if len(leaks) > 0 {
		parts, color = append([]string{"LEAKS: " + brief(leaks, 6)}, parts...), red
	}
	if len(parts) == 0 {
		return cell{"-", dim}
	}
	return cell{strings.Join(parts, "; "), color}
}

// reason is why something was not checked, and for whom.
type reason struct {
	text    string
	affects []string
}

// unsure collects what should have been told and could not be.
func unsure(r Result) []reason {
	var list []reason
	for _, l := range r.Limits {
		list = append(list, reason{text: l})
	}
	list = append(list, rungReasons(r, verify.StatusInconclusive)...)
	byText := map[string][]string{}
	for _, pair := range r.Pairs {
		if pair.Status == verify.StatusInconclusive {
			byText[pair.Reason] = append(byText[pair.Reason], fmt.Sprintf("%s -> %s", pair.From, pair.To))
		}
	}
	return append(list, sorted(byText)...)
}

func skipped(r Result) []reason { return rungReasons(r, verify.StatusSkip) }

// rungReasons brings together the NICs and rungs that have the same reason.
func rungReasons(r Result, status verify.Status) []reason {
	byText := map[string][]string{}
	rungs := map[string][]string{}
	for _, n := range r.NICs {
		for _, rung := range n.Rungs {
			if rung.Status != status {
				continue
			}
			// The NICs are sorted, so that the same name comes in a row.
			list, name := byText[rung.Reason], n.String()
			if len(list) == 0 || list[len(list)-1] != name {
				byText[rung.Reason] = append(list, name)
			}
			if name := string(rung.Name); !slices.Contains(rungs[rung.Reason], name) {
				rungs[rung.Reason] = append(rungs[rung.Reason], name)
			}
		}
	}
	list := sorted(byText)
	for i := range list {
		list[i].text = strings.Join(rungs[list[i].text], ", ") + ": " + list[i].text
		list[i].affects = wholeNetworks(list[i].affects, r)
	}
	return list
}

// wholeNetworks puts a network's name in the place of its NICs when all of them
// are there.
func wholeNetworks(nics []string, r Result) []string {
	members := map[string][]string{}
	for _, n := range r.NICs {
		members[n.Network] = append(members[n.Network], n.String())
	}
	here := map[string]bool{}
	for _, nic := range nics {
		here[nic] = true
	}
	var whole []string
	for _, network := range slices.Sorted(maps.Keys(members)) {
		if slices.ContainsFunc(members[network], func(nic string) bool { return !here[nic] }) {
			continue
		}
		whole = append(whole, "network "+network)
		for _, nic := range members[network] {
			delete(here, nic)
		}
	}
	return append(whole, slices.DeleteFunc(nics, func(nic string) bool { return !here[nic] })...)
}

func sorted(byText map[string][]string) []reason {
	list := make([]reason, 0, len(byText))
	for text, affects := range byText {
		list = append(list, reason{text, affects})
	}
	slices.SortFunc(list, func(a, b reason) int {
		return cmp.Or(-cmp.Compare(len(a.affects), len(b.affects)), cmp.Compare(a.text, b.text))
	})
	return list
}
