// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"testing"

	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestOutcome holds problems of several NICs, and of pairs, against reports.
func TestOutcome(t *testing.T) {
	gateway := verify.Problem{
		Problem: vnet.Problem{Code: verify.CodeGatewayUnreachable, Subject: "network red"},
		Rung:    verify.RungGateway, Affects: []verify.Endpoint{web1, web2},
	}
	leak := verify.Problem{
		Problem: vnet.Problem{Code: verify.CodeLeak, Subject: "network red"}, Affects: []verify.Endpoint{web1, web2},
	}
	refused := verify.Problem{
		Problem: vnet.Problem{Code: verify.CodeTCPRefused, Subject: "web1 tcp web2:80"}, Affects: []verify.Endpoint{web1},
	}
	nics := func(gateway1, gateway2 verify.Status) verify.Report {
		var r verify.Report
		for i, e := range []verify.Endpoint{web1, web2} {
			status := []verify.Status{gateway1, gateway2}[i]
			r.NICs = append(r.NICs, verify.NICResult{
				Endpoint: e, Status: verify.StatusPass, Rungs: []*verify.Rung{{Name: verify.RungGateway, Status: status}},
			})
		}
		return r
	}
	pair := func(status verify.Status) verify.Report {
		r := nics(verify.StatusPass, verify.StatusPass)
		r.Pairs = []verify.PairResult{{From: web2, To: web1, Status: status}}
		return r
	}
	check := func(status verify.Status) verify.Report {
		r := nics(verify.StatusPass, verify.StatusPass)
		r.Checks = []verify.CheckResult{{Name: "web1 tcp web2:80", Status: status}, {Name: "other", Status: verify.StatusInconclusive}}
		return r
	}
	lost := func(here ...verify.NICResult) verify.Report {
		return verify.Report{NICs: here, GuestsUnknown: true, Limits: []string{"the guests of host b are not known"}}
	}
	broken := pair(verify.StatusPass)
	broken.NICs[0].Status = verify.StatusFail
	for name, tt := range map[string]struct {
		problem verify.Problem
		report  verify.Report
		want    outcome
	}{
		"one of two passes, the other is broken before": {gateway, nics(verify.StatusPass, verify.StatusNotReached), absent},
		"one of two fails for another reason":           {gateway, nics(verify.StatusPass, verify.StatusFail), unknown},
		"neither is told":                               {gateway, nics(verify.StatusInconclusive, verify.StatusNotReached), unknown},
		"nothing to check any more":                     {gateway, nics(verify.StatusSkip, verify.StatusSkip), absent},
		"pair passes":                                   {leak, pair(verify.StatusPass), absent},
		"pair is not told":                              {leak, pair(verify.StatusInconclusive), unknown},
		"pair was not reached":                          {leak, pair(verify.StatusNotReached), unknown},
		"an end of the pair is broken":                  {leak, broken, unknown},
		"expectation passes":                            {refused, check(verify.StatusPass), absent},
		"expectation is not told":                       {refused, check(verify.StatusInconclusive), unknown},
		"expectation left the spec":                     {refused, nics(verify.StatusPass, verify.StatusPass), absent},
		"no guest is left":                              {leak, verify.Report{}, gone},
		"no guest is left, with other limits":           {leak, verify.Report{Limits: []string{"DHCP is not watched"}}, gone},
		"no guest could be looked at":                   {leak, lost(), unknown},
		"an end could not be looked at":                 {leak, lost(nics(verify.StatusPass, verify.StatusPass).NICs[0]), unknown},
		"one of two could not be looked at":             {gateway, lost(nics(verify.StatusPass, verify.StatusPass).NICs[0]), absent},
	} {
		if got := look(tt.report, false).outcome(tt.problem); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}
