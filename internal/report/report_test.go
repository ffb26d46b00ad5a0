// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/virt-vnet/virt-vnet/internal/golden"
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
		n.Rungs = append(n.Rungs, r)
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

func TestTable(t *testing.T) {
	for name, test := range map[string]struct {
		report verify.Report
		style  report.Style
	}{
		"nothing":       {base(), report.Style{}},
		"leaking":       {leaking(), report.Style{Width: 80}},
		"leaking-color": {leaking(), report.Style{Color: true}},
		"crowded":       {crowded(), report.Style{Width: 100}},
		"unsure":        {unsure(), report.Style{Width: 60}},
		"healthy":       {healthy(), report.Style{}},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := report.Table(&out, test.report, test.style); err != nil {
				t.Fatal(err)
			}
			golden.Check(t, filepath.Join("testdata", name+".txt"), out.String())
			for line := range strings.Lines(out.String()) {
				if w := test.style.Width; w > 0 && len(line) > w+1 &&
					!strings.Contains(line, "repair") && !strings.HasPrefix(line, "red ") {
					t.Errorf("wider than %d columns: %q", w, line)
				}
			}
		})
	}
}

func TestTableSteersNoTerminal(t *testing.T) {
	evil := end("a\x1b[2Jb", "red\r")
	r := base(nic(evil, failed(verify.RungDomain)))
	r.Problems = []verify.Problem{{
		Problem: vnet.Problem{Code: verify.CodeDomainDown, Subject: "guest a\x1b[2Jb", Got: "\x07", Fix: "virsh start \x1b[2J"},
		Affects: []verify.Endpoint{evil},
	}}
	var out strings.Builder
	if err := report.Table(&out, r, report.Style{}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\x07\r") {
		t.Errorf("control characters in %q", out.String())
	}
}

func TestJSON(t *testing.T) {
	var out strings.Builder
	if err := report.JSON(&out, leaking()); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, filepath.Join("testdata", "leaking.json"), out.String())
	var back struct {
		Verdict verify.Verdict
		verify.Report
	}
	if err := json.Unmarshal([]byte(out.String()), &back); err != nil {
		t.Fatal(err)
	}
	if back.Verdict != verify.VerdictLeak {
		t.Errorf("verdict %q, want %q", back.Verdict, verify.VerdictLeak)
	}
	if diff := cmp.Diff(leaking(), back.Report, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("the report does not come back (-want +got):\n%s", diff)
	}
}

func TestWriteError(t *testing.T) {
	full := errors.New("disk full")
	if err := report.Table(brokenWriter{full}, healthy(), report.Style{}); !errors.Is(err, full) {
		t.Errorf("table: error %v, want %v", err, full)
	}
	if err := report.JSON(brokenWriter{full}, healthy()); !errors.Is(err, full) {
		t.Errorf("JSON: error %v, want %v", err, full)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }
