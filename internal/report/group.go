// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/verify"
)

// problem is a problem and what history says of it, or nil.
type problem struct {
	verify.Problem
	change *history.Change
}

// group is problems with one kind of cause, which read best as one.
type group []problem

// groups brings the problems together that differ in their guests only.
func groups(r Result, problems []verify.Problem) []group {
	type key struct {
		code, network, want, got string
		shared                   string // the cause that many have in common
		state                    history.State
		waived                   verify.Waived
	}
	index := map[key]int{}
	var list []group
	for _, p := range problems {
		k := key{code: p.Code, network: p.Network, want: p.Want, got: p.Got}
		if len(p.Affects) > 1 {
			k.shared = p.Subject
		}
		change := r.change(p)
		if change != nil {
			k.state = change.State
		}
		if p.Waived != nil {
			k.waived = *p.Waived
		}
		i, ok := index[k]
		if !ok {
			i = len(list)
			index[k] = i
			list = append(list, nil)
		}
		list[i] = append(list[i], problem{p, change})
	}
	return list
}

// state is how the group compares with the runs before, or empty.
func (g group) state() history.State {
	if g[0].change == nil {
		return ""
	}
	return g[0].change.State
}

// about says what the group is about, and how many it hits.
func (g group) about() string {
	guests := g.guests()
	if len(g) > 1 {
		return fmt.Sprintf("%s in network %s: %s", count(len(g), "NIC"), g[0].Network, brief(guests, 8))
	}
	if len(guests) > 1 {
		return fmt.Sprintf("%s: %s", count(len(guests), "guest"), g[0].Subject)
	}
	return g[0].Subject
}

func (g group) all(lines func(problem) []string) []string {
	var out []string
	for _, p := range g {
		for _, line := range lines(p) {
			if !slices.Contains(out, line) {
				out = append(out, line)
			}
		}
	}
	return out
}

func (g group) guests() []string {
	var names []string
	for _, p := range g {
		for _, e := range p.Affects {
			names = append(names, e.Guest)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// affected names who fails because of p: by guest alone when all are in the
// network that the problem is about.
func affected(p verify.Problem) []string {
	var names []string
	for _, e := range p.Affects {
		if p.Subject == "network "+e.Network {
			names = append(names, e.Guest)
		} else {
			names = append(names, e.String())
		}
	}
	return names
}

// repairs are the commands of a group, with one for all guests where that can
// be.
func repairs(g group) []string {
	const forAll = "virt-vnet repair "
	var guests, others []string
	for _, p := range g {
		if guest, ok := strings.CutPrefix(p.Fix, forAll); ok {
			guests = append(guests, guest)
		} else if p.Fix != "" && !slices.Contains(others, p.Fix) {
			others = append(others, p.Fix)
		}
	}
	if len(guests) > 0 {
		others = append([]string{forAll + strings.Join(slices.Compact(guests), " ")}, others...)
	}
	return others
}
