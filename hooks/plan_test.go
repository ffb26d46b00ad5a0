// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// simulate runs an event on a site and checks that it touched nothing.
func simulate(t *testing.T, s *site, operation, xml string) (hooks.GuestPlan, error) {
	t.Helper()
	before := s.host.String()
	ev, err := hooks.ParseEvent([]string{"qemu", "g1", operation, "begin", "-"}, strings.NewReader(xml))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := s.Simulate(t.Context(), ev)
	s.checkHost(t, before)
	if left, errGlob := filepath.Glob(filepath.Join(s.Store.RunDir, "*")); errGlob != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, errGlob)
	}
	return plan, err
}

const liveXML = `<domain type='qemu' id='1'><name>g1</name><uuid>` + uuid1 + `</uuid><devices>
<interface type='bridge'><mac address='52:54:00:00:00:01'/><source network='red' portgroup='web' bridge='ovs0'/><target dev='vnet0'/></interface>
<interface type='bridge'><mac address='52:54:00:00:00:02'/><source network='lan' bridge='br0'/><target dev='vnet1'/></interface>
<interface type='direct'><mac address='52:54:00:00:00:03'/><source network='edge' dev='eno1' mode='bridge'/><target dev='macvtap0'/></interface>
<interface type='bridge'><mac address='52:54:00:00:00:04'/><source bridge='br0'/><target dev='vnet2'/></interface>
<interface type='bridge'><mac address='52:54:00:00:00:05'/><source network='default' bridge='virbr0'/><target dev='vnet3'/></interface>
</devices></domain>`

// The JSON form is what scripts read.
func TestSimulateJSON(t *testing.T) {
	s := newSite(t)
	s.plug(map[string]string{"vnet0": "ovs0", "vnet1": "br0", "vnet2": "br0"})
	plan, err := simulate(t, s, "start", liveXML)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(plan, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	checkGolden(t, "simulate.json", string(got)+"\n")
}

// A shut-off guest has no devices: the plan says what they would get.
func TestSimulateInactive(t *testing.T) {
	s := newSite(t)
	plan, err := simulate(t, s, "start", `<domain type='qemu'><name>g1</name><uuid>`+uuid1+`</uuid><devices>
<interface type='network'><mac address='52:54:00:00:00:01'/><source network='red'/></interface>
<interface type='network'><mac address='52:54:00:00:00:02'/><source network='red'/></interface>
<interface type='network'><mac address='52:54:00:00:00:03'/><source network='nat'/></interface>
</devices></domain>`)
	if err != nil {
		t.Fatal(err)
	}
	for i, nic := range plan.NICs[:2] {
		if nic.Device != "" || nic.Switch != "ovs0" || !strings.Contains(strings.Join(nic.Changes, "|"), "|vlan: none -> access 20|") {
			t.Errorf("NIC %d: %+v, want VLAN 20 on ovs0", i, nic)
		}
	}
	if nic := plan.NICs[2]; nic.Switch != "" || !nic.Managed || !strings.Contains(nic.Note, "wired at start") {
		t.Errorf("NIC 2: %+v, want a note", nic)
	}
}

func TestSimulateTrouble(t *testing.T) {
	t.Run("switch does not answer", func(t *testing.T) {
		s := newSite(t)
		s.plug(map[string]string{"vnet1": "br0"})
		s.switches["ovs0"].openError = switchcfg.ErrUnreachable
		plan, err := simulate(t, s, "start", liveXML)
		if err == nil || !strings.Contains(plan.NICs[0].Note, "does not answer") || len(plan.NICs[1].Changes) == 0 {
			t.Errorf("%+v, %v, want it said at the NIC, and the others planned", plan, err)
		}
	})
	t.Run("torn record", func(t *testing.T) {
		s := newSite(t)
		put(t, filepath.Join(s.Store.StateDir, "networks"), "red.json", "{", 0o644)
		plan, err := simulate(t, s, "start", liveXML)
		if err == nil || !plan.NICs[0].Managed || !strings.Contains(plan.NICs[0].Note, "virt-vnet repair") {
			t.Errorf("%+v, %v, want it said at the NIC", plan.NICs[0], err)
		}
	})
	t.Run("no XML", func(t *testing.T) {
		if _, err := simulate(t, newSite(t), "start", "hello"); err == nil {
			t.Error("no error")
		}
	})
}

// Operations that wire nothing change nothing, and say what they do.
func TestSimulateOtherOperations(t *testing.T) {
	s := newSite(t)
	s.plug(map[string]string{"vnet0": "ovs0", "vnet1": "br0"})
	for _, operation := range []string{"prepare", "started", "stopped", "release", "migrate", "restore", "frobnicate"} {
		plan, err := simulate(t, s, operation, liveXML)
		if err != nil || plan.Guest != "g1" || plan.Operation != operation || plan.Note == "" || plan.NICs == nil {
			t.Errorf("%s: %+v, %v", operation, plan, err)
		}
		for _, nic := range plan.NICs {
			if len(nic.Changes) > 0 {
				t.Errorf("%s: %+v, want no changes", operation, nic)
			}
		}
	}
}

// What is planned is what is done.
func TestPlanIsWhatWireDoes(t *testing.T) {
	s := newSite(t)
	dom, devices := twoSwitches()
	s.plug(devices)
	plan, err := s.Plan(t.Context(), dom)
	if err != nil {
		t.Fatal(err)
	}
	planned := map[string][]string{}
	for _, nic := range plan.NICs {
		planned[nic.Device] = nic.Changes
	}
	plans, err := s.Repair(t.Context(), dom)
	if err != nil {
		t.Fatal(err)
	}
	done := map[string][]string{}
	for _, p := range plans {
		for _, c := range p.Changes {
			done[c.Device] = c.Lines()
		}
	}
	if diff := cmp.Diff(done, planned); diff != "" {
		t.Errorf("plan (-done +planned):\n%s", diff)
	}
	again, err := s.Plan(t.Context(), dom)
	if err != nil {
		t.Fatal(err)
	}
	for _, nic := range again.NICs {
		if len(nic.Changes) > 0 {
			t.Errorf("still planned: %+v", nic)
		}
	}
}

// checkGolden compares with a file in testdata. UPDATE_GOLDEN=1 writes it.
func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		put(t, "testdata", name, got, 0o644)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// examined is a driver that counts how often it is asked to examine.
type examined struct {
	switchcfg.Driver
	times *int
}

func (e examined) Examine(context.Context, switchcfg.State) error {
	*e.times++
	return nil
}

// A switch is opened once for a plan of all guests, also one that needs more than
// itself to work, which is examined for each.
func TestPlanAllOpensOnce(t *testing.T) {
	s := newSite(t)
	guests := many(3)
	for _, g := range guests {
		s.plug(map[string]string{g.NICs[0].Device: "ovs0"})
	}
	opened, examinations := 0, 0
	open := s.Open
	s.Open = func(ctx context.Context, sw vnet.Switch) (switchcfg.Driver, error) {
		opened++
		d, err := open(ctx, sw)
		return examined{d, &examinations}, err
	}
	plans := s.PlanAll(t.Context(), guests)
	if len(plans) != 3 || opened != 1 || examinations != 3 {
		t.Errorf("%d plans, opened %d times, examined %d times", len(plans), opened, examinations)
	}
	for _, p := range plans {
		if p.Err != nil {
			t.Errorf("guest %s: %v", p.Guest, p.Err)
		}
	}
}

// A switch that does not answer is asked once, whatever it is that fails, and
// the plan of each guest on it says so. Guests on other switches have theirs.
func TestPlanAllUnreachable(t *testing.T) {
	for _, what := range []string{"open", "observe"} {
		t.Run(what, func(t *testing.T) {
			s := newSite(t)
			guests := many(3)
			guests[1].NICs[0].Network = "lan"
			s.plug(map[string]string{"tap0": "ovs0", "tap1": "br0", "tap2": "ovs0"})
			asked := 0
			open := s.Open
			s.Open = func(ctx context.Context, sw vnet.Switch) (switchcfg.Driver, error) {
				if sw.Name == "ovs0" && what == "open" {
					asked++
					return nil, switchcfg.ErrUnreachable
				}
				return open(ctx, sw)
			}
			s.switches["ovs0"].onObserve = func(int) error { return switchcfg.ErrUnreachable }
			for i, p := range s.PlanAll(t.Context(), guests) {
				lost := i != 1
				if lost != errors.Is(p.Err, switchcfg.ErrUnreachable) || lost == (p.Err == nil) {
					t.Errorf("guest %s: error %v", p.Guest, p.Err)
				}
				if nic := p.NICs[0]; lost != (nic.Note != "") || lost == (len(nic.Changes) > 0) {
					t.Errorf("guest %s: %+v", p.Guest, nic)
				}
			}
			if asked += s.switches["ovs0"].observed; asked != 1 {
				t.Errorf("asked %d times", asked)
			}
		})
	}
}
