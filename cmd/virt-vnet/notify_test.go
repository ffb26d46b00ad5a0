// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

var wrongVLAN = verify.Problem{
	Problem: vnet.Problem{Code: verify.CodeWrongVLAN, Subject: "guest web1, NIC vnet0", Got: "access 30"},
	Affects: []verify.Endpoint{{Guest: "web1", Network: "red"}},
}

func failing() verify.Report {
	return verify.Report{
		Version: verify.ReportVersion, Started: time.Date(2026, 11, 24, 2, 31, 0, 0, time.UTC),
		NICs:     []verify.NICResult{{Endpoint: wrongVLAN.Affects[0], Status: verify.StatusFail}},
		Problems: []verify.Problem{wrongVLAN},
	}
}

func changed(state history.State, fresh bool) *history.Past {
	return &history.Past{Changes: []history.Change{{State: state, Problem: wrongVLAN, Fresh: fresh}}}
}

// told is a notifier that has told, and the warnings of it.
func told(t *testing.T, command, target string, past *history.Past) string {
	t.Helper()
	n, err := newNotifier(command, target)
	if err != nil {
		t.Fatal(err)
	}
	n.limit, n.commandLimit, n.pauses = 500*time.Millisecond, 2*time.Second, []time.Duration{time.Millisecond, time.Millisecond}
	var talk strings.Builder
	n.tell(t.Context(), stdio{err: &talk}, failing(), past)
	return talk.String()
}

func TestNotifyCommand(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "tell it.sh")
	text := "#!/bin/sh\ncat >\"$1\"\nenv | grep ^VIRT_VNET >\"$1.env\"\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VIRT_VNET_NOTIFY_URL", "https://chat.example.com/secret")
	out := filepath.Join(dir, "out")
	if talk := told(t, fmt.Sprintf("%q %q", script, out), "", changed(history.StateNew, true)); talk != "" {
		t.Errorf("talk %q", talk)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Verdict verify.Verdict
		verify.Report
	}
	if err := json.Unmarshal(data, &got); err != nil || got.Verdict != verify.VerdictFail || len(got.Problems) != 1 {
		t.Errorf("standard input %s, %v", data, err)
	}
	env, err := os.ReadFile(out + ".env")
	if err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	for _, want := range []string{
		"VIRT_VNET_VERDICT=fail\n",
		"VIRT_VNET_HOST=" + host + "\n",
		"VIRT_VNET_TEXT=virt-vnet on " + host + ": FAIL: 1 new\n",
		"VIRT_VNET_CHANGES=NEW WRONG_VLAN guest web1, NIC vnet0: access 30\n",
	} {
		if !strings.Contains(string(env), want) {
			t.Errorf("the environment lacks %q:\n%s", want, env)
		}
	}
	if strings.Contains(string(env), "secret") {
		t.Errorf("the command knows the URL:\n%s", env)
	}
}

func TestNotifyCommandFails(t *testing.T) {
	for command, want := range map[string]string{
		`sh -c "echo no mail today >&2; exit 3"`: "sh: exit status 3: no mail today",
		"/no/such/program":                       "no such file or directory",
		`sh -c "sleep 60 & exec sleep 60"`:       "sh has not ended in 2s",
		"true":                                   "", // does not read what it gets
		`sh -c "head -c 1 >/dev/null; exec 0<&-; sleep 0.1"`: "",
	} {
		started := time.Now()
		talk := told(t, command, "", changed(history.StateNew, true))
		if want == "" && talk != "" || !strings.Contains(talk, want) || strings.Count(talk, "\n") > 1 {
			t.Errorf("%s: %q, want one line with %q", command, talk, want)
		}
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("%s: took %v", command, took)
		}
	}
}

