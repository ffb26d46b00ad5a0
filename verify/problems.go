// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// newProblem is what a failed rung says is wrong.
func (n *nic) newProblem(rung RungName, f finding) *Problem {
	p := &Problem{
		Problem: vnet.Problem{
			Code: f.code, Subject: n.subject(), Field: string(rung),
			Want: f.want, Got: f.got, Evidence: f.evidence, Fix: f.fix,
		},
		Rung: rung, Network: n.Want.Network, Affects: []Endpoint{n.endpoint()},
	}
	switch {
	case f.subject != "":
		p.Subject = f.subject
	case f.network:
		p.Subject = "network " + n.Want.Network
	case rung == RungDomain:
		p.Subject = n.guestSubject()
	}
	if f.subject != "" {
		p.Subject = f.subject
	}
	return p
}

// guestSubject is what a problem of the whole guest is about.
func (n *nic) guestSubject() string { return "guest " + n.guest.Name }

// joinGuests makes what is wrong with every NIC of a guest in the same way one
// problem of the guest, where it is the guest that does not answer.
func joinGuests(nics []*nic) {
	byGuest := map[vnet.GuestRef][]*nic{}
	for _, n := range nics {
		byGuest[n.guest] = append(byGuest[n.guest], n)
	}
	for _, own := range byGuest {
		if len(own) < 2 || !slices.ContainsFunc([]RungName{RungMAC, RungARP, RungND, RungICMP}, own[0].brokenAt) {
			continue
		}
		first := own[0].problem
		same := func(n *nic) bool {
			return n.problem != nil && n.problem.Subject == n.subject() && n.problem.Code == first.Code && n.problem.Got == first.Got && n.problem.Fix == first.Fix
		}
		if slices.ContainsFunc(own, func(n *nic) bool { return !same(n) }) {
			continue
		}
		for _, n := range own {
			n.problem.Subject = n.guestSubject()
		}
	}
}

// unplugged reports whether the NIC's port is on no switch.
func (n *nic) unplugged() bool {
	return n.brokenAt(RungSwitch) && n.problem.Code == CodeWrongBridge && n.Port != nil && n.Port.Switch == ""
}

// joinPorts makes what many ports of a switch have lost at once, such as their
// guards with the table that they were in, or the switch itself with a bridge
// that was made anew, one problem of the switch.
func joinPorts(nics []*nic) {
	type loss struct{ sw, got string }
	lost := map[loss][]*nic{}
	for _, n := range nics {
		if n.brokenAt(RungSettings) || n.unplugged() {
			l := loss{n.Want.Switch, n.problem.Got}
			lost[l] = append(lost[l], n)
		}
	}
	for l, all := range lost {
		for _, n := range all {
			if len(all) > 1 {
				n.problem.Subject, n.problem.Fix = "switch "+l.sw, "virt-vnet repair"
			}
			if len(all) > 1 && n.brokenAt(RungSettings) {
				n.problem.Want = "what the network of each port says"
			}
		}
	}
}

// manyAlike is how many guests of a segment must fail, every one and all alike,
// for that to be about the segment.
const manyAlike = 5

// shownAlike is of how many of them the evidence is kept.
const shownAlike = 3

// unite makes the problems of a segment's guests one, when all of them fail
// alike to answer: it is not likely that each has a fault of its own.
func (s *segment) unite() {
	if len(s.nics) < manyAlike {
		return
	}
	first := s.nics[0].problem
	for _, n := range s.nics {
		p := n.problem
		if p == nil || p.Waived != nil || !p.unanswered() || p.Code != first.Code || p.Network != first.Network {
			return
		}
	}
	subject := "network " + first.Network
	got := fmt.Sprintf("the same of all %d guests in %s: %s", len(s.nics), s, first.Got)
	want, fix := "answers from guests of network "+first.Network, first.Fix
	for i, n := range s.nics {
		p := n.problem
		p.Subject, p.Want, p.Got, p.Fix = subject, want, got, fix
		if i >= shownAlike {
			p.Evidence = nil
		}
	}
}

// blameGateway makes it one problem of the network when the gateway answers us,
// but not one of the segment's guests that have asked: the gateway is slow, or
// filters them, and none of the guests is at fault.
func (s *segment) blameGateway() {
	var deaf []*nic
	for _, n := range s.nics {
		switch p := n.problem; {
		case !n.gateway.asGuest:
		case p == nil || p.Waived != nil || p.Code != CodeGatewayUnreachable:
			return
		case len(deaf) > 0 && p.Network != deaf[0].problem.Network:
			return
		default:
			deaf = append(deaf, n)
		}
	}
	if len(deaf) < 2 || s.gateway == nil || !s.gateway.arp {
		return
	}
	for i, n := range deaf {
		n.problem.Subject = "network " + n.problem.Network
		n.problem.Got = fmt.Sprintf("silence towards all %d guests that asked it in %s, though it answers the host", len(deaf), s)
		n.problem.Fix = fmt.Sprintf("virt-vnet show network %s   # is its gateway overloaded, or does it filter?", quoted(n.problem.Network))
		if i >= shownAlike {
			n.problem.Evidence = nil
		}
	}
}

// unanswered reports whether the problem is that a guest does not answer, and
// that no more is known.
func (p *Problem) unanswered() bool {
	return slices.Contains([]string{
		CodeMACNotLearned, CodeNoAddress, CodeNoDHCPOffer, CodeGuestSilent, CodeNoARP, CodeNoND, CodeICMPFiltered,
	}, p.Code)
}

// cause names a problem in one line, for what follows from it.
func (p *Problem) cause() string { return p.Code + ": " + p.Subject }

// gather brings problems together that are one: the same code about the same
// subject. The result is in the order of the ladder.
func gather(problems []*Problem) []Problem {
	type key struct {
		code, subject, got string
		waived             Waived
	}
	byKey := map[key]*Problem{}
	var list []*Problem
	for _, p := range problems {
		k := key{code: p.Code, subject: p.Subject, got: p.Got}
		if p.waived() {
			k.waived = *p.Waived
		}
		first, ok := byKey[k]
		if !ok {
			byKey[k] = p
			list = append(list, p)
			continue
		}
		if first.Network != p.Network {
			first.Network = "" // it shows in several
		}
		first.Affects = append(first.Affects, p.Affects...)
		first.Leaks = append(first.Leaks, p.Leaks...)
		first.Evidence = append(first.Evidence, p.Evidence...)
	}
	out := make([]Problem, len(list))
	for i, p := range list {
		slices.SortFunc(p.Affects, Endpoint.compare)
		p.Affects = slices.Compact(p.Affects)
		p.Leaks = sortedUnique(p.Leaks)
		p.Evidence = unique(p.Evidence)
		out[i] = *p
	}
	slices.SortStableFunc(out, compareProblems)
	return out
}

// compareProblems puts leaks first, then the order of the ladder.
func compareProblems(a, b Problem) int {
	return cmp.Or(
		-cmp.Compare(min(len(a.Leaks), 1), min(len(b.Leaks), 1)),
		cmp.Compare(codeRank(a.Code), codeRank(b.Code)),
		cmp.Compare(a.Network, b.Network),
		cmp.Compare(a.Subject, b.Subject),
	)
}

func codeRank(code string) int {
	return slices.IndexFunc(Codes(), func(c CodeInfo) bool { return c.Code == code })
}

func sortedUnique(lines []string) []string {
	slices.Sort(lines)
	return slices.Compact(lines)
}

// unique drops repeated lines and keeps the order of the others.
func unique[T comparable](lines []T) []T {
	var out []T
	for _, line := range lines {
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}

// quoted makes name one word of a shell command.
func quoted(name string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.,:+=@%/-", r)
	}
	if name != "" && !strings.ContainsFunc(name, func(r rune) bool { return !safe(r) }) {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}
