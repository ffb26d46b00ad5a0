// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// judgePairs turns what was seen into results, in a fixed order, and into the
// problems that no end of a pair explains.
func (r *run) judgePairs() ([]PairResult, []*Problem) {
	slices.SortFunc(r.pairs, comparePairs)
	heard := r.heardFrom()
	results := make([]PairResult, 0, len(r.pairs))
	var problems []*Problem
	for _, p := range r.pairs {
		result := PairResult{
			From: p.from.endpoint(), To: p.to.endpoint(), Expect: p.expect,
			Entered: p.entered, ARP: p.arp, ICMP: p.icmp,
		}
		if p.unicast {
			result.Delivered = append(result.Delivered, "unicast")
		}
		if p.broadcast {
			result.Delivered = append(result.Delivered, "broadcast")
		}
		if p.expect == ExpectIsolation {
			p.judgeApart(&result, control(p.to, heard), r.blind)
		} else {
			p.judgeReach(&result, r.blind)
		}
		p.pardon(&result)
		if problem := p.problem(result); problem != nil {
			r.waive(problem)
			problems = append(problems, problem)
			result.Cause, result.Waived = problem.cause(), problem.waived()
		} else if result.Status == StatusLeak {
			result.Waived = p.brokenBy((*nic).wired).waived()
		}
		results = append(results, result)
	}
	return results, problems
}

// heardFrom names, for every NIC that a sibling's frame arrived at, the sibling.
func (r *run) heardFrom() map[*nic]*nic {
	heard := map[*nic]*nic{}
	for _, p := range r.pairs {
		if p.expect == ExpectReach && p.delivered() && heard[p.to] == nil {
			heard[p.to] = p.from
		}
	}
	return heard
}

// control returns what proves that n hears those it should, or "". Silence
// proves nothing about a guest that is deaf.
func control(n *nic, heard map[*nic]*nic) string {
	switch {
	case n.probe.target.arp:
		return "answers ARP from " + n.place()
	case n.probe.delivered > 0:
		return "hears " + n.place()
	case n.gateway.heard:
		return "hears its gateway " + n.network.Gateway.String()
	case heard[n] != nil:
		return "hears " + heard[n].guest.Name
	}
	return ""
}

// The reasons why silence proves nothing: nothing shows that a question was sent
// at all, or an answer may have been among what was not seen.
const (
	notEntered = "the frame was not seen entering the port"
	unwatched  = "not every frame at the ports was seen"
)

func (p *pair) judgeReach(result *PairResult, blind bool) {
	switch {
	case !p.from.sound() || !p.to.sound():
		result.Status, result.Cause = StatusNotReached, p.brokenEnd((*nic).sound)
	case p.arp && (p.icmp || !p.wantICMP):
		result.Status = StatusPass
	case p.delivered() && !p.to.address.Addr.IsValid():
		result.Status, result.Reason = StatusPass, "delivered; there is no address to ask for an answer"
	case blind:
		result.Status, result.Reason = StatusInconclusive, unwatched
	case p.arp && intended(p.from.drops, p.from.Want.MAC, p.to.Want.MAC) != "":
		result.Status, result.Reason = StatusSkip, intended(p.from.drops, p.from.Want.MAC, p.to.Want.MAC)+" drops ICMP between the two"
	case p.arp:
		result.Status, result.Reason = StatusFail, "answers ARP and not ICMP: a filter between the two drops IP"
	case p.delivered():
		result.Status, result.Reason = StatusFail, "the request was delivered, its answer was not"
	case !p.from.speaks():
		p.unspoken(result)
	case !p.entered:
		result.Status, result.Reason = StatusInconclusive, notEntered
	default:
		result.Status, result.Reason = StatusFail, "the frame entered the switch and was not delivered"
	}
}

