// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// proofs are what the rest of the run found out that talks are judged by.
type proofs struct {
	// causes are the problems of pairs of NICs, by their indexes.
	causes map[[2]int]string
	heard  map[*nic]*nic
	// answers names, for addresses that answered somebody, whom.
	answers map[netip.Addr]string
}

func (r *run) proofs(pairs []PairResult) proofs {
	p := proofs{causes: map[[2]int]string{}, heard: r.heardFrom(), answers: map[netip.Addr]string{}}
	for i, result := range pairs {
		if result.Status == StatusFail || result.Status == StatusLeak {
			p.causes[[2]int{r.pairs[i].from.index, r.pairs[i].to.index}] = result.Cause
		}
	}
	for _, c := range r.checks {
		for _, t := range c.talks {
			// An answer to something else than is denied says nothing of that.
			if t.kind != talkDeny && (t.echoed || t.open) {
				p.answers[t.addr] = t.from.guest.Name
			}
		}
	}
	for _, s := range r.segments {
		if s.gateway != nil && s.gateway.icmp {
			p.answers[s.gateway.addr] = s.String()
		}
	}
	return p
}

// judgeChecks turns what was seen into a result for every expectation, and into
// the problems that nothing found before explains.
func (r *run) judgeChecks(pairs []PairResult) ([]CheckResult, []*Problem) {
	known := r.proofs(pairs)
	var results []CheckResult
	var problems []*Problem
	for _, c := range r.checks {
		result := CheckResult{Name: c.String(), Where: c.Where, Status: c.status, Reason: c.reason}
		waived := true
		for _, t := range c.talks {
			o := t.judge(known)
			if o.code != "" {
				p := c.problem(t, o)
				r.waive(p)
				problems = append(problems, p)
				o.cause = p.cause()
				waived = waived && p.waived()
			}
			result.add(t, o)
		}
		if len(c.talks) < c.all {
			result.Evidence = append(result.Evidence, fmt.Sprintf("a sample of %d of %d (--full tries all)", len(c.talks), c.all))
		}
		result.Waived = waived && (result.Status == StatusFail || result.Status == StatusLeak)
		results = append(results, result)
	}
	return results, problems
}

// maxEvidence is how many talks that went well a result lists.
const maxEvidence = 8

// add takes the outcome of one talk into the result of the whole: the worst
// counts, and what could not be tried only if nothing else could.
func (r *CheckResult) add(t *talk, o outcome) {
	order := []Status{"", StatusSkip, StatusNotReached, StatusPass, StatusInconclusive, StatusFail, StatusLeak}
	if slices.Index(order, o.status) > slices.Index(order, r.Status) {
		r.Status, r.Reason, r.Cause, r.Value = o.status, o.reason, o.cause, o.value
	}
	line := orElse(o.evidence, orElse(o.reason, o.cause))
	if line != "" && (o.status != StatusPass || len(r.Evidence) < maxEvidence) {
		r.Evidence = append(r.Evidence, t.String()+": "+line)
	}
}

// String returns "web1 (red) -> db1 (blue)".
func (t *talk) String() string {
	to := t.addr.String()
	if t.to != nil {
		to = t.to.endpoint().String()
	}
	return t.from.endpoint().String() + " -> " + to
}

func (c *check) problem(t *talk, o outcome) *Problem {
	p := &Problem{
		Problem: vnet.Problem{
			Code: o.code, Subject: c.String(), Field: c.Where, Want: o.want, Got: o.got,
			Evidence: []string{t.String() + ": " + o.evidence}, Fix: o.fix,
		},
		Network: t.from.Want.Network,
		Affects: []Endpoint{t.from.endpoint()},
	}
	if t.to != nil {
		p.Affects = append(p.Affects, t.to.endpoint())
	}
	if o.status == StatusLeak {
		p.Leaks = []string{t.String() + ": " + o.evidence}
	}
	t.blameACL(p)
	return p
}

func (t *talk) judge(known proofs) outcome {
	if t.blocked != nil {
		return *t.blocked
	}
	o := t.judgeHeld(known)
	// The silence of who is not there says nothing, neither good nor bad.
	if t.vanished != "" && (o.status == StatusFail || o.status == StatusPass && t.kind == talkDeny) {
		return outcome{status: StatusInconclusive, reason: t.vanished}
	}
	return o
}

// judgeHeld is for a talk between two that were there all the time.
func (t *talk) judgeHeld(known proofs) outcome {
	if t.kind == talkDeny {
		return t.judgeDeny(known)
	}
	o := t.judgeAnswer()
	if t.to == nil || o.status != StatusFail {
		return o
	}
	for _, ends := range [][2]int{{t.from.index, t.to.index}, {t.to.index, t.from.index}} {
		if cause := known.causes[ends]; cause != "" {
			return outcome{status: StatusNotReached, cause: cause}
		}
	}
	// What drops echoes may drop this as well, and then is the one finding. Who
	// waives it says that it does not.
	silent := !t.settled() && !t.refused && t.dns == nil
	if silent && t.to.dropsEcho() && !t.to.problem.waived() {
		return outcome{status: StatusNotReached, cause: t.to.problem.cause()}
	}
	return o
}

