// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// ReportVersion is the version of the report's JSON form. It grows when a field
// changes its meaning or goes away, not when one is added.
const ReportVersion = 1

// Report is what a run found. Its lists are sorted, so that two reports of the
// same network can be compared.
type Report struct {
	Version  int           `json:"version"`
	Started  time.Time     `json:"started"`
	Duration time.Duration `json:"durationNanoseconds"`
	NICs     []NICResult   `json:"nics"`
	Pairs    []PairResult  `json:"pairs,omitempty"`
	// Checks are the results of the spec's own expectations, in its order.
	Checks []CheckResult `json:"checks,omitempty"`
	// Switches are those that the NICs are on.
	Switches []SwitchResult `json:"switches,omitempty"`
	Problems []Problem      `json:"problems,omitempty"`
	// Limits says what this run could not look at and why, such as a missing
	// privilege. A run with limits never passes.
	Limits []string `json:"limits,omitempty"`
	// GuestsUnknown says that there may be guests which this run knows nothing
	// of, so that nobody can tell whether one that was there before is gone. The
	// limits say why.
	GuestsUnknown bool `json:"guestsUnknown,omitempty"`
	// Notes are worth knowing and change no verdict, such as a waiver that has
	// expired.
	Notes []string `json:"notes,omitempty"`
}

// Status is the result of one check.
type Status string

// The results.
const (
	StatusPass Status = "pass"
	// StatusFail means that the network is wrong.
	StatusFail Status = "fail"
	// StatusLeak, of a pair, means that a frame was delivered where none may.
	StatusLeak Status = "leak"
	// StatusNotReached means that something checked before is broken already.
	// It is no failure of its own.
	StatusNotReached Status = "not-reached"
	// StatusSkip means that there is nothing to check here, with the reason.
	StatusSkip Status = "skip"
	// StatusInconclusive means that it should have been checked and could not
	// be, with the reason. It is never a pass.
	StatusInconclusive Status = "inconclusive"
)

// Verdict is the outcome of a whole run.
type Verdict string

// The verdicts, from good to bad.
const (
	VerdictPass         Verdict = "pass"
	VerdictInconclusive Verdict = "inconclusive"
	VerdictFail         Verdict = "fail"
	VerdictLeak         Verdict = "leak"
)

// RungName names a step of the ladder.
type RungName string

// The rungs, in the order of the ladder.
const (
	RungDomain     RungName = "domain"     // the guest is running
	RungNIC        RungName = "nic"        // the NIC's device exists
	RungLink       RungName = "link"       // libvirt's link state, admin state, carrier
	RungSwitch     RungName = "switch"     // on the right switch, or macvtap device; the switch is up
	RungForwarding RungName = "forwarding" // spanning tree lets the port forward; OVN has it bound here, flows in
	RungVLAN       RungName = "vlan"       // member of the right VLANs
	RungIsolated   RungName = "isolated"   // the isolated flag is as wanted
	RungSettings   RungName = "settings"   // guards, limits and the other flags are
	RungMTU        RungName = "mtu"        // port, switch and network agree
	RungMAC        RungName = "mac"        // learned on this port and no other
	RungAddress    RungName = "address"    // an address is known, and is the guest's alone
	RungARP        RungName = "arp"        // answers ARP from inside its VLAN
	RungND         RungName = "nd"         // answers neighbour discovery
	RungICMP       RungName = "icmp"       // answers ICMP echo
	RungUplink     RungName = "uplink"     // the switch's way out, or its tunnels, is up and carries the VLAN
	RungGateway    RungName = "gateway"    // reaches its gateway
	RungPathMTU    RungName = "pmtu"       // frames of full length pass
	RungCounters   RungName = "counters"   // the port loses no frames
)

// Rungs returns the names of all rungs in their order.
func Rungs() []RungName {
	return []RungName{
		RungDomain, RungNIC, RungLink, RungSwitch, RungForwarding, RungVLAN, RungIsolated, RungSettings, RungMTU,
		RungMAC, RungAddress, RungARP, RungND, RungICMP, RungUplink, RungGateway, RungPathMTU, RungCounters,
	}
}

