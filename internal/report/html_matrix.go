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

const (
	// eachUpTo is how many NICs get a row of their own; more are brought
	// together by network.
	eachUpTo = 64
	// mostNetworks is how many networks get a row of their own.
	mostNetworks = 48
	// closerUpTo is how many NICs may be in a report for its pairs to be looked
	// at one by one: the page has a character for each pair.
	closerUpTo = 1200
	// mostReasons is how many pairs say why.
	mostReasons = 5000
)

// pairOutcome is what became of a pair, the worst first: its Letter, Symbol and
// Words are what the page and its script know it by.
type pairOutcome int

const (
	pairLeak pairOutcome = iota
	pairFail
	pairUnsure
	pairWaived
	pairReach
	pairApart
	pairUnreached
	pairNone // nothing was tried
)

var pairOutcomes = []struct{ letter, class, symbol, words string }{
	{"L", "leak", "!", "delivered where it must not be"},
	{"F", "fail", "✗", "not reached as it should be"},
	{"U", "unsure", "?", "inconclusive"},
	{"W", "skip", "~", "not as wanted, and waived"},
	{"R", "pass", "✓", "reached as it should be"},
	{"A", "apart", "‖", "proved apart"},
	{"N", "none", "·", "not tried: an end is broken"},
	{".", "blank", "", "nothing expected"},
}

// Class, Symbol and Words are for the template.
func (o pairOutcome) Class() string { return pairOutcomes[o].class }

// Symbol marks it without colour.
func (o pairOutcome) Symbol() string { return pairOutcomes[o].symbol }

// Words say what it means.
func (o pairOutcome) Words() string { return pairOutcomes[o].words }

func outcomeOf(p verify.PairResult) pairOutcome {
	switch counted(p.Status, p.Waived) {
	case statusWaived:
		return pairWaived
	case verify.StatusLeak:
		return pairLeak
	case verify.StatusFail:
		return pairFail
	case verify.StatusInconclusive:
		return pairUnsure
	case verify.StatusPass:
		if p.Expect == verify.ExpectIsolation {
			return pairApart
		}
		return pairReach
	case verify.StatusNotReached, verify.StatusSkip:
	}
	return pairUnreached
}

// pairCounts is how many pairs had each pairOutcome.
type pairCounts [pairNone + 1]int

// Worst is the pairOutcome that decides.
func (c pairCounts) Worst() pairOutcome {
	for o := range pairNone {
		if c[o] > 0 {
			return o
		}
	}
	return pairNone
}

// pairMatrix is who was made to speak to whom: NIC by NIC, or network by network
// with Closer to look at each.
type pairMatrix struct {
	ByNetwork bool
	Names     []string
	Rows      []matrixRow
	Legend    []pairLegend
	Tried     int
	Worst     pairOutcome
	all       pairCounts

	// Bad are pairs that are not as wanted; MoreBad how many more there are.
	Bad     []verify.PairResult
	MoreBad int
	Closer  *closer
}

type matrixRow struct {
	Name  string
	Cells []matrixCell
}

type matrixCell struct {
	pairOutcome

	Number int
	Says   string
}

type pairLegend struct {
	pairOutcome

	Number int
}

// closer is what the script draws single pairs from.
type closer struct {
	// NICs are the ends, Group the row each is in, Pairs a string of pairOutcome
	// letters for each source.
	NICs  []string `json:"nics"`
	Group []int    `json:"group"`
	Pairs []string `json:"pairs"`
	// Why has, by source and target, the index of a reason.
	Why     map[string]int `json:"why"`
	Reasons []string       `json:"reasons"`
	// Letters and Words describe the pairOutcomes.
	Letters []string `json:"letters"`
	Words   []string `json:"words"`
}

func newMatrix(r verify.Report) pairMatrix {
	ends, index := endsOf(r.Pairs)
	m := pairMatrix{ByNetwork: len(ends) > eachUpTo}
	var place []int
	if m.ByNetwork {
		m.Names, place = byNetwork(ends, r.Pairs)
	} else {
		for i, e := range ends {
			m.Names, place = append(m.Names, e.String()), append(place, i)
		}
	}
	cells := make([][]pairCounts, len(m.Names))
	for i := range cells {
		cells[i] = make([]pairCounts, len(m.Names))
	}
	for _, p := range r.Pairs {
		o := outcomeOf(p)
		m.all[o]++
		cells[place[index[p.From]]][place[index[p.To]]][o]++
		if o == pairLeak || o == pairFail || o == pairUnsure || o == pairWaived {
			m.Bad = append(m.Bad, p)
		}
	}
	for i, row := range cells {
		m.Rows = append(m.Rows, m.row(i, row))
	}
	m.finish()
	if m.ByNetwork && len(ends) <= closerUpTo && m.Tried > 0 {
		m.Closer = newCloser(ends, index, place, r.Pairs)
	}
	return m
}