// judgeAnswer is for talks that should be answered.
func (t *talk) judgeAnswer() outcome {
	switch {
	case t.settled():
		return t.answered()
	case t.blind:
		return outcome{status: StatusInconclusive, reason: unwatched}
	case !t.hop.known && !t.hop.entered:
		return unseen()
	case !t.hop.known:
		return t.failed(CodeUnreachable, fmt.Sprintf("nobody answers the guest's %s request for %s",
			choose(t.hop.addr.Is4(), "ARP", "neighbour discovery"), t.hop.addr))
	case t.dns != nil:
		return t.failed(CodeDNSFailed, t.dnsFailure())
	case t.refused && t.watched() && !t.delivered:
		return t.failed(CodeTCPFiltered, "refused on the way: a firewall resets the connection")
	case t.refused:
		return t.failed(CodeTCPRefused, "refused: nothing listens there")
	case t.unreachable != "":
		return t.failed(t.silentCode(), t.unreachable)
	case !t.entered:
		return unseen()
	case !t.watched():
		return t.failed(t.silentCode(), "silence")
	case t.delivered:
		return t.failed(t.silentCode(), "delivered, and not answered")
	}
	return t.failed(t.silentCode(), "not delivered")
}

// answered is for talks that were answered as they should be.
func (t *talk) answered() outcome {
	switch t.kind {
	case talkTCP:
		return outcome{status: StatusPass, evidence: fmt.Sprintf("accepts connections to port %d", t.dport)}
	case talkDNS:
		var list []string
		for _, a := range t.addresses() {
			list = append(list, a.String())
		}
		return outcome{status: StatusPass, value: strings.Join(list, ", "), evidence: t.name + " is " + strings.Join(list, ", ")}
	case talkEcho, talkDeny:
	}
	if t.measured() {
		return t.judgeMeasured()
	}
	return outcome{status: StatusPass, evidence: "answers ICMP echo"}
}

// unseen is the outcome when nothing shows that anything was sent.
func unseen() outcome {
	return outcome{status: StatusInconclusive, reason: notEntered}
}

func (t *talk) silentCode() string {
	switch t.kind {
	case talkTCP:
		return CodeTCPFiltered
	case talkDNS:
		return CodeDNSFailed
	case talkEcho, talkDeny:
	}
	return CodeUnreachable
}

// dnsFailure is what a server said instead of an address.
func (t *talk) dnsFailure() string {
	words := map[dnsmessage.RCode]string{
		dnsmessage.RCodeSuccess:       "the name has no address",
		dnsmessage.RCodeNameError:     "NXDOMAIN: there is no such name",
		dnsmessage.RCodeServerFailure: "SERVFAIL: the server could not find out",
		dnsmessage.RCodeRefused:       "REFUSED: the server does not answer for this guest",
	}
	code := dnsmessage.RCodeSuccess
	for _, answer := range t.dns {
		code = max(code, answer.code)
	}
	return orElse(words[code], fmt.Sprintf("DNS error %d", code))
}

func (t *talk) judgeMeasured() outcome {
	l := t.result()
	if l.Sent < fewEchoes/2 {
		return outcome{status: StatusInconclusive, reason: fmt.Sprintf("only %d echoes were seen entering the port", l.Sent)}
	}
	value := fmt.Sprintf("median %v, %s of %d lost", l.Median.Round(10*time.Microsecond), vnet.Percent(t.lost(l)), l.Sent)
	o := outcome{status: StatusPass, value: value, evidence: value}
	switch {
	case t.within():
		return o
	case t.loss != 0 && t.lost(l) >= t.loss || l.Received == 0:
		o = t.failed(CodeLossy, "more is lost")
		o.want = "loss below " + vnet.Percent(t.loss)
	default:
		o = t.failed(CodeSlow, "answers take longer")
		o.want = "latency below " + t.latency.String()
	}
	o.value, o.evidence = value, value+", measured twice"
	return o
}

// failed is the outcome of a talk that did not bring what it should.
func (t *talk) failed(code, got string) outcome {
	want := "an answer to ICMP echo"
	switch t.kind {
	case talkTCP:
		want = fmt.Sprintf("TCP port %d open", t.dport)
	case talkDNS:
		want = "an address of " + t.name
	case talkDeny:
		want = "nothing delivered"
	case talkEcho:
	}
	return outcome{status: StatusFail, code: code, want: want, got: got, evidence: got, fix: t.fix(code)}
}

// fix is a command that shows more, or puts it right.
func (t *talk) fix(code string) string {
	switch code {
	case CodeTCPRefused, CodeTCPFiltered:
		if t.to != nil && (t.delivered || code == CodeTCPRefused) {
			return fmt.Sprintf("virsh console %s   # ss -ltn, nft list ruleset: does port %d listen, and is it open?", quoted(t.to.guest.Name), t.dport)
		}
	case CodeDNSFailed:
		return fmt.Sprintf("dig @%s %s", t.addr, quoted(t.name))
	case CodeSlow, CodeLossy:
		return "tc -s qdisc show dev " + t.from.Want.Device + "; ip -s link show dev " + t.from.Want.Device
	case CodeUnreachable:
		if t.to != nil && t.delivered {
			return "virsh console " + quoted(t.to.guest.Name) + "   # does it let ping in, and is its route back right?"
		}
	}
	if !t.direct {
		return fmt.Sprintf("virt-vnet show network %s   # the way is through the gateway %s", quoted(t.from.Want.Network), t.gateway)
	}
	to := t.from
	if t.to != nil {
		to = t.to
	}
	return (&pair{from: t.from, to: to}).showSwitch()
}

// judgeDeny is for talks of which nothing may arrive.
func (t *talk) judgeDeny(known proofs) outcome {
	switch {
	case t.delivered || t.echoed || t.open:
		return t.reached(known)
	case t.watched():
		return t.judgeDenied(known)
	case t.refused || t.rejected:
		// A firewall may answer in its name, as nft's reject does.
		return outcome{status: StatusInconclusive, reason: fmt.Sprintf("refused, by %s itself or a firewall in its name: that cannot be told apart from here", t.addr)}
	case t.prohibited:
		return outcome{status: StatusPass, evidence: t.unreachable}
	case t.hop == nil:
		return outcome{status: StatusInconclusive, reason: fmt.Sprintf("network %s has no gateway for %s in the spec, and what arrives at %s is not seen from here",
			t.from.Want.Network, t.addr, t.to.guest.Name)}
	case !t.hop.known:
		return outcome{status: StatusInconclusive, reason: fmt.Sprintf("nobody on the guest's link answers for %s", t.hop.addr)}
	case !t.entered:
		return unseen()
	case t.blind:
		return outcome{status: StatusInconclusive, reason: unwatched}
	case known.answers[t.addr] != "":
		return outcome{status: StatusPass, evidence: fmt.Sprintf("silence, and it answers %s", known.answers[t.addr])}
	}
	return outcome{
		status: StatusInconclusive,
		reason: fmt.Sprintf("no control: nothing shows that %s answers anybody; expect somebody to reach it", t.addr),
	}
}

// reached is the outcome of a talk that should not have been answered.
func (t *talk) reached(known proofs) outcome {
	if t.to != nil {
		if cause := known.causes[[2]int{t.from.index, t.to.index}]; cause != "" {
			return outcome{status: StatusLeak, cause: cause, evidence: "delivered"}
		}
	}
	var how []string
	for _, h := range []struct {
		seen bool
		text string
	}{{t.delivered, "delivered at its port"}, {t.echoed, "answers ICMP echo"}, {t.open, "accepts TCP connections"}} {
		if h.seen {
			how = append(how, h.text)
		}
	}
	o := t.failed(CodeReachable, "it is reached")
	o.status, o.evidence = StatusLeak, strings.Join(how, ", ")
	return o
}

// judgeDenied is for a guest at whose port nothing arrived.
func (t *talk) judgeDenied(known proofs) outcome {
	p := &pair{from: t.from, to: t.to}
	control := control(t.to, known.heard)
	switch {
	case !t.from.wired() || !t.to.wired():
		return outcome{status: StatusNotReached, cause: p.brokenEnd((*nic).wired)}
	case !t.entered:
		return unseen()
	case t.blind:
		return outcome{status: StatusInconclusive, reason: unwatched}
	case control == "" && t.to.problem != nil:
		return outcome{status: StatusNotReached, cause: t.to.problem.cause()}
	case control == "":
		return outcome{status: StatusInconclusive, reason: "no control: nothing shows that " + t.to.guest.Name + " hears anybody"}
	case t.hop != nil && !t.hop.known && !t.direct && t.from.problem != nil:
		return outcome{status: StatusNotReached, cause: t.from.problem.cause()}
	case t.hop != nil && !t.hop.known && !t.direct:
		return outcome{status: StatusInconclusive, reason: fmt.Sprintf("the gateway %s does not answer the guest", t.gateway)}
	}
	return outcome{status: StatusPass, evidence: fmt.Sprintf("%s and TCP to %s entered, nothing arrived; %s %s",
		choose(t.addr.Is4(), layers.IPProtocolICMPv4.String(), layers.IPProtocolICMPv6.String()),
		t.portList(), t.to.guest.Name, control)}
}

func (t *talk) portList() string {
	ports := t.denyPorts()
	list := make([]string, len(ports))
	for i, p := range ports {
		list[i] = fmt.Sprint(p)
	}
	return strings.Join(list, ", ")
}
