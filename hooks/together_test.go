// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"errors"
	"fmt"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// many are guests with a NIC in network red each: tap0, tap1 and so on.
func many(count int) []libvirtnet.Domain {
	guests := make([]libvirtnet.Domain, count)
	for i := range guests {
		guests[i] = libvirtnet.Domain{
			Name: fmt.Sprintf("g%d", i), UUID: fmt.Sprintf("%08x%s", i+1, uuid1[8:]),
			NICs: []libvirtnet.DomainNIC{nic(byte(i), "red", fmt.Sprintf("tap%d", i))},
		}
	}
	return guests
}

// checkRepaired compares how many guests were changed with what is wanted, and
// the errors, which only the guest named bad may have.
func checkRepaired(t *testing.T, results []hooks.Repaired, changed int, bad, want string) {
	t.Helper()
	got := 0
	for i, r := range results {
		if r.Guest.Name != fmt.Sprintf("g%d", i) {
			t.Errorf("result %d is of %s", i, r.Guest.Name)
		}
		if len(r.Changed) > 0 {
			got++
		}
		if failed := r.Guest.Name == bad; failed != (r.Err != nil) || failed && !strings.Contains(r.Err.Error(), want) {
			t.Errorf("guest %s: error %v; %q should fail with %q", r.Guest.Name, r.Err, bad, want)
		}
	}
	if got != changed {
		t.Errorf("%d guests were changed, want %d", got, changed)
	}
}

// A switch that does not answer is asked once, and every guest on it says so.
func TestRepairAllUnreachable(t *testing.T) {
	s := newSite(t)
	guests := many(3)
	for _, g := range guests {
		s.plug(map[string]string{g.NICs[0].Device: "ovs0"})
	}
	m := s.switches["ovs0"]
	m.onObserve = func(int) error { return switchcfg.ErrUnreachable }
	for _, r := range s.RepairAll(t.Context(), guests) {
		if !errors.Is(r.Err, switchcfg.ErrUnreachable) || !strings.HasPrefix(r.Err.Error(), "network ") {
			t.Errorf("%s: error %v", r.Guest.Name, r.Err)
		}
	}
	if m.observed != 1 {
		t.Errorf("asked %d times", m.observed)
	}
}

// Nor is a switch tried for one guest after the other that can be looked at and
// not changed. Who needs no change is fine.
func TestRepairAllStuck(t *testing.T) {
	s := newSite(t)
	guests := many(5)
	for _, g := range guests {
		s.plug(map[string]string{g.NICs[0].Device: "ovs0"})
	}
	if err := s.Wire(t.Context(), guests[4]); err != nil {
		t.Fatal(err)
	}
	m := s.switches["ovs0"]
	m.applies = 0
	m.onChange = func(int) error { return switchcfg.ErrUnreachable }
	before := s.host.String()
	for i, r := range s.RepairAll(t.Context(), guests) {
		if stuck := i != 4; stuck != errors.Is(r.Err, switchcfg.ErrUnreachable) || stuck == (r.Err == nil) {
			t.Errorf("%s: error %v", r.Guest.Name, r.Err)
		}
	}
	if m.applies != 1 {
		t.Errorf("tried %d times", m.applies)
	}
	s.checkHost(t, before)
	for i, g := range guests {
		if _, err := s.Store.Guest(g.UUID); (err == nil) != (i == 4) {
			t.Errorf("record of %s: %v", g.Name, err)
		}
	}
}

// All that is to be done on a switch is one plan, and whatever is wrong with one
// guest, the others are repaired.
func TestRepairAll(t *testing.T) {
	const count = 9
	boom := errors.New("boom")
	for _, test := range []struct {
		name     string
		sabotage func(s *site, m *memory)
		bad      string
		want     string
		applies  int // or zero where it takes several
	}{
		{"all is well", func(*site, *memory) {}, "", "", 1},
		{"a device is gone", func(s *site, _ *memory) { s.host.Remove("tap3") }, "g3", "tap3: no such port", 1},
		{
			"a port is somebody else's", func(s *site, _ *memory) {
				s.host.Change("tap3", func(p *switchcfg.Port) { p.Foreign = "leave me alone" })
			}, "g3", "not ours", 1,
		},
		{"the switch says which", func(_ *site, m *memory) {
			m.onDevice = func(device string) error {
				if device == "tap3" {
					return &switchcfg.PortError{Device: device, Err: boom}
				}
				return nil
			}
		}, "g3", "tap3: boom", 0},
		{"the switch does not say which", func(_ *site, m *memory) {
			m.onDevice = func(device string) error {
				if device == "tap3" {
					return boom
				}
				return nil
			}
		}, "g3", "boom", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t)
			guests := many(count)
			for _, g := range guests {
				s.plug(map[string]string{g.NICs[0].Device: "ovs0"})
			}
			m := s.switches["ovs0"]
			test.sabotage(s, m)
			before := s.host.Port("tap3")
			changed := count
			if test.bad != "" {
				changed--
			}
			checkRepaired(t, s.RepairAll(t.Context(), guests), changed, test.bad, test.want)
			if test.applies != 0 && m.applies != test.applies {
				t.Errorf("%d plans were applied, want %d", m.applies, test.applies)
			}
			for _, g := range guests {
				port, record := s.host.Port(g.NICs[0].Device), error(nil)
				_, record = s.Store.Guest(g.UUID)
				if good := g.Name != test.bad; good != (port.Owner.Guest == g.UUID) || good != (record == nil) {
					t.Errorf("%s: %+v, record %v", g.Name, port, record)
				}
			}
			if now := s.host.Port("tap3"); test.bad != "" && now.Settings.VLAN != nil && !now.Settings.VLAN.Equal(*before.Settings.VLAN) {
				t.Errorf("tap3: %+v, want it as before: %+v", now, before)
			}
			if m.opened != 0 {
				t.Errorf("%d drivers left open", m.opened)
			}
			for i, plan := range s.PlanAll(t.Context(), guests) {
				one, err := s.Plan(t.Context(), guests[i])
				if !reflect.DeepEqual(one, plan.GuestPlan) || fmt.Sprint(err) != fmt.Sprint(plan.Err) {
					t.Errorf("plan: %+v, alone %+v, %v", plan, one, err)
				}
				if test.name == "all is well" && err != nil {
					t.Errorf("plan: %v", err)
				}
			}
			if m.opened != 0 {
				t.Errorf("%d drivers left open by plans", m.opened)
			}
			m.applies = 0
			checkRepaired(t, s.RepairAll(t.Context(), guests), 0, test.bad, test.want)
			if test.bad == "" && m.applies != 0 {
				t.Errorf("with nothing to do %d plans were applied", m.applies)
			}
		})
	}
}

