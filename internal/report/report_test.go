// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/virt-vnet/virt-vnet/internal/golden"
	"github.com/virt-vnet/virt-vnet/internal/report"
	"github.com/virt-vnet/virt-vnet/verify"
)

// text is the result in a form.
func text(t *testing.T, form string, r report.Result, style report.Style) string {
	t.Helper()
	var out strings.Builder
	if err := report.Write(form, &out, r, style); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTable(t *testing.T) {
	plain := func(r verify.Report) report.Result { return report.Result{Report: r} }
	for name, test := range map[string]struct {
		result report.Result
		style  report.Style
	}{
		"nothing":       {plain(base()), report.Style{}},
		"leaking":       {plain(leaking()), report.Style{Width: 80}},
		"leaking-color": {plain(leaking()), report.Style{Color: true}},
		"crowded":       {plain(crowded()), report.Style{Width: 100}},
		"unsure":        {plain(unsure()), report.Style{Width: 60}},
		"healthy":       {plain(healthy()), report.Style{}},
		"night":         {night(), report.Style{Width: 100}},
	} {
		t.Run(name, func(t *testing.T) {
			out := text(t, "table", test.result, test.style)
			golden.Check(t, filepath.Join("testdata", name+".txt"), out)
			rows := regexp.MustCompile("^(NETWORK|red|blue|edge) ")
			for line := range strings.Lines(out) {
				if w := test.style.Width; w > 0 && len(line) > w+1 && !strings.Contains(line, "repair") && !rows.MatchString(line) {
					t.Errorf("wider than %d columns: %q", w, line)
				}
			}
		})
	}
}

// TestTableOfManyExpectations shows of many only those that are not met.
func TestTableOfManyExpectations(t *testing.T) {
	r := report.Result{Report: healthy()}
	for range 40 {
		r.Checks = append(r.Checks, verify.CheckResult{Name: "web1 reach web2", Status: verify.StatusPass})
	}
	r.Checks = append(r.Checks, verify.CheckResult{Name: "web1 tcp db1:22", Status: verify.StatusFail, Reason: "refused"})
	out := text(t, "table", r, report.Style{})
	if strings.Contains(out, "web1 reach web2") || !strings.Contains(out, "40 of 41 expectations met") ||
		!strings.Contains(out, "web1 tcp db1:22  fail    -         refused") {
		t.Errorf("got:\n%s", out)
	}
}

// TestNothingSteersATerminal holds for the forms that people see as they are.
func TestNothingSteersATerminal(t *testing.T) {
	for _, form := range []string{"table", "nagios"} {
		out := text(t, form, evil(), report.Style{Width: 80})
		bad := func(r rune) bool { return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) }
		if i := strings.IndexFunc(out, bad); i >= 0 {
			t.Errorf("%s: control characters in %q", form, out)
		}
	}
}

func TestJSON(t *testing.T) {
	want := night()
	out := text(t, "json", want, report.Style{})
	golden.Check(t, filepath.Join("testdata", "night.json"), out)
	var back struct {
		Verdict verify.Verdict
		report.Result
	}
	if err := json.Unmarshal([]byte(out), &back); err != nil {
		t.Fatal(err)
	}
	if back.Verdict != verify.VerdictLeak {
		t.Errorf("verdict %q, want %q", back.Verdict, verify.VerdictLeak)
	}
	if diff := cmp.Diff(want, back.Result, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("the report does not come back (-want +got):\n%s", diff)
	}
}

// What is written in parts is what would be written at once.
func TestJSONInParts(t *testing.T) {
	noPairs, nothing := night(), night()
	noPairs.Pairs = nil
	nothing.NICs, nothing.Pairs = []verify.NICResult{}, nil
	for name, r := range map[string]report.Result{"all": night(), "no pairs": noPairs, "nothing": nothing} {
		var want strings.Builder
		encoder := json.NewEncoder(&want)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(struct {
			Verdict verify.Verdict `json:"verdict"`
			report.Result
		}{r.Verdict(), r}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.String(), text(t, "json", r, report.Style{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if err := report.JSON(full{}, night()); !errors.Is(err, errFull) {
		t.Errorf("a disk that is full: %v", err)
	}
}

var errFull = errors.New("no space left")

// full is a disk that is.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestNagios(t *testing.T) {
	for name, test := range map[string]struct {
		result report.Result
		want   string
		state  report.NagiosState
	}{
		"healthy": {
			report.Result{Report: healthy()},
			"VIRT-VNET OK - 5 of 5 NICs fine on 5 guests in 3 networks, 5 pairs proved apart, in 0.7 s | " +
				"nics_fine=5;;;0;5 nics_failed=0;;;0 nics_unsure=0;;;0 problems=0;;;0 waived=0;;;0 pairs_leaking=0;;;0 duration=0.712s;;;0\n",
			0,
		},
		"unsure": {
			report.Result{Report: unsure()},
			"VIRT-VNET UNKNOWN - 1 of 2 NICs fine on 2 guests in 1 network, in 0.7 s; could not tell: nothing was sent as the guests: " +
				"pairs, isolation and gateways are not proved: make tap: operation not permitted | " +
				"nics_fine=1;;;0;2 nics_failed=0;;;0 nics_unsure=1;;;0 problems=0;;;0 waived=0;;;0 pairs_leaking=0;;;0 duration=0.712s;;;0\n",
			3,
		},
		"night": {
			night(),
			"VIRT-VNET CRITICAL - LEAK: 2 of 8 NICs fine on 8 guests in 3 networks, 1 pair leaking, 2 pairs proved apart, 1 new, 1 still, " +
				"1 flapping, 1 fixed, 1 gone, 1 waived, 1 of 3 expectations met, in 0.7 s; WRONG_VLAN guest web1, NIC vnet-web1; " +
				"UPLINK_DOWN 3 guests: uplink eno1 of br0; TCP_REFUSED web2 tcp db1:5432 | " +
				"nics_fine=2;;;0;8 nics_failed=4;;;0 nics_unsure=1;;;0 problems=3;;;0 waived=1;;;0 pairs_leaking=1;;;0 duration=0.712s;;;0 slowest_latency=0.00046s;;;0\n",
			2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, text(t, "nagios", test.result, report.Style{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := report.NagiosStateOf(test.result.Verdict()); got != test.state {
				t.Errorf("state %d, want %d", got, test.state)
			}
		})
	}
	out := text(t, "nagios", evil(), report.Style{})
	if strings.Count(out, "\n") != 1 || strings.Count(out, "|") != 1 {
		t.Errorf("not one line with one bar: %q", out)
	}
}

func TestWrite(t *testing.T) {
	if err := report.Write("yaml", io.Discard, night(), report.Style{}); err == nil || !strings.Contains(err.Error(), "want one of table, json,") {
		t.Errorf("unknown form: error %v", err)
	}
	full := errors.New("disk full")
	for _, form := range report.Formats() {
		if err := report.Write(form, brokenWriter{full}, night(), report.Style{}); !errors.Is(err, full) {
			t.Errorf("%s: error %v, want %v", form, err, full)
		}
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }
