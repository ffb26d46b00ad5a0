// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/internal/report"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func end(guest, network string) verify.Endpoint {
	return verify.Endpoint{
		Guest: guest, Network: network, Device: "vnet-" + guest,
		MAC: vnet.MAC{0x52, 0x54, 0, 0, guest[0], guest[len(guest)-1]},
	}
}

// nic is a NIC whose rungs pass, up to those that are given.
func nic(e verify.Endpoint, rungs ...verify.Rung) verify.NICResult {
	n := verify.NICResult{
		Endpoint: e, Switch: "ovs0", Status: verify.StatusPass,
		Address: netip.MustParseAddr("10.0.20.11"), AddressSource: verify.AddressSpec, RTT: 412 * time.Microsecond,
	}
	broken := false
	for _, name := range verify.Rungs() {
		r := verify.Rung{Name: name, Status: verify.StatusPass, Evidence: []string{"seen & noted"}}
		if broken {
			r = verify.Rung{Name: name, Status: verify.StatusNotReached}
		}
		for _, given := range rungs {
			if given.Name == name {
				r = given
				broken = given.Status == verify.StatusFail
			}
		}
		switch {
		case r.Status == verify.StatusFail:
			n.Status = verify.StatusFail
		case r.Status == verify.StatusInconclusive && n.Status == verify.StatusPass:
			n.Status = verify.StatusInconclusive
		}
		n.Rungs = append(n.Rungs, &r)
	}
	return n
}

func pair(from, to verify.Endpoint, expect verify.Expectation, status verify.Status) verify.PairResult {
	p := verify.PairResult{From: from, To: to, Expect: expect, Status: status, Entered: true}
	switch status {
	case verify.StatusLeak:
		p.Delivered = []string{"unicast", "broadcast"}
	case verify.StatusInconclusive:
		p.Reason = "the frame was not seen entering the port"
	case verify.StatusPass:
		p.Control = "answers ARP from VLAN 20 of ovs0"
	case verify.StatusFail, verify.StatusNotReached, verify.StatusSkip:
	}
	return p
}

func failed(rung verify.RungName) verify.Rung {
	return verify.Rung{Name: rung, Status: verify.StatusFail}
}

func skip(rung verify.RungName, reason string) verify.Rung {
	return verify.Rung{Name: rung, Status: verify.StatusSkip, Reason: reason}
}

var (
	web1, web2   = end("web1", "red"), end("web2", "red")
	db1, db2     = end("db1", "blue"), end("db2", "blue")
	kiosk1       = end("kiosk1", "edge")
	noGateway    = skip(verify.RungGateway, "network blue has no gateway in the spec")
	noFDB        = skip(verify.RungMAC, "a macvtap has no forwarding table")
	reach, apart = verify.ExpectReach, verify.ExpectIsolation
)

func base(nics ...verify.NICResult) verify.Report {
	return verify.Report{
		Version: verify.ReportVersion, Started: time.Date(2026, 11, 22, 2, 30, 0, 0, time.UTC),
		Duration: 712 * time.Millisecond, NICs: nics,
	}
}

func healthy() verify.Report {
	r := base(nic(db1, noGateway), nic(db2, noGateway), nic(kiosk1, noFDB), nic(web1), nic(web2))
	for _, ends := range [][2]verify.Endpoint{{web1, web2}, {web2, web1}, {db1, db2}, {db2, db1}} {
		r.Pairs = append(r.Pairs, pair(ends[0], ends[1], reach, verify.StatusPass))
	}
	for _, ends := range [][2]verify.Endpoint{{web1, db1}, {db1, web1}, {web2, db2}, {web1, kiosk1}, {kiosk1, db1}} {
		r.Pairs = append(r.Pairs, pair(ends[0], ends[1], apart, verify.StatusPass))
	}
	return r
}

func leaking() verify.Report {
	r := base(nic(db1, failed(verify.RungLink)), nic(db2, noGateway), nic(web1, failed(verify.RungVLAN)), nic(web2))
	r.Pairs = []verify.PairResult{
		pair(web1, web2, reach, verify.StatusNotReached),
		pair(web1, db2, apart, verify.StatusLeak),
		pair(web2, db2, apart, verify.StatusPass),
	}
	r.Problems = []verify.Problem{
		{
			Problem: vnet.Problem{
				Code: verify.CodeWrongVLAN, Subject: "guest web1, NIC vnet-web1", Want: "access 20", Got: "access 30",
				Evidence: []string{"ovs0: port vnet-web1 is access 30, network red wants access 20"},
				Fix:      "virt-vnet repair web1",
			},
			Rung: verify.RungVLAN, Network: "red", Affects: []verify.Endpoint{web1},
			Leaks: []string{"web1 (red) -> db2 (blue): delivered as unicast and broadcast"},
		},
		{
			Problem: vnet.Problem{
				Code: verify.CodeLinkDown, Subject: "guest db1, NIC vnet-db1", Want: "link up", Got: "link set down in libvirt",
				Evidence: []string{"vnet-db1: libvirt link state down, device up, carrier yes, and much more that makes this a long line"},
				Fix:      "virsh domif-setlink db1 vnet-db1 up",
			},
			Rung: verify.RungLink, Network: "blue", Affects: []verify.Endpoint{db1},
		},
	}
	return r
}

// crowded has the same fault in many guests, and one cause for many.
func crowded() verify.Report {
	r := base()
	gateway := verify.Problem{
		Problem: vnet.Problem{
			Code: verify.CodeGatewayUnreachable, Subject: "network blue", Want: "an answer from gateway 10.0.30.1",
			Got: "silence", Fix: "virt-vnet show network blue",
		},
		Rung: verify.RungGateway, Network: "blue",
	}
	for i := range 12 {
		e := end(fmt.Sprintf("web%02d", i), "red")
		r.NICs = append(r.NICs, nic(e, failed(verify.RungVLAN)))
		r.Problems = append(r.Problems, verify.Problem{
			Problem: vnet.Problem{
				Code: verify.CodeWrongVLAN, Subject: "guest " + e.Guest + ", NIC " + e.Device, Want: "access 20", Got: "untagged",
				Evidence: []string{"ovs0: port " + e.Device + " is untagged, network red wants access 20"},
				Fix:      "virt-vnet repair " + e.Guest,
			},
			Rung: verify.RungVLAN, Network: "red", Affects: []verify.Endpoint{e},
		})
		b := end(fmt.Sprintf("db%02d", i), "blue")
		r.NICs = append(r.NICs, nic(b, failed(verify.RungGateway)))
		gateway.Affects = append(gateway.Affects, b)
	}
	r.Problems = append(r.Problems, gateway)
	return r
}

func unsure() verify.Report {
	r := base(
		nic(web1, verify.Rung{Name: verify.RungAddress, Status: verify.StatusInconclusive, Reason: "no address is known"}),
		nic(web2),
	)
	r.Pairs = []verify.PairResult{pair(web2, db1, apart, verify.StatusInconclusive)}
	r.Limits = []string{"nothing was sent as the guests: pairs, isolation and gateways are not proved: make tap: operation not permitted"}
	return r
}