// Many ports of Open vSwitch take one transaction, and one that
// ovs-vswitchd refuses is named and spoils no other.
func TestRepairAllOVS(t *testing.T) {
	lab.Need(t, lab.OVS)
	h := newRealHost(t, lab.Options{OVS: true})
	const count = 70 // more than the driver looks for one by one
	var links strings.Builder
	commands := []string{"--no-wait"}
	for i := 0; i < count; i += 2 {
		fmt.Fprintf(&links, "link add tap%d up type veth peer name tap%d\n", i, i+1)
		commands = append(commands, "--", "add-port", "ovs0", fmt.Sprintf("tap%d", i), "--", "add-port", "ovs0", fmt.Sprintf("tap%d", i+1))
	}
	batch := exec.CommandContext(t.Context(), "ip", "-batch", "-")
	batch.Stdin = strings.NewReader(links.String())
	if out, err := batch.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	vsctl := func(args ...string) string {
		t.Helper()
		out, err := h.Vsctl(t.Context(), args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	vsctl(commands...)
	vsctl("show") // waits for ovs-vswitchd
	transactions := func() int {
		n, err := strconv.Atoi(vsctl("--no-wait", "get", "Open_vSwitch", ".", "next_cfg"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	w := hooks.Wirer{Store: h.Store, Open: drivers.Open}
	guests := many(count)
	before := transactions()
	checkRepaired(t, w.RepairAll(t.Context(), guests), count, "", "")
	if n := transactions() - before; n != 1 {
		t.Errorf("repair of %d ports took %d transactions, want 1", count, n)
	}

	drift := []string{}
	for i := range count {
		drift = append(drift, "--", "set", "port", fmt.Sprintf("tap%d", i), "tag=99")
	}
	vsctl(append(drift, "--", "set", "interface", "tap7", "type=bogus")...)
	before = transactions()
	checkRepaired(t, w.RepairAll(t.Context(), guests), count-1, "g7", "tap7: ovs-vswitchd refuses it: could not open network device tap7")
	// All, undone; all but one; that one, undone.
	if n := transactions() - before; n != 5 {
		t.Errorf("with one port that is refused it took %d transactions, want 5", n)
	}
	for device, port := range h.ports(t, vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS}) {
		if want := map[bool]string{true: "access 99", false: "access 20"}[device == "tap7"]; port.Settings.VLAN.String() != want {
			t.Errorf("%s is %s, want %s", device, port.Settings.VLAN, want)
		}
	}
	h.checkPrune(t, &w, guests)
}

// checkPrune takes away the devices of two guests that have ended, and of a port
// that is not ours: only the former go, and only what was seen before.
func (h realHost) checkPrune(t *testing.T, w *hooks.Wirer, guests []libvirtnet.Domain) {
	t.Helper()
	for _, command := range []string{"link del tap8", "link set tap13 up"} { // the peers of tap9 and tap12
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", command, err, out)
		}
	}
	if _, err := h.Vsctl(t.Context(), "add-port", "ovs0", "alien"); err != nil && !strings.Contains(err.Error(), "No such device") {
		t.Fatal(err)
	}
	running := slices.DeleteFunc(slices.Clone(guests), func(g libvirtnet.Domain) bool {
		return g.Name == "g8" || g.Name == "g9" || g.Name == "g10" || g.Name == "g12"
	}) // tap12 has a carrier now, tap10 has none
	ovs0 := vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS}
	prune := func(remove bool, want ...string) {
		t.Helper()
		stale, err := w.Prune(t.Context(), ovs0, running, time.Now(), remove)
		if err != nil {
			t.Error(err)
		}
		got := []string{}
		for _, s := range stale {
			got = append(got, fmt.Sprintf("%s gone %t seen %t removed %t", s.Port.Device, s.Gone, !s.Since.IsZero(), s.Removed))
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("stale ports (-want +got):\n%s", diff)
		}
	}
	prune(true, "tap10 gone false seen false removed false", "tap8 gone true seen false removed false", "tap9 gone true seen false removed false")
	prune(false, "tap10 gone false seen true removed false", "tap8 gone true seen true removed false", "tap9 gone true seen true removed false")
	if got, err := w.Stale(t.Context(), ovs0, running); err != nil || len(got) != 3 || got[1].Since.IsZero() {
		t.Errorf("stale: %+v, %v, want three that were seen before", got, err)
	}
	prune(true, "tap10 gone false seen true removed true", "tap8 gone true seen true removed true", "tap9 gone true seen true removed true")
	prune(true)
	ports, err := h.Vsctl(t.Context(), "list-ports", "ovs0")
	has := func(port string) bool { return slices.Contains(strings.Fields(ports), port) }
	if err != nil || has("tap8") || has("tap9") || !has("alien") {
		t.Errorf("ports %q, %v, want neither tap8 nor tap9, and alien", ports, err)
	}
	if port := h.ovs0(t)["tap10"]; port.Switch != "ovs0" || !port.Owner.IsZero() || !port.Settings.VLAN.Equal(vnet.VLANSet{Trunk: vnet.AllVLANs()}) {
		t.Errorf("tap10: %+v, want it as libvirt left it", port)
	}
}