// finish sums up.
func (m *pairMatrix) finish() {
	m.Worst = m.all.Worst()
	for o, n := range m.all {
		if n > 0 {
			m.Tried += n
			m.Legend = append(m.Legend, pairLegend{pairOutcome(o), n})
		}
	}
	slices.SortStableFunc(m.Bad, func(a, b verify.PairResult) int { return cmp.Compare(outcomeOf(a), outcomeOf(b)) })
	m.MoreBad = max(0, len(m.Bad)-mostRows)
	m.Bad = m.Bad[:len(m.Bad)-m.MoreBad]
}

func (m *pairMatrix) row(from int, row []pairCounts) matrixRow {
	out := matrixRow{Name: m.Names[from]}
	for to, c := range row {
		worst := c.Worst()
		cell := matrixCell{pairOutcome: worst, Number: c[worst]}
		if worst != pairNone {
			cell.Says = m.Names[from] + " to " + m.Names[to] + ": " + c.says(m.ByNetwork)
		}
		out.Cells = append(out.Cells, cell)
	}
	return out
}

func (c pairCounts) says(numbers bool) string {
	var parts []string
	for o, n := range c {
		switch {
		case n == 0:
		case numbers:
			parts = append(parts, fmt.Sprintf("%d %s", n, pairOutcome(o).Words()))
		default:
			parts = append(parts, pairOutcome(o).Words())
		}
	}
	return strings.Join(parts, ", ")
}

// Good is how many pairs are as wanted.
func (m pairMatrix) Good() int { return m.all[pairReach] + m.all[pairApart] }

func (m pairMatrix) notGood() string {
	var parts []string
	for _, o := range []struct {
		pairOutcome
		word string
	}{{pairLeak, "leaking"}, {pairFail, "failed"}, {pairUnsure, "inconclusive"}, {pairWaived, "waived"}, {pairUnreached, "not tried"}} {
		if n := m.all[o.pairOutcome]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o.word))
		}
	}
	return strings.Join(parts, ", ")
}

// endsOf are the NICs that pairs have, in order, and the index of each.
func endsOf(pairs []verify.PairResult) ([]verify.Endpoint, map[verify.Endpoint]int) {
	index := map[verify.Endpoint]int{}
	var ends []verify.Endpoint
	add := func(e verify.Endpoint) {
		if _, ok := index[e]; !ok {
			index[e] = 0
			ends = append(ends, e)
		}
	}
	for _, p := range pairs {
		add(p.From)
		add(p.To)
	}
	slices.SortStableFunc(ends, func(a, b verify.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Guest, b.Guest))
	})
	for i, e := range ends {
		index[e] = i
	}
	return ends, index
}

// byNetwork names the rows, and the row of each end. When there are too many
// networks, those with nothing wrong share the last row.
func byNetwork(ends []verify.Endpoint, pairs []verify.PairResult) (names []string, place []int) {
	worst := map[string]pairOutcome{}
	for _, e := range ends {
		if _, ok := worst[e.Network]; !ok {
			names = append(names, e.Network)
			worst[e.Network] = pairNone
		}
	}
	for _, p := range pairs {
		for _, network := range []string{p.From.Network, p.To.Network} {
			worst[network] = min(worst[network], outcomeOf(p))
		}
	}
	if rest := len(names) - mostNetworks; rest > 0 {
		slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(worst[a], worst[b]) })
		names = append(names[:mostNetworks], fmt.Sprintf("%d other networks", rest))
	}
	row := map[string]int{}
	for i, name := range names {
		row[name] = i
	}
	for _, e := range ends {
		i, ok := row[e.Network]
		if !ok {
			i = len(names) - 1
		}
		place = append(place, i)
	}
	return names, place
}

func newCloser(ends []verify.Endpoint, index map[verify.Endpoint]int, place []int, pairs []verify.PairResult) *closer {
	c := &closer{Group: place, Why: map[string]int{}}
	for _, o := range pairOutcomes {
		c.Letters, c.Words = append(c.Letters, o.letter), append(c.Words, o.words)
	}
	rows := make([][]byte, len(ends))
	for i, e := range ends {
		c.NICs = append(c.NICs, e.Guest)
		rows[i] = []byte(strings.Repeat(pairOutcomes[pairNone].letter, len(ends)))
	}
	reasons := map[string]int{}
	for _, p := range pairs {
		from, to := index[p.From], index[p.To]
		rows[from][to] = pairOutcomes[outcomeOf(p)].letter[0]
		why := cmp.Or(p.Reason, p.Cause)
		if why == "" || len(c.Why) == mostReasons {
			continue
		}
		if _, ok := reasons[why]; !ok {
			reasons[why] = len(c.Reasons)
			c.Reasons = append(c.Reasons, why)
		}
		c.Why[fmt.Sprintf("%d %d", from, to)] = reasons[why]
	}
	for _, row := range rows {
		c.Pairs = append(c.Pairs, string(row))
	}
	return c
}