// Rung is the result of one step of the ladder.
type Rung struct {
	Name   RungName `json:"name"`
	Status Status   `json:"status"`
	// Reason says why it is a skip or inconclusive.
	Reason string `json:"reason,omitempty"`
	// Evidence is what was seen, a line each, also when it passed.
	Evidence []string `json:"evidence,omitempty"`
}

// Endpoint names a NIC in a report.
type Endpoint struct {
	Guest   string   `json:"guest"`
	MAC     vnet.MAC `json:"mac,omitzero"`
	Network string   `json:"network"`
	Device  string   `json:"device,omitempty"`
}

// String returns "web1 (red)".
func (e Endpoint) String() string { return e.Guest + " (" + e.Network + ")" }

func (e Endpoint) compare(o Endpoint) int {
	return cmp.Or(cmp.Compare(e.Network, o.Network), cmp.Compare(e.Guest, o.Guest),
		slices.Compare(e.MAC[:], o.MAC[:]), cmp.Compare(e.Device, o.Device))
}

// NICResult is how far one NIC got on the ladder.
type NICResult struct {
	Endpoint

	// Host is where the guest is, or empty for the host that verify ran on.
	Host      string `json:"host,omitempty"`
	Portgroup string `json:"portgroup,omitempty"`
	Switch    string `json:"switch,omitempty"`
	// VLAN is what the port should be in, such as "access 20", or empty for a
	// port without VLANs. Lower is the device that a macvtap sits on.
	VLAN  string `json:"vlan,omitempty"`
	Lower string `json:"lower,omitempty"`
	// Status is fail when a rung failed, else inconclusive when one was, else
	// pass.
	Status Status `json:"status"`
	// Waived is whether the problem that makes it fail is.
	Waived bool `json:"waived,omitempty"`
	// Address is the one that was probed.
	Address       netip.Addr    `json:"address,omitzero"`
	AddressSource AddressSource `json:"addressSource,omitempty"`
	// RTT is the time to the first ICMP answer, or ARP answer, in a burst of
	// probes: an upper bound, no latency measurement.
	RTT time.Duration `json:"rttNanoseconds,omitempty"`
	// Latency is from a pass of its own, slow enough not to queue, or nil when
	// there was none.
	Latency *Latency `json:"latency,omitempty"`
	// ReachableAfter is when a NIC that a run waited for came up: the time since
	// the guest began to run where that is known, or since the wait began. It is
	// zero when it was up at the first look, and when it never came up.
	ReachableAfter time.Duration `json:"reachableAfterNanoseconds,omitempty"`
	// Rungs are the ladder from its foot. NICs share those that are alike: do
	// not change what they point to.
	Rungs []*Rung `json:"rungs"`
}

// Latency is the time that ICMP echo answers took, and how many did not come.
type Latency struct {
	Sent     int           `json:"sent"`
	Received int           `json:"received"`
	Median   time.Duration `json:"medianNanoseconds"`
	Worst    time.Duration `json:"worstNanoseconds"`
}

// SwitchResult is a switch of the host as far as the topology goes: what is on
// it is in the NICs.
type SwitchResult struct {
	Name   string      `json:"name"`
	Driver vnet.Driver `json:"driver"`
	// Uplink is the device that leads to the fabric, or empty.
	Uplink string `json:"uplink,omitempty"`
	// Up and UplinkUp are whether both can carry frames.
	Up       bool `json:"up"`
	UplinkUp bool `json:"uplinkUp,omitempty"`
}

// CheckResult is what became of one expectation of the spec.
type CheckResult struct {
	// Name says what is expected, as the spec does: "web1 tcp db1:5432".
	Name string `json:"name"`
	// Where is the file and line of it.
	Where  string `json:"where,omitempty"`
	Status Status `json:"status"`
	Reason string `json:"reason,omitempty"`
	// Value is what was measured, such as "1.2 ms".
	Value    string   `json:"value,omitempty"`
	Evidence []string `json:"evidence,omitempty"`
	// Cause is the code and subject of a problem that explains the result.
	Cause string `json:"cause,omitempty"`
	// Waived is whether every problem that makes it fail is.
	Waived bool `json:"waived,omitempty"`
}

// Rung returns the rung of that name.
func (n NICResult) Rung(name RungName) Rung {
	for _, r := range n.Rungs {
		if r.Name == name {
			return *r
		}
	}
	return Rung{Name: name, Status: StatusNotReached}
}