func TestNotifyURL(t *testing.T) {
	type answer struct {
		status int
		delay  time.Duration
	}
	for name, tt := range map[string]struct {
		answers []answer // the last one goes on
		past    *history.Past
		tries   int32
		want    string // in the warning
	}{
		"taken":                   {[]answer{{204, 0}}, changed(history.StateNew, true), 1, ""},
		"taken at the third try":  {[]answer{{500, 0}, {503, 0}, {200, 0}}, changed(history.StateFixed, true), 3, ""},
		"never taken":             {[]answer{{500, 0}}, changed(history.StateGone, true), 3, "the server answers 500 Internal Server Error"},
		"refused":                 {[]answer{{403, 0}}, changed(history.StateFlapping, true), 1, "the server answers 403 Forbidden"},
		"sent elsewhere":          {[]answer{{307, 0}}, changed(history.StateNew, true), 1, "the server answers 307"},
		"too slow":                {[]answer{{200, 2 * time.Second}}, changed(history.StateNew, true), 3, "Timeout exceeded"},
		"waived no longer":        {[]answer{{200, 0}}, changed(history.StateStill, true), 1, ""},
		"still, so not told":      {[]answer{{200, 0}}, changed(history.StateStill, false), 0, ""},
		"flapping, told before":   {[]answer{{200, 0}}, changed(history.StateFlapping, false), 0, ""},
		"nothing changed":         {[]answer{{200, 0}}, &history.Past{}, 0, ""},
		"no history, and a fault": {[]answer{{200, 0}}, nil, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				a := tt.answers[min(int(tries.Add(1)), len(tt.answers))-1]
				select {
				case <-time.After(a.delay):
				case <-r.Context().Done():
				}
				checkMessage(t, r, tt.past)
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(a.status)
			}))
			defer server.Close()
			target := strings.Replace(server.URL, "http://", "http://user:password@", 1) + "/services/token?key=hidden"
			talk := told(t, "", target, tt.past)
			if tries.Load() != tt.tries {
				t.Errorf("%d tries, want %d", tries.Load(), tt.tries)
			}
			if tt.want == "" && talk != "" || !strings.Contains(talk, tt.want) || strings.Count(talk, "\n") > 1 {
				t.Errorf("talk %q, want one line with %q", talk, tt.want)
			}
			for _, secret := range []string{"user", "password", "token", "hidden"} {
				if strings.Contains(talk, secret) {
					t.Errorf("%q tells a secret", talk)
				}
			}
		})
	}
}

func checkMessage(t *testing.T, r *http.Request, past *history.Past) {
	body, err := io.ReadAll(r.Body)
	var m message
	if err == nil {
		err = json.Unmarshal(body, &m)
	}
	if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %s: %v", r.Method, body, err)
	}
	if m.Version != 1 || m.Verdict != verify.VerdictFail || m.Host == "" || !strings.HasPrefix(m.Text, "virt-vnet on ") {
		t.Errorf("message %s", body)
	}
	if past != nil && (len(m.Changes) != 1 || m.Changes[0].Problem.Code != verify.CodeWrongVLAN) {
		t.Errorf("changes of %s", body)
	}
}

// TestNotifyNobody has a server that is not there, and URLs that are none.
func TestNotifyNobody(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	talk := told(t, "", server.URL+"/token", changed(history.StateNew, true))
	if !strings.Contains(talk, "connection refused") || strings.Contains(talk, "token") || strings.Count(talk, "\n") != 1 {
		t.Errorf("talk %q", talk)
	}
	for _, target := range []string{"token", "ftp://h/token", "https:///token", "http://h:token/", "%token"} {
		if _, err := newNotifier("", target); err == nil || strings.Contains(err.Error(), "token") {
			t.Errorf("%s: error %v", target, err)
		}
	}
	if _, err := newNotifier("sh -c 'echo", ""); err == nil {
		t.Error("an open quote is taken")
	}
}

// TestNightlyPage holds the tables of docs/nightly.md against the code.
func TestNightlyPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/nightly.md")
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, m := range regexp.MustCompile("(?m)^\\| `?([A-Z_]+)`? \\|").FindAllStringSubmatch(string(page), -1) {
		words = append(words, m[1])
	}
	var want []string
	for _, s := range []history.State{
		history.StateNew, history.StateStill, history.StateFixed, history.StateGone, history.StateFlapping,
	} {
		want = append(want, strings.ToUpper(string(s)))
	}
	want = append(want, envHost, envVerdict, envText, envChanges)
	if !slices.Equal(words, want) {
		t.Errorf("docs/nightly.md has %v, the code %v", words, want)
	}
}

