// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/test/stage"
	"github.com/virt-vnet/virt-vnet/verify"
)

// healthyRuns is how often a healthy network is looked at.
const healthyRuns = 20

// newChassis is two chassis of OVN with the networks and guests of the spec, a
// guest on each.
func newChassis(t *testing.T) *hosts {
	t.Helper()
	lab.Need(t, lab.Libvirt, lab.Guests, lab.OVN)
	ctx := t.Context()
	h := &hosts{t: t, bin: programs(t)}
	h.Cluster = labtest.StartCluster(t, lab.ClusterOptions{Hosts: 2, Each: lab.Options{Libvirt: true}, OVN: &lab.OVNOptions{}})
	text, err := os.ReadFile("testdata/two-chassis.yaml")
	if err != nil {
		t.Fatal(err)
	}
	h.useSpec(strings.ReplaceAll(string(text), "@NB@", h.Central.NBTCP()))
	spec, err := config.Load(h.spec)
	if err != nil {
		t.Fatal(err)
	}
	h.apply(0)
	guests := stage.Guests(spec.Topology)
	for i, g := range guests {
		if err := h.Hosts[i].Boot(ctx, g); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Central.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	return h
}

// verify runs virt-vnet verify on a host, for the guests that are there.
func (h *hosts) verify(host *lab.Host, guests ...string) verify.Report {
	h.t.Helper()
	args := append([]string{filepath.Join(h.bin, "virt-vnet"), "verify", "-f", h.spec, "-o", "json"}, guests...)
	out, err := host.Run(h.t.Context(), args...)
	var r verify.Report
	if errJSON := json.Unmarshal([]byte(out), &r); errJSON != nil {
		h.t.Fatalf("%s: verify: %v: %v: %s", host.Name, err, errJSON, out)
	}
	return r
}

// wants compares the problems of a report, as "CODE subject".
func (h *hosts) wants(what string, r verify.Report, want ...string) {
	h.t.Helper()
	var got []string
	for _, p := range r.Problems {
		got = append(got, p.Code+" "+p.Subject)
		if p.Fix == "" || len(p.Evidence) == 0 {
			h.t.Errorf("%s: %s has no evidence or no fix: %+v", what, p.Code, p)
		}
	}
	if !slices.Equal(got, want) {
		text, _ := json.MarshalIndent(r, "", " ")
		h.t.Errorf("%s: got %q, want %q\n%s", what, got, want, text)
	}
}

// TestVerifyOVN looks at healthy networks over and over, and then breaks them, a
// thing at a time.
func TestVerifyOVN(t *testing.T) {
	h := newChassis(t)
	ctx := t.Context()
	one := h.Hosts[0]
	begin := time.Now()
	for i := range healthyRuns {
		r := h.verify(h.Hosts[i%2]) // which does not have the other's guest
		h.wants("healthy", r)
		if r.Verdict() != verify.VerdictPass {
			text, _ := json.MarshalIndent(r, "", " ")
			t.Fatalf("healthy: run %d: %s\n%s", i, r.Verdict(), text)
		}
	}
	t.Logf("%d healthy runs in %v", healthyRuns, time.Since(begin))

	ping, err := one.StartPing(ctx, "a", netip.MustParseAddr("10.0.20.12"), 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Controller().Kill(ctx); err != nil {
		t.Fatal(err)
	}
	// A vantage needs ovn-controller, so the guests are not asked.
	r := h.verify(one, "a")
	h.wants("with ovn-controller killed", r, "CONTROLLER_DOWN chassis host1")
	for _, n := range r.NICs {
		if n.Status == verify.StatusFail {
			t.Errorf("with ovn-controller killed: %s fails", n.Endpoint)
		}
	}
	if loss, err := one.StopPing(ctx, ping); err != nil || loss.Lost > 1 {
		t.Errorf("with ovn-controller killed: the ping: %+v, %v", loss, err)
	}
	tunnel, err := one.Vsctl(ctx, "--bare", "--columns=name", "find", "Interface", "type=geneve")
	if err != nil {
		t.Fatal(err)
	}
	h.on(one, "ovs-vsctl", "del-port", strings.TrimSpace(tunnel))
	r = h.verify(one, "a")
	h.wants("without the tunnel", r, "CONTROLLER_DOWN chassis host1", "TUNNEL_DOWN tunnel from host1 to host2")
	if err := one.Controller().Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.Central.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	h.wants("well again", h.verify(one, "a"))

	id, err := one.Vsctl(ctx, "--bare", "--columns=name", "find", "Interface", `external_ids:attached-mac="52:54:00:00:20:11"`)
	if err != nil {
		t.Fatal(err)
	}
	device := strings.TrimSpace(id)
	h.on(one, "ovs-vsctl", "remove", "Interface", device, "external_ids", "iface-id")
	h.wants("without the iface-id", h.verify(one, "a"), "PORT_NOT_BOUND guest a, NIC "+device)

	if err := h.Central.SB().Stop(ctx); err != nil {
		t.Fatal(err)
	}
	r = h.verify(h.Hosts[1], "b")
	if len(r.Limits) == 0 {
		t.Error("without the southbound database: no limit")
	}
	h.wants("without the southbound database", r, "CONTROLLER_DOWN chassis host2")
}
