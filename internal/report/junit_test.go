// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report_test

import (
	"encoding/xml"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"github.com/virt-vnet/virt-vnet/internal/golden"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/report"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func parse(t *testing.T, text string) junit.Testsuites {
	t.Helper()
	var suites junit.Testsuites
	if err := xml.Unmarshal([]byte(text), &suites); err != nil {
		t.Fatal(err)
	}
	return suites
}

func TestJUnit(t *testing.T) {
	out := text(t, "junit", night(), report.Style{})
	golden.Check(t, filepath.Join("testdata", "night.junit.xml"), out)
	suites := parse(t, out)
	want := map[string]string{
		"run/nothing limited the run":                "error inconclusive: host firewall: list rules: operation not permitted",
		"network red/web1: link":                     "",
		"network red/web1: vlan":                     "failure WRONG_VLAN: guest web1, NIC vnet-web1: got access 30, want access 20",
		"network red/web1: mtu":                      "skipped : not reached: broken at vlan",
		"network red/web3: nd":                       "error inconclusive: no IPv6 address is known",
		"network red/pairs: guests reach each other": "",
		"network red/pairs: kept apart from blue":    "failure LEAK: 1 pair: web1 (red) -> db2 (blue): leak, delivered as unicast and broadcast: WRONG_VLAN: guest web1, NIC vnet-web1",
		"network blue/pairs: kept apart from red":    "error inconclusive: the frame was not seen entering the port",
		"network blue/db2: uplink":                   "failure UPLINK_DOWN: uplink eno1 of br0: got no carrier, want up, with carrier",
		"network blue/old1: link":                    "skipped : waived by ann until 2026-12-24: to be scrapped: LINK_DOWN: guest old1, NIC vnet-old1: got link set down in libvirt, want link up",
		"network edge/kiosk1: mac":                   "skipped : a macvtap has no forwarding table",
		"expectations/web2 tcp db1:5432":             "failure TCP_REFUSED: web2 tcp db1:5432: got a reset, want a connection",
		"expectations/web2 latency web3 < 2ms":       "",
		"expectations/web3 dns intranet":             "error inconclusive: the name server is not known",
		"expectations/old1 reach web2":               "skipped : waived by ann until 2026-12-24: to be scrapped: LINK_DOWN: guest old1, NIC vnet-old1: got link set down in libvirt, want link up",
		"network blue/pairs: kept apart from edge":   "skipped : waived by ann until 2026-12-24: to be scrapped: LINK_DOWN: guest old1, NIC vnet-old1: got link set down in libvirt, want link up",
		"expectations/kiosk1 deny web1":              "skipped : web1 is broken already",
	}
	for _, s := range suites.Suites {
		for _, c := range s.Testcases {
			name := s.Name + "/" + c.Name
			if w, ok := want[name]; ok {
				if got := outcome(c); got != w {
					t.Errorf("%s:\n got %q\nwant %q", name, got, w)
				}
				delete(want, name)
			}
		}
	}
	for name := range want {
		t.Errorf("there is no case %s", name)
	}
}

func outcome(c junit.Testcase) string {
	switch {
	case c.Failure != nil:
		return "failure " + c.Failure.Type + ": " + c.Failure.Message
	case c.Error != nil:
		return "error " + c.Error.Type + ": " + c.Error.Message
	case c.Skipped != nil:
		return "skipped : " + c.Skipped.Message
	}
	return ""
}

// TestJUnitTellsEveryProblem loses no problem, whatever it is about.
func TestJUnitTellsEveryProblem(t *testing.T) {
	r := healthy()
	r.Problems = []verify.Problem{{
		Problem: vnet.Problem{Code: verify.CodeSlow, Subject: "guest web1", Want: "0.4 ms", Got: "9 ms"}, Affects: []verify.Endpoint{web1},
	}}
	suites := parse(t, text(t, "junit", report.Result{Report: r}, report.Style{}))
	last := suites.Suites[len(suites.Suites)-1]
	if got := outcome(last.Testcases[0]); suites.Failures != 1 || got != "failure SLOW: guest web1: got 9 ms, want 0.4 ms" {
		t.Errorf("%d failures, the last suite has %q", suites.Failures, got)
	}
}

// TestJUnitWaivedPairs skips pairs that fail for a waived cause only.
func TestJUnitWaivedPairs(t *testing.T) {
	r := healthy()
	r.Pairs[0].Status, r.Pairs[0].Cause = verify.StatusFail, "NOT_ANSWERED: guest web2"
	r.Problems = []verify.Problem{{
		Problem: vnet.Problem{Code: verify.CodeNotAnswered, Subject: "guest web2"}, Affects: []verify.Endpoint{web2},
		Waived: &verify.Waived{Owner: "bob", Until: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
	}}
	suites := parse(t, text(t, "junit", report.Result{Report: r}, report.Style{}))
	if suites.Failures+suites.Errors != 0 {
		t.Errorf("%d failures and %d errors, want none", suites.Failures, suites.Errors)
	}
	r.Pairs[1].Status, r.Pairs[1].Cause = verify.StatusFail, "NOT_DELIVERED: guest web1"
	suites = parse(t, text(t, "junit", report.Result{Report: r}, report.Style{}))
	if suites.Failures != 1 {
		t.Errorf("%d failures, want the one of the other pair", suites.Failures)
	}
}

// TestJUnitIsValid has xmllint hold every kind of report against what CI
// systems read.
func TestJUnitIsValid(t *testing.T) {
	xmllint := lab.NeedProgram(t, "xmllint")
	twoNICs := healthy()
	second := twoNICs.NICs[3]
	second.MAC[5]++
	unnamed := twoNICs.NICs[3]
	unnamed.MAC, unnamed.Device = vnet.MAC{}, ""
	twoNICs.NICs = append(twoNICs.NICs, second, unnamed, unnamed)
	twoNICs.Checks = []verify.CheckResult{{Name: "a reach b", Status: verify.StatusSkip}, {Name: "a reach b", Status: verify.StatusInconclusive}}
	for name, r := range map[string]report.Result{
		"night": night(), "healthy": {Report: healthy()}, "nothing": {Report: base()}, "unsure": {Report: unsure()},
		"crowded": {Report: crowded()}, "evil": evil(), "two NICs": {Report: twoNICs},
	} {
		out := text(t, "junit", r, report.Style{})
		cmd := exec.CommandContext(t.Context(), xmllint, "--noout", "--schema", "testdata/junit.xsd", "-")
		cmd.Stdin = strings.NewReader(out)
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, said)
		}
		checkCounts(t, name, parse(t, out))
	}
}

// checkCounts compares the counts that a reader trusts with what is there.
func checkCounts(t *testing.T, name string, suites junit.Testsuites) {
	t.Helper()
	var all junit.Testsuite
	for _, s := range suites.Suites {
		var counted junit.Testsuite
		for _, c := range s.Testcases {
			counted.AddTestcase(c)
			all.AddTestcase(c)
		}
		if counted.Tests != s.Tests || counted.Failures != s.Failures || counted.Errors != s.Errors || counted.Skipped != s.Skipped {
			t.Errorf("%s: suite %s counts wrongly", name, s.Name)
		}
	}
	if all.Tests != suites.Tests || all.Failures != suites.Failures || all.Errors != suites.Errors || all.Skipped != suites.Skipped {
		t.Errorf("%s: the suites count wrongly", name)
	}
}
