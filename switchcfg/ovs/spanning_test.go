// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestSpanningTree joins two bridges by two cables. With a spanning tree of
// either kind one of them is blocked, and the bridge with the better priority is
// the root.
func TestSpanningTree(t *testing.T) {
	l := start(t)
	sw0, sw1 := ovs0, vnet.Switch{Name: "ovs1", Driver: vnet.DriverOVS}
	sw0.Bridge.Owned, sw1.Bridge.Owned = true, true
	d0, d1 := openSwitch(t, sw0), openSwitch(t, sw1)
	for _, end := range []string{"0", "1"} {
		if err := l.AddVeth(t.Context(), "p"+end, "q"+end); err != nil {
			t.Fatal(err)
		}
	}
	undo0, undo1 := switchtest.MustPlan(t, d0, sw0), switchtest.MustPlan(t, d1, sw1) // empty
	for _, c := range []struct {
		name     string
		set      func(b *vnet.Bridge, priority int)
		plan     string
		root     []string // columns of the bridge that say which is the root
		blocked  string
		onRemote []string
	}{
		{
			name: "rstp",
			set: func(b *vnet.Bridge, priority int) {
				b.RSTP, b.RSTPPriority, b.RSTPForwardDelay, b.RSTPMaxAge = vnet.ToggleOn, vnet.Given(priority), 4*time.Second, 6*time.Second
			},
			plan: "ovs0: ovs0: rstp: off -> on",
			root: []string{"get", "bridge", "ovs1", "rstp_status:rstp_root_id"}, blocked: "Alternate",
			onRemote: []string{"--bare", "--columns=rstp_status", "list", "Port"},
		},
		{
			name: "stp",
			set: func(b *vnet.Bridge, priority int) {
				b.STP, b.Priority, b.ForwardDelay, b.MaxAge, b.HelloTime = vnet.ToggleOn, vnet.Given(priority), 4*time.Second, 6*time.Second, time.Second
			},
			plan: "ovs0: ovs0: stp: off -> on",
			root: []string{"get", "bridge", "ovs1", "status:stp_designated_root"}, blocked: "stp_state=blocking",
			onRemote: []string{"--bare", "--columns=status", "list", "Port"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.set(&sw0.Bridge, 4096)
			c.set(&sw1.Bridge, 8192)
			p := setSwitch(t, d0, sw0)
			if !strings.Contains(p.String(), c.plan) {
				t.Errorf("the plan lacks %q:\n%s", c.plan, p)
			}
			q := setSwitch(t, d1, sw1)
			for _, end := range []string{"0", "1"} { // without the tree it would be a loop
				vsctl(t, l, "add-port", "ovs0", "p"+end, "--", "add-port", "ovs1", "q"+end)
			}
			waitFor(t, 30*time.Second, func() bool { return strings.Contains(vsctl(t, l, c.onRemote...), c.blocked) })
			if root := vsctl(t, l, c.root...); !strings.Contains(root, "1.000") && !strings.Contains(root, "1000.") {
				t.Errorf("the root is %s, want that of priority 4096", root)
			}
			blocks := func(cable string) func() bool {
				return func() bool { return strings.Contains(vsctl(t, l, append(c.onRemote, cable)...), c.blocked) }
			}
			vsctl(t, l, "set", "Port", "q1", "other_config:stp-path-cost=7")
			for _, costly := range []string{"q0", "q1"} {
				sw1.TreePorts = []vnet.TreePort{{Device: costly, PathCost: 60000}}
				if p := setSwitch(t, d1, sw1).String(); !strings.Contains(p, "spanning tree, port "+costly+": not ours -> path cost 60000") {
					t.Errorf("the plan for a path cost:\n%s", p)
				}
				waitFor(t, 30*time.Second, blocks(costly))
			}
			vsctl(t, l, "set", "Port", "q1", "other_config:rstp-path-cost=1")
			if switchtest.MustPlan(t, d1, sw1).Empty() {
				t.Error("a path cost that is another is not seen")
			}
			sw1.TreePorts = nil
			setSwitch(t, d1, sw1)
			if got := vsctl(t, l, "--bare", "--columns=other_config,external_ids", "list", "Port", "q0", "q1"); strings.TrimSpace(got) != "stp-path-cost=7" {
				t.Errorf("what is left at the ports: %s", got)
			}
			vsctl(t, l, "del-port", "p0", "--", "del-port", "q0", "--", "del-port", "p1", "--", "del-port", "q1")
			vsctl(t, l, "remove", "bridge", "ovs0", "other_config", "rstp-priority", "--", "remove", "bridge", "ovs0", "other_config", "stp-priority")
			if switchtest.MustPlan(t, d0, sw0).Empty() {
				t.Error("a priority that is gone is not seen")
			}
			setSwitch(t, d0, sw0)
			if _, err := d0.Apply(t.Context(), p.Reverse()); err != nil {
				t.Fatal(err)
			}
			if _, err := d1.Apply(t.Context(), q.Reverse()); err != nil {
				t.Fatal(err)
			}
			sw0.Bridge, sw1.Bridge = vnet.Bridge{Owned: true}, vnet.Bridge{Owned: true}
			if got := vsctl(t, l, "--bare", "--columns=other_config,stp_enable,rstp_enable", "list", "bridge"); strings.ContainsAny(got, "=-") || strings.Contains(got, "true") {
				t.Errorf("left after the undo: %s", got)
			}
		})
	}
	if !undo0.Empty() || !undo1.Empty() {
		t.Errorf("a bridge of ours without settings has a plan:\n%s%s", undo0, undo1)
	}
}

// waitFor looks again and again until it is so.
func waitFor(t *testing.T, limit time.Duration, is func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not become so")
		}
	}
}