func (p *pair) judgeApart(result *PairResult, control string, blind bool) {
	switch {
	case p.delivered():
		result.Status = StatusLeak
		result.Cause = p.brokenEnd((*nic).wired)
	case !p.from.wired() || !p.to.wired():
		// What a port in the wrong place does not reach proves nothing.
		result.Status, result.Cause = StatusNotReached, p.brokenEnd((*nic).wired)
	case !p.from.speaks():
		p.unspoken(result)
	case !p.entered:
		result.Status, result.Reason = StatusInconclusive, notEntered
	case blind:
		result.Status, result.Reason = StatusInconclusive, unwatched
	case control == "":
		result.Status, result.Reason = StatusInconclusive, "no control: nothing shows that "+p.to.guest.Name+" hears anybody"
	default:
		result.Status, result.Control = StatusPass, control
	}
}

// unspoken is the result when nothing was sent, because From itself is silent.
func (p *pair) unspoken(result *PairResult) {
	if p.from.problem != nil {
		result.Status, result.Cause = StatusNotReached, p.from.problem.cause()
		return
	}
	result.Status = StatusInconclusive
	result.Reason = "nothing is sent as a guest that never spoke: the switch would learn its MAC from us"
}

// brokenEnd names the problem of the end that is not as good as it should be.
func (p *pair) brokenEnd(good func(*nic) bool) string {
	if problem := p.brokenBy(good); problem != nil {
		return problem.cause()
	}
	return ""
}

// brokenBy is the problem of that end.
func (p *pair) brokenBy(good func(*nic) bool) *Problem {
	for _, n := range []*nic{p.from, p.to} {
		if !good(n) {
			return n.problem
		}
	}
	return nil
}

// problem attributes a failed pair: to the port in the wrong place that lets it
// leak, or to the pair itself. Pairs of the same two networks are one problem.
func (p *pair) problem(result PairResult) *Problem {
	switch result.Status {
	case StatusLeak:
		line := result.ends() + ": delivered as " + strings.Join(result.Delivered, " and ")
		for _, n := range []*nic{p.from, p.to} {
			if !n.wired() {
				n.problem.Leaks = append(n.problem.Leaks, line)
				return nil
			}
		}
		leak := p.newProblem(CodeLeak, "no frame delivered", "frames delivered", p.showSwitch())
		leak.Leaks = []string{line}
		return leak
	case StatusFail:
		code, got := CodeNotAnswered, "delivered and not answered"
		if !p.delivered() && !p.arp {
			code, got = CodeNotDelivered, "not delivered"
		}
		problem := p.newProblem(code, "frames delivered and answered", got, p.showSwitch())
		problem.Evidence = []string{result.ends() + ": " + result.Reason}
		p.blameRule(problem)
		return problem
	case StatusPass, StatusSkip, StatusNotReached, StatusInconclusive:
	}
	return nil
}

// ends names the two NICs.
func (r PairResult) ends() string { return fmt.Sprintf("%s -> %s", r.From, r.To) }

func (p *pair) newProblem(code, want, got, fix string) *Problem {
	subject := "network " + p.from.Want.Network
	if p.from.Want.Network != p.to.Want.Network {
		subject += " to network " + p.to.Want.Network
	}
	return &Problem{
		Problem: vnet.Problem{Code: code, Subject: subject, Want: want, Got: got, Fix: fix},
		Network: p.from.Want.Network,
		Affects: []Endpoint{p.from.endpoint(), p.to.endpoint()},
	}
}

// showSwitch is the command that shows what the source's switch does with
// frames beyond the settings of its ports.
func (p *pair) showSwitch() string {
	n := p.from
	switch {
	case n.macvtap():
		return "ip -d link show " + n.Want.Device
	case n.overlay():
		return fmt.Sprintf("ovn-nbctl acl-list %s; ovn-nbctl show %[1]s", quoted(n.Want.Network))
	case n.sw != nil && n.sw.Driver == vnet.DriverOVS:
		return fmt.Sprintf("ovs-appctl ofproto/trace %s in_port=%s,dl_src=%s,dl_dst=%s",
			n.Want.Switch, n.Want.Device, n.Want.MAC, p.to.Want.MAC)
	}
	return "nft list ruleset; bridge -d link show dev " + n.Want.Device
}