// Expectation is what the spec says about a pair of NICs.
type Expectation string

// The expectations.
const (
	// ExpectReach is for NICs of one network: frames must arrive and be
	// answered.
	ExpectReach Expectation = "reach"
	// ExpectIsolation is for NICs whose frames must never meet.
	ExpectIsolation Expectation = "isolation"
)

// PairResult is what became of frames that From was made to send to To.
type PairResult struct {
	From   Endpoint    `json:"from"`
	To     Endpoint    `json:"to"`
	Expect Expectation `json:"expect"`
	Status Status      `json:"status"`
	Reason string      `json:"reason,omitempty"`
	// Entered is whether the frame was seen entering From's port, and
	// Delivered how it arrived at To's port: as "unicast", as "broadcast".
	Entered   bool     `json:"entered"`
	Delivered []string `json:"delivered,omitempty"`
	// ARP and ICMP are whether To's answers came back to From's port.
	ARP  bool `json:"arp,omitempty"`
	ICMP bool `json:"icmp,omitempty"`
	// Control is what proves that To hears those it should, in this run.
	Control string `json:"control,omitempty"`
	// Cause is the code and subject of the problem that explains the result, of
	// an end such as "WRONG_VLAN: guest web1, NIC vnet0" or of the pair itself.
	Cause string `json:"cause,omitempty"`
	// Waived is whether that problem is.
	Waived bool `json:"waived,omitempty"`
}

// Problem is one cause of failure. It is there once, however many checks fail
// because of it.
type Problem struct {
	vnet.Problem

	Rung RungName `json:"rung,omitempty"`
	// Network is where it shows, or empty when it shows in several.
	Network string `json:"network,omitempty"`
	// Affects are the NICs that fail because of it, at least one.
	Affects []Endpoint `json:"affects"`
	// Leaks are the deliveries that it lets happen, a line each.
	Leaks []string `json:"leaks,omitempty"`
	// Waived is the user's word that it is known, or nil. A waived problem does
	// not make the verdict worse.
	Waived *Waived `json:"waived,omitempty"`
}

// Waived says who knows of a problem, and until when that is good enough.
type Waived struct {
	Owner  string    `json:"owner"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason,omitempty"`
}

// Verdict sums the report up.
//
// It is [VerdictLeak] as soon as one frame was delivered where none may,
// whatever the cause: a port in another network's VLAN by mistake leaks as much
// as a broken switch does. The same mistake into a VLAN that nobody uses is
// [VerdictFail]. What is waived counts for nothing.
func (r Report) Verdict() Verdict {
	verdict := VerdictPass
	for _, s := range r.counted() {
		verdict = worse(verdict, s)
	}
	return verdict
}

// Untold reports whether something could not be told, whatever failed.
func (r Report) Untold() bool { return slices.Contains(r.counted(), StatusInconclusive) }

// counted are the results that make up the verdict.
func (r Report) counted() []Status {
	var list []Status
	add := func(s Status, waived bool) {
		if !waived {
			list = append(list, s)
		}
	}
	if len(r.NICs) == 0 || len(r.Limits) > 0 {
		add(StatusInconclusive, false)
	}
	for _, n := range r.NICs {
		add(n.Status, n.Waived)
	}
	for _, p := range r.Pairs {
		add(p.Status, p.Waived)
	}
	for _, c := range r.Checks {
		add(c.Status, c.Waived)
	}
	for _, p := range r.Problems {
		// Guests may go on without it, for a while.
		if p.Code == CodeControllerDown || p.Code == CodeTunnelDown {
			add(StatusFail, p.Waived != nil)
		}
	}
	return list
}

func worse(v Verdict, s Status) Verdict {
	order := []Verdict{VerdictPass, VerdictInconclusive, VerdictFail, VerdictLeak}
	next := VerdictPass
	switch s {
	case StatusLeak:
		next = VerdictLeak
	case StatusFail:
		next = VerdictFail
	case StatusInconclusive:
		next = VerdictInconclusive
	case StatusPass, StatusSkip, StatusNotReached:
	}
	if slices.Index(order, next) > slices.Index(order, v) {
		return next
	}
	return v
}