func TestNightVerdict(t *testing.T) {
	waived := changed(history.StateNew, true)
	waived.Changes[0].Problem.Waived = &verify.Waived{Owner: "ops"}
	slow := verify.Problem{Problem: vnet.Problem{Code: verify.CodeSlow, Subject: "guest db1, NIC vnet1", Field: "latency of the nights"}}
	if !history.IsNote(slow) {
		t.Fatal("this is no note")
	}
	fine := verify.Report{NICs: []verify.NICResult{{Status: verify.StatusPass}}}
	fineButSlow := fine
	fineButSlow.Problems = []verify.Problem{slow}
	slowPast := &history.Past{Changes: []history.Change{{State: history.StateNew, Problem: slow, Fresh: true}}}
	slowStill := &history.Past{Changes: []history.Change{{State: history.StateStill, Problem: slow}}}
	unsure := verify.Report{NICs: []verify.NICResult{{Status: verify.StatusInconclusive}}}
	failingAndLimited, failingAndUnsure := failing(), failing()
	failingAndLimited.Limits = []string{"the guests of host b are not known"}
	failingAndUnsure.NICs = append(failingAndUnsure.NICs, unsure.NICs...)
	for name, tt := range map[string]struct {
		failOn []string
		report verify.Report
		past   *history.Past
		want   verify.Verdict
	}{
		"any, still":                    {nil, failing(), changed(history.StateStill, false), verify.VerdictFail},
		"new, still":                    {[]string{"new"}, failing(), changed(history.StateStill, false), verify.VerdictPass},
		"new, new":                      {[]string{"new"}, failing(), changed(history.StateNew, true), verify.VerdictFail},
		"new, waived no longer":         {[]string{"new"}, failing(), changed(history.StateStill, true), verify.VerdictFail},
		"new, begins to flap":           {[]string{"new"}, failing(), changed(history.StateFlapping, true), verify.VerdictFail},
		"new, flaps on":                 {[]string{"new"}, failing(), changed(history.StateFlapping, false), verify.VerdictPass},
		"new, and waived":               {[]string{"new"}, failing(), waived, verify.VerdictPass},
		"new, and nobody knows":         {[]string{"new"}, failing(), nil, verify.VerdictFail},
		"new, fixed":                    {[]string{"new"}, fine, changed(history.StateFixed, true), verify.VerdictPass},
		"new, still, and limited":       {[]string{"new"}, failingAndLimited, changed(history.StateStill, false), verify.VerdictInconclusive},
		"new, still, and not told":      {[]string{"new"}, failingAndUnsure, changed(history.StateStill, false), verify.VerdictInconclusive},
		"new, new, and limited":         {[]string{"new"}, failingAndLimited, changed(history.StateNew, true), verify.VerdictFail},
		"new, not told":                 {[]string{"new"}, unsure, &history.Past{}, verify.VerdictInconclusive},
		"slow is no failure":            {nil, fineButSlow, slowPast, verify.VerdictPass},
		"slow is no failure with new":   {[]string{"new"}, fineButSlow, slowPast, verify.VerdictPass},
		"slow is a failure":             {[]string{"slow"}, fineButSlow, slowPast, verify.VerdictFail},
		"slow still is one":             {[]string{"slow"}, fineButSlow, slowStill, verify.VerdictFail},
		"slow still is none beside new": {[]string{"new", "slow"}, fineButSlow, slowStill, verify.VerdictPass},
		"slow, and nothing is":          {[]string{"slow"}, fine, &history.Past{}, verify.VerdictPass},
	} {
		n := night{failOn: tt.failOn}
		if got := n.verdict(tt.report, tt.past); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}