// night is a report with one of everything: several problems, one for many
// guests, one waived, a leak, what could not be told, expectations, and a past.
func night() report.Result {
	web3, db3, old := end("web3", "red"), end("db3", "blue"), end("old1", "blue")
	pinged := func(n verify.NICResult, received int, median, worst time.Duration) verify.NICResult {
		n.Latency = &verify.Latency{Sent: 20, Received: received, Median: median, Worst: worst}
		return n
	}
	r := base(
		nic(db1, failed(verify.RungUplink)), nic(db2, failed(verify.RungUplink)), nic(db3, failed(verify.RungUplink)),
		nic(old, failed(verify.RungLink)),
		nic(kiosk1, noFDB),
		nic(web1, failed(verify.RungVLAN)),
		pinged(nic(web2), 20, 380*time.Microsecond, 1200*time.Microsecond),
		pinged(nic(web3, verify.Rung{Name: verify.RungND, Status: verify.StatusInconclusive, Reason: "no IPv6 address is known"}),
			17, 460*time.Microsecond, 9*time.Millisecond),
	)
	r.NICs[3].Waived = true
	r.Notes = []string{"the waiver of NO_ARP for guest web2 expired on 2026-11-20: site.yaml:60"}
	r.NICs[6].ReachableAfter = 4200 * time.Millisecond
	r.NICs[7].ReachableAfter = 11800 * time.Millisecond
	r.Pairs = []verify.PairResult{
		pair(web1, web2, reach, verify.StatusNotReached),
		pair(web2, web3, reach, verify.StatusPass),
		pair(web1, db2, apart, verify.StatusLeak),
		pair(web2, db2, apart, verify.StatusPass),
		pair(db1, web2, apart, verify.StatusInconclusive),
		pair(kiosk1, web2, apart, verify.StatusPass),
	}
	r.Pairs = append(r.Pairs, pair(old, kiosk1, apart, verify.StatusLeak))
	r.Pairs[6].Cause, r.Pairs[6].Waived = "LINK_DOWN: guest old1, NIC vnet-old1", true
	r.Pairs[2].Cause = "WRONG_VLAN: guest web1, NIC vnet-web1"
	r.Checks = []verify.CheckResult{
		{Name: "web2 latency web3 < 2ms", Where: "site.yaml:41", Status: verify.StatusPass, Value: "0.46 ms"},
		{
			Name: "web2 tcp db1:5432", Where: "site.yaml:42", Status: verify.StatusFail,
			Evidence: []string{"10.0.30.11 answered SYN to port 5432 with RST"}, Cause: "TCP_REFUSED: web2 tcp db1:5432",
		},
		{Name: "web3 dns intranet", Where: "site.yaml:43", Status: verify.StatusInconclusive, Reason: "the name server is not known"},
		{Name: "kiosk1 deny web1", Where: "site.yaml:44", Status: verify.StatusSkip, Reason: "web1 is broken already"},
		{
			Name: "old1 reach web2", Where: "site.yaml:45", Status: verify.StatusFail, Waived: true,
			Cause: "LINK_DOWN: guest old1, NIC vnet-old1",
		},
	}
	r.Switches = []verify.SwitchResult{
		{Name: "br0", Driver: vnet.DriverLinux, Uplink: "eno1", Up: true},
		{Name: "ovs0", Driver: vnet.DriverOVS, Up: true},
	}
	r.Limits = []string{"host firewall: list rules: operation not permitted"}
	r.Problems = []verify.Problem{
		{
			Problem: vnet.Problem{
				Code: verify.CodeWrongVLAN, Subject: "guest web1, NIC vnet-web1", Want: "access 20", Got: "access 30",
				Evidence: []string{"ovs0: port vnet-web1 is access 30, network red wants access 20"}, Fix: "virt-vnet repair web1",
			},
			Rung: verify.RungVLAN, Network: "red", Affects: []verify.Endpoint{web1},
			Leaks: []string{"web1 (red) -> db2 (blue): delivered as unicast and broadcast"},
		},
		{
			Problem: vnet.Problem{
				Code: verify.CodeLinkDown, Subject: "guest old1, NIC vnet-old1", Want: "link up", Got: "link set down in libvirt",
				Evidence: []string{"vnet-old1: libvirt link state down"}, Fix: "virsh domif-setlink old1 vnet-old1 up",
			},
			Rung: verify.RungLink, Network: "blue", Affects: []verify.Endpoint{old},
			Waived: &verify.Waived{Owner: "ann", Until: time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC), Reason: "to be scrapped"},
		},
		{
			Problem: vnet.Problem{
				Code: verify.CodeUplinkDown, Subject: "uplink eno1 of br0", Want: "up, with carrier", Got: "no carrier",
				Evidence: []string{"eno1: up, no carrier since 02:11"}, Fix: "ip link show eno1",
			},
			Rung: verify.RungUplink, Network: "blue", Affects: []verify.Endpoint{db1, db2, db3},
		},
		{
			Problem: vnet.Problem{
				Code: verify.CodeTCPRefused, Subject: "web2 tcp db1:5432", Want: "a connection", Got: "a reset",
				Evidence: []string{"10.0.30.11 answered SYN to port 5432 with RST"}, Fix: "ss -ltn sport = :5432",
			},
			Network: "blue", Affects: []verify.Endpoint{web2},
		},
	}
	return report.Result{Report: r, Host: "node7", Program: "virt-vnet 0.4.0", Past: past(r, web2)}
}

func past(r verify.Report, seen verify.Endpoint) *history.Past {
	nightly := func(n int) time.Time { return time.Date(2026, 11, n, 2, 30, 0, 0, time.UTC) }
	gone := verify.Problem{
		Problem: vnet.Problem{Code: verify.CodeDomainDown, Subject: "guest cache1", Want: "running", Got: "shut off", Fix: "virsh start cache1"},
		Rung:    verify.RungDomain, Network: "red", Affects: []verify.Endpoint{end("cache1", "red")},
	}
	fixed := gone
	fixed.Code, fixed.Subject = verify.CodeNoARP, "guest web2, NIC vnet-web2"
	return &history.Past{
		Changes: []history.Change{
			{State: history.StateNew, Problem: r.Problems[0], Since: r.Started},
			{State: history.StateStill, Problem: r.Problems[1], Since: nightly(2)},
			{State: history.StateStill, Problem: r.Problems[2], Since: nightly(20)},
			{State: history.StateFlapping, Problem: r.Problems[3], Since: nightly(21)},
			{State: history.StateFixed, Problem: fixed, Since: nightly(19)},
			{State: history.StateGone, Problem: gone, Since: nightly(18)},
		},
		Trends: []history.Trend{{
			Endpoint: seen,
			Samples: []history.Sample{
				{Time: nightly(21), Status: verify.StatusFail},
				{Time: nightly(22), Status: verify.StatusPass, Median: 380 * time.Microsecond},
			},
			Median: 370 * time.Microsecond, MAD: 20 * time.Microsecond,
		}},
		Runs: []history.Run{{
			ID: 41, Started: nightly(21), Duration: 690 * time.Millisecond, Verdict: verify.VerdictFail, NICs: 9, Problems: 4,
		}},
	}
}

// evil has names and texts that mean something to a terminal or a parser.
func evil() report.Result {
	const bad = "a<b>&\"'|\\{}]]>\n\x1b[2J\x07\r\u202e\x00é\xff"
	e := end(bad, "red\""+bad)
	r := base(nic(e, verify.Rung{Name: verify.RungARP, Status: verify.StatusFail}), nic(end(bad+"2", bad), verify.Rung{
		Name: verify.RungMAC, Status: verify.StatusInconclusive, Reason: bad, Evidence: []string{bad},
	}))
	r.Pairs = []verify.PairResult{pair(e, e, apart, verify.StatusLeak), pair(e, end(bad, bad), reach, verify.StatusInconclusive)}
	r.Pairs[1].Reason = bad
	r.Checks = []verify.CheckResult{
		{Name: bad, Where: bad, Status: verify.StatusFail, Reason: bad, Value: bad, Evidence: []string{bad}},
		{Name: bad + "2", Status: verify.StatusSkip, Reason: bad},
	}
	r.Switches = []verify.SwitchResult{{Name: bad, Driver: vnet.DriverLinux, Uplink: bad}}
	r.Limits, r.Notes = []string{bad}, []string{bad}
	open := verify.Problem{
		Problem: vnet.Problem{Code: verify.CodeNoARP, Subject: "guest " + bad, Want: bad, Got: bad, Evidence: []string{bad}, Fix: "virsh start " + bad},
		Rung:    verify.RungARP, Network: "red\"" + bad, Affects: []verify.Endpoint{e}, Leaks: []string{bad},
	}
	waived := open
	waived.Subject, waived.Waived = bad, &verify.Waived{Owner: bad, Reason: bad}
	r.Problems = []verify.Problem{open, waived}
	return report.Result{Report: r, Host: bad, Program: bad, Past: &history.Past{
		Changes: []history.Change{{State: history.StateStill, Problem: open}, {State: history.StateGone, Problem: waived}},
	}}
}
