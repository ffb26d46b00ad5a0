// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestWaive(t *testing.T) {
	now := time.Date(2027, 1, 31, 23, 59, 0, 0, time.Local)
	until := time.Date(2027, 1, 31, 0, 0, 0, 0, time.Local)
	for _, test := range []struct {
		name string
		w    vnet.Waiver
		want bool
	}{
		{"by code", vnet.Waiver{Code: CodeWrongVLAN}, true},
		{"by guest", vnet.Waiver{Guest: "web9"}, true},
		{"by network", vnet.Waiver{Network: "red"}, true},
		{"by all", vnet.Waiver{Code: CodeWrongVLAN, Guest: "web9", Network: "red"}, true},
		{"other code", vnet.Waiver{Code: CodeLinkDown, Guest: "web9"}, false},
		{"other guest", vnet.Waiver{Code: CodeWrongVLAN, Guest: "web8"}, false},
		{"other network", vnet.Waiver{Code: CodeWrongVLAN, Network: "blue"}, false},
		{"expired", vnet.Waiver{Code: CodeWrongVLAN, Until: until.AddDate(0, 0, -1)}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.w.Until.IsZero() {
				test.w.Until = until
			}
			r := &run{opts: Options{Now: func() time.Time { return now }}, inventory: Inventory{Waivers: []vnet.Waiver{test.w}}}
			p := &Problem{
				Problem: vnet.Problem{Code: CodeWrongVLAN}, Network: "red",
				Affects: []Endpoint{{Guest: "web9", Network: "red"}},
			}
			if r.waive(p); p.waived() != test.want {
				t.Errorf("waived: %v, want %v", p.waived(), test.want)
			}
			if notes := r.notes(); (len(notes) == 1) != test.w.Expired(now) {
				t.Errorf("notes %q", notes)
			}
		})
	}
}

// What is known of one guest hides neither the same of another nor a leak.
func TestGatherKeepsWaivedApart(t *testing.T) {
	problem := func(guest string, w *Waived) *Problem {
		return &Problem{
			Problem: vnet.Problem{Code: CodeGatewayUnreachable, Subject: "network red"},
			Affects: []Endpoint{{Guest: guest}}, Waived: w,
		}
	}
	known := &Waived{Owner: "alice"}
	got := gather([]*Problem{problem("web1", nil), problem("web9", known), problem("web2", nil), problem("web8", known)})
	if len(got) != 2 || len(got[0].Affects) != 2 || got[0].Waived != nil || got[1].Waived == nil {
		t.Errorf("got %+v", got)
	}
}

func TestVerdictPassesOverWaived(t *testing.T) {
	report := Report{
		NICs:   []NICResult{{Status: StatusFail, Waived: true}},
		Pairs:  []PairResult{{Status: StatusLeak, Waived: true}},
		Checks: []CheckResult{{Status: StatusLeak, Waived: true}},
	}
	if v := report.Verdict(); v != VerdictPass {
		t.Errorf("all is waived: %s", v)
	}
	report.Checks[0].Waived = false
	if v := report.Verdict(); v != VerdictLeak {
		t.Errorf("a check leaks: %s", v)
	}
}

// A waived fault, and guests that are expected to be down: one is, one is not.
func TestRunWaivedAndDown(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	for _, name := range []string{"web1", "web2", "web3", "web4"} {
		s.tapGuest(name, "red", "10.0.20.1"+name[3:]+"/24")
	}
	s.vsctl("set", "port", "tap-web2", "tag=99")
	s.guest("web3").Running, s.guest("web3").Down, s.guest("web3").State = false, true, "shut off"
	s.guest("web4").Down = true
	s.waivers = []vnet.Waiver{
		{Guest: "web2", Owner: "alice", Until: time.Now()},
		{Network: "red", Owner: "bob", Until: time.Now().AddDate(0, 0, -2), Where: "spec.yaml:7"},
	}
	report := s.verify()
	if report.Verdict() != VerdictPass || len(report.Problems) != 1 || report.Problems[0].Waived == nil {
		t.Errorf("want a pass with one waived problem:\n%s", brief(report))
	}
	for _, n := range report.NICs {
		want := map[string]Status{"web3": StatusSkip}[n.Guest]
		if want == "" {
			want = StatusPass
		}
		if got := n.Rung(RungDomain).Status; got != want {
			t.Errorf("%s: domain %s, want %s", n.Guest, got, want)
		}
	}
	for _, p := range report.Pairs {
		if p.From.Guest == "web3" || p.To.Guest == "web3" {
			t.Errorf("a guest that is down was tried: %+v", p)
		}
	}
	notes := strings.Join(report.Notes, "\n")
	if len(report.Notes) != 2 || !strings.Contains(notes, "spec.yaml:7") || !strings.Contains(notes, "web4 runs") {
		t.Errorf("notes:\n%s", notes)
	}

	s.waivers = nil
	if report := s.verify(); report.Verdict() != VerdictFail {
		t.Errorf("nothing is waived, and the verdict is %s", report.Verdict())
	}
}
