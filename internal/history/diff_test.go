// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/verify"
)

func TestDiff(t *testing.T) {
	before, after := report(0, map[verify.Endpoint]rune{web1: '+'}), report(1, map[verify.Endpoint]rune{web1: '-', web2: '+'})
	before.NICs[0].Latency = &verify.Latency{Received: 5, Median: time.Millisecond}
	after.NICs[0].Latency = &verify.Latency{Received: 5, Median: 3 * time.Millisecond}
	before.Checks = []verify.CheckResult{{Name: "a", Status: verify.StatusPass}, {Name: "b", Status: verify.StatusPass}}
	after.Checks = []verify.CheckResult{{Name: "a", Status: verify.StatusFail}, {Name: "c", Status: verify.StatusPass}}
	d := Diff(Run{ID: 1}, Run{ID: 2}, before, after)
	if got, want := lines(d.Changes), "new NO_ARP 1*, fixed NO_ARP 0*"; got != want {
		t.Errorf("changes %q, want %q", got, want)
	}
	if len(d.Added) != 1 || d.Added[0].Guest != "web2" || d.Removed != nil {
		t.Errorf("added %v, removed %v", d.Added, d.Removed)
	}
	checks := []CheckChange{{"a", verify.StatusPass, verify.StatusFail}, {"c", "", verify.StatusPass}, {"b", verify.StatusPass, ""}}
	if diff := cmp.Diff(checks, d.Checks); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
	if len(d.Latencies) != 1 || d.Latencies[0].Was != time.Millisecond || d.Latencies[0].Is != 3*time.Millisecond {
		t.Errorf("latencies %+v", d.Latencies)
	}
	back := Diff(Run{ID: 2}, Run{ID: 1}, after, before)
	if got, want := lines(back.Changes), "new NO_ARP 0*, gone NO_ARP 1*"; got != want {
		t.Errorf("backwards: %q, want %q", got, want)
	}
	narrow := Diff(Run{ID: 1, Guests: []string{"web1"}}, Run{ID: 2}, before, after)
	if got, want := lines(narrow.Changes), "fixed NO_ARP 0*"; got != want || narrow.Added != nil {
		t.Errorf("from a narrowed run: %q, want %q; added %v", got, want, narrow.Added)
	}
}
