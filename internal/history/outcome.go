// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// endpoint is what a NIC is known by from night to night: not by its device,
// which has another name after each start of the guest.
type endpoint struct {
	guest, network string
	mac            vnet.MAC
}

func endpointOf(e verify.Endpoint) endpoint {
	return endpoint{guest: e.Guest, network: e.Network, mac: e.MAC}
}

// keyOf is what a problem is known by. One that begins to leak is another.
func keyOf(p verify.Problem) string {
	subject := p.Subject
	if len(p.Affects) > 0 {
		e := p.Affects[0]
		if strings.HasPrefix(subject, "guest "+e.Guest+", NIC ") {
			subject = "guest " + e.Guest + ", NIC " + e.MAC.String() + " in network " + e.Network
		}
	}
	if len(p.Leaks) > 0 {
		subject += ", leaking"
	}
	return p.Code + " " + subject
}

// outcome is what a run says about a problem of a run before.
type outcome int

const (
	// unknown: it could not be told, or was not looked at.
	unknown outcome = iota + 1
	present
	absent
	gone
)

// seen is a report, as something to look problems up in.
type seen struct {
	report   verify.Report
	narrowed bool
	// partial is whether NICs may be there that the run did not look at: it was
	// narrowed, or some libvirt did not tell of its guests.
	partial  bool
	nics     map[endpoint]verify.NICResult
	problems map[string]verify.Problem
}

func look(report verify.Report, narrowed bool) seen {
	s := seen{
		report: report, narrowed: narrowed, partial: narrowed || report.GuestsUnknown,
		nics: map[endpoint]verify.NICResult{}, problems: map[string]verify.Problem{},
	}
	for _, n := range report.NICs {
		s.nics[endpointOf(n.Endpoint)] = n
	}
	for _, p := range report.Problems {
		if _, twice := s.problems[keyOf(p)]; !twice {
			s.problems[keyOf(p)] = p
		}
	}
	return s
}

// affected returns the NICs of p that this run looked at.
func (s seen) affected(p verify.Problem) []verify.NICResult {
	var nics []verify.NICResult
	for _, e := range p.Affects {
		if n, ok := s.nics[endpointOf(e)]; ok {
			nics = append(nics, n)
		}
	}
	return nics
}

// outcome is how a problem that was there before stands in this run.
func (s seen) outcome(p verify.Problem) outcome {
	if _, ok := s.problems[keyOf(p)]; ok {
		return present
	}
	nics := s.affected(p)
	switch {
	case len(nics) == 0 && len(p.Affects) > 0:
		if s.partial {
			return unknown
		}
		return gone
	case IsNote(p):
		if nics[0].Latency == nil || nics[0].Latency.Received == 0 {
			return unknown
		}
		return absent
	case p.Rung != "":
		return climbed(nics, p.Rung)
	case slices.ContainsFunc(nics, func(n verify.NICResult) bool { return n.Status != verify.StatusPass }):
		return unknown
	}
	if o := s.checked(p); o != 0 {
		return o
	}
	if s.partial && len(nics) < len(p.Affects) {
		return unknown // the other end of the pair
	}
	return s.paired(nics)
}

// climbed is absent when a NIC got past the rung and none failed there: one
// cause may affect many NICs, of which some are broken otherwise by now.
func climbed(nics []verify.NICResult, rung verify.RungName) outcome {
	result := unknown
	for _, n := range nics {
		switch n.Rung(rung).Status {
		case verify.StatusPass, verify.StatusSkip:
			result = absent
		case verify.StatusFail, verify.StatusLeak:
			return unknown // for another reason, which is a problem of its own
		case verify.StatusNotReached, verify.StatusInconclusive:
		}
	}
	return result
}

// checked goes by the expectations of the spec that the problem names, and is
// zero when it names none.
func (s seen) checked(p verify.Problem) outcome {
	result := outcome(0)
	for _, c := range s.report.Checks {
		if c.Name == "" || !strings.Contains(p.Subject+"\n"+p.Field, c.Name) {
			continue
		}
		if c.Status != verify.StatusPass && c.Status != verify.StatusSkip {
			return unknown
		}
		result = absent
	}
	return result
}

// paired goes by the pairs between the networks of the problem's NICs that one
// of these NICs is an end of.
func (s seen) paired(nics []verify.NICResult) outcome {
	var networks []string
	var ends []endpoint
	for _, n := range nics {
		networks, ends = append(networks, n.Network), append(ends, endpointOf(n.Endpoint))
	}
	for _, p := range s.report.Pairs {
		concerned := slices.Contains(networks, p.From.Network) && slices.Contains(networks, p.To.Network) &&
			(slices.Contains(ends, endpointOf(p.From)) || slices.Contains(ends, endpointOf(p.To)))
		if concerned && (p.Status == verify.StatusInconclusive || p.Status == verify.StatusNotReached) {
			return unknown
		}
	}
	return absent
}
