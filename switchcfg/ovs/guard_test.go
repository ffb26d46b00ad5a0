// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/ovs"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest/guardtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// otherwise has the frames that fare otherwise than past the guards of a Linux
// bridge. Open vSwitch looks into some that the kernel's filter takes for hidden,
// and finds them honest; of frames with an 802.2 header it cannot say more than
// that they have one.
var otherwise = map[string]bool{
	"LLC":                                    false,
	"SNAP of a vendor":                       false,
	"SNAP":                                   true,
	"advertisement behind options":           true,
	"advertisement behind a fragment header": true,
	// Options that nobody reads: too long, or of another message.
	"solicitation, long option":    true,
	"advertisement, source option": true,
}

// never has the frames that Open vSwitch does not forward in any case.
var never = []string{"empty tag and tag", "DHCP server behind two tags", "router advertisement behind two tags"}

// samples are those of a case as they fare here.
func samples(c guardtest.Case) []guardtest.Sample {
	var all []guardtest.Sample
	for _, s := range c.Samples {
		if slices.Contains(never, s.Name) {
			continue
		}
		if passes, is := otherwise[s.Name]; is && c.Name == "full" {
			s.Passes = passes
		}
		all = append(all, guardtest.Variants(s)...)
	}
	return all
}

// setGuard makes the port have a guard, which need not come from a policy.
func setGuard(t *testing.T, d *ovs.Driver, device string, g switchcfg.Guard) {
	t.Helper()
	before := observePort(t, d, device)
	after := before
	after.Owner = switchcfg.Owner{Guest: "u1", Network: "red"}
	after.Settings.Guard = &g
	p := switchcfg.Plan{Switch: before.Switch, Changes: []switchcfg.Change{{Device: device, Before: before, After: after}}}
	if _, err := d.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if got := observePort(t, d, device).Settings.Guard; !got.Equal(g) {
		t.Fatalf("the guard is %+v, want %+v", got, g)
	}
}

func observePort(t *testing.T, d *ovs.Driver, device string) switchcfg.Port {
	t.Helper()
	state, err := d.Observe(t.Context(), switchcfg.Scope{Devices: []string{device}})
	if err != nil {
		t.Fatal(err)
	}
	return state.Ports[device]
}

// TestGuardFrames sends the frames that every driver's guards are held against.
func TestGuardFrames(t *testing.T) {
	l := start(t)
	vsctl(t, l, "set", "bridge", "ovs0", "other_config:forward-bpdu=true") // so that they could pass
	w := guardtest.NewWire(t, l, "ovs0")
	d := openOVS(t, "ovs0")
	for _, c := range guardtest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			setGuard(t, d, w.Port, switchcfg.Guard{})
			time.Sleep(revalidation)
			all := samples(c)
			for _, s := range all {
				if !w.Passes(t, s.Frame) {
					t.Errorf("%s: does not pass without a guard", s.Name)
				}
			}
			setGuard(t, d, w.Port, c.Guard)
			time.Sleep(revalidation)
			for _, s := range all {
				if got := w.Passes(t, s.Frame); got != s.Passes {
					t.Errorf("%s: passes: %t, want %t", s.Name, got, s.Passes)
				}
			}
		})
	}
}

// revalidation is how long ovs-vswitchd may go on as before
// (other_config:max-revalidator).
const revalidation = 600 * time.Millisecond

func ofctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ovs-ofctl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ovs-ofctl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// flows are the flows of ovs0, ours or those of others.
func flows(t *testing.T, ours bool) []string {
	t.Helper()
	var list []string
	for line := range strings.Lines(ofctl(t, "--no-stats", "dump-flows", "ovs0")) {
		if strings.Contains(line, "actions=") && strings.Contains(line, "cookie=0x76697274") == ours {
			list = append(list, strings.TrimSpace(line))
		}
	}
	slices.Sort(list)
	return list
}

// guarded is a station's port as anti_spoof makes it.
func guarded(s *lab.Station, sw vnet.Switch) vnet.Port {
	return vnet.Port{
		Device: s.Device, Switch: sw.Name, Network: "red", Guest: vnet.GuestRef{UUID: "u1"}, MAC: vnet.MAC(s.MAC),
		Policy: vnet.Policy{AntiSpoof: true}, Own: vnet.Allow{Addresses: []netip.Addr{s.Addresses[0].Addr()}},
	}
}

// planPort is what brings a port to what is wanted of it.
func planPort(t *testing.T, d *ovs.Driver, port vnet.Port) switchcfg.Plan {
	t.Helper()
	return switchtest.MustPlan(t, d, ovs0, port)
}

// wirePort carries that out, and checks that nothing is left to do.
func wirePort(t *testing.T, d *ovs.Driver, port vnet.Port) switchcfg.Plan {
	t.Helper()
	p := planPort(t, d, port)
	if _, err := d.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if left := planPort(t, d, port); !left.Empty() {
		t.Fatalf("still to do:\n%s", left)
	}
	return p
}

// TestGuardBesideOthers guards a guest on a bridge that has flows of others, and
// that forwards by them only.
func TestGuardBesideOthers(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "ovs0", "a", 1), station(t, l, "ovs0", "b", 2)
	d := openOVS(t, "ovs0")
	vsctl(t, l, "set-fail-mode", "ovs0", "secure")
	ofctl(t, "del-flows", "ovs0")
	wirePort(t, d, guarded(a, ovs0))
	doesNotReach(t, a, b) // a guard forwards nothing by itself
	ofctl(t, "add-flow", "ovs0", "cookie=7,table=0,priority=5,actions=NORMAL")
	ofctl(t, "add-flow", "ovs0", "cookie=7,table=0,priority=100,icmp,nw_dst=10.9.0.77,actions=drop")
	others := flows(t, false)
	undo := planPort(t, d, guarded(a, ovs0)) // empty
	reaches(t, a, b)
	reaches(t, b, a)

	inStation(t, a, "ip", "addr", "add", "10.9.0.66/24", "dev", "eth0")
	ping := []string{"busybox", "ping", "-c1", "-W1"}
	if _, err := a.Run(t.Context(), append(ping, "-I", "10.9.0.66", "10.9.0.2")...); err == nil {
		t.Error("a speaks from another address")
	}
	inStation(t, b, "ip", "addr", "add", "10.9.0.77/24", "dev", "eth0")
	if _, err := a.Run(t.Context(), append(ping, "10.9.0.77")...); err == nil {
		t.Error("a flow of somebody else does no longer count")
	}
	p := wirePort(t, d, vnet.Port{Device: a.Device, Switch: "ovs0", Network: "red", Guest: vnet.GuestRef{UUID: "u1"}, MAC: vnet.MAC(a.MAC)})
	if !strings.Contains(p.String(), "sources: 52:54:00:00:00:01 10.9.0.1 -> any") {
		t.Errorf("the plan does not say what becomes of the sources:\n%s", p)
	}
	if _, err := a.Run(t.Context(), append(ping, "-I", "10.9.0.66", "10.9.0.2")...); err != nil {
		t.Errorf("without a guard: %v", err)
	}
	if _, err := d.Apply(t.Context(), p.Reverse()); err != nil {
		t.Fatal(err)
	}
	if got := flows(t, false); !slices.Equal(got, others) || !undo.Empty() {
		t.Errorf("flows of others are\n%s\nwere\n%s", strings.Join(got, "\n"), strings.Join(others, "\n"))
	}
}

func inStation(t *testing.T, s *lab.Station, argv ...string) {
	t.Helper()
	if _, err := s.Run(t.Context(), argv...); err != nil {
		t.Fatal(err)
	}
}

// TestGuardDrift checks that guards are facts: what somebody takes away, or a
// restart of ovs-vswitchd, is seen and put back, and what a port leaves behind
// is swept.
func TestGuardDrift(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "ovs0", "a", 1), station(t, l, "ovs0", "b", 2)
	d := openOVS(t, "ovs0")
	port := guarded(a, ovs0)
	wirePort(t, d, port)
	wirePort(t, d, guarded(b, ovs0))
	for name, meddle := range map[string]func(){
		"a flow is gone": func() { ofctl(t, "--strict", "del-flows", "ovs0", "table=240,priority=10,in_port="+number(t, l, a)) },
		"a flow lets through": func() {
			ofctl(t, "mod-flows", "--strict", "ovs0", "table=243,priority=10,in_port="+number(t, l, a)+",actions=NORMAL")
		},
		"all flows are gone": func() { ofctl(t, "del-flows", "ovs0"); ofctl(t, "add-flow", "ovs0", "actions=NORMAL") },
		"fragments":          func() { ofctl(t, "set-frags", "ovs0", "normal") },
		"a restart":          func() { restart(t, l) },
	} {
		meddle()
		p := planPort(t, d, port)
		if len(p.Changes) != 1 || !strings.Contains(p.String(), "sources: any -> ") {
			t.Errorf("%s, and the plan is:\n%s", name, p)
		}
		wirePort(t, d, port)
		wirePort(t, d, guarded(b, ovs0))
		reaches(t, a, b)
	}
	before := flows(t, true)
	if err := d.Sweep(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	index := observePort(t, d, a.Device).Index
	if err := d.Sweep(t.Context(), []int{index}); err != nil { // it is not gone
		t.Fatal(err)
	}
	if got := flows(t, true); !slices.Equal(got, before) || len(got) == 0 {
		t.Errorf("swept ports that are there, of %d flows %d are left", len(before), len(got))
	}
	for _, gone := range []struct {
		*lab.Station
		indices []int
	}{{a, []int{index}}, {b, nil}} {
		vsctl(t, l, "del-port", gone.Device)
		had := len(flows(t, true))
		if err := d.Sweep(t.Context(), gone.indices); err != nil {
			t.Fatal(err)
		}
		if left := len(flows(t, true)); left != had-len(before)/2 {
			t.Errorf("%s is gone, and of %d flows %d are left", gone.Name, had, left)
		}
	}
}

func number(t *testing.T, l *lab.Lab, s *lab.Station) string {
	t.Helper()
	return strings.TrimSpace(vsctl(t, l, "get", "interface", s.Device, "ofport"))
}

func restart(t *testing.T, l *lab.Lab) {
	t.Helper()
	if err := l.Vswitchd().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.StartOVS(t.Context()); err != nil {
		t.Fatal(err)
	}
	// It has taken up the bridge once a change to it is in force.
	vsctl(t, l, "set", "bridge", "ovs0", fmt.Sprintf("external_ids:restarted=%d", time.Now().UnixNano()))
}

// TestGuardDeadline checks that a guard costs no more time than there is, leaves
// no process behind, and says what is missing.
func TestGuardDeadline(t *testing.T) {
	l := start(t)
	a := station(t, l, "ovs0", "a", 1)
	d := openOVS(t, "ovs0")
	port := guarded(a, ovs0)
	wirePort(t, d, port)
	if err := l.Vswitchd().Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := d.Observe(ctx, switchcfg.Scope{Devices: []string{a.Device}})
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, switchcfg.ErrUnreachable) || took > time.Second {
		t.Errorf("after %v: got error %v, want %v", took, err, context.DeadlineExceeded)
	}
	if out, err := exec.CommandContext(t.Context(), "pgrep", "-x", "ovs-ofctl").Output(); err == nil {
		t.Errorf("left behind: %s", out)
	}
	if err := l.Vswitchd().Resume(); err != nil {
		t.Fatal(err)
	}
	vsctl(t, l, "set", "bridge", "ovs0", "protocols=OpenFlow10,OpenFlow13")
	d = openOVS(t, "ovs0")
	if _, err := d.Observe(t.Context(), switchcfg.Scope{Devices: []string{a.Device}}); !errors.Is(err, switchcfg.ErrUnsupported) {
		t.Errorf("without OpenFlow 1.4: got error %v, want %v", err, switchcfg.ErrUnsupported)
	}
	want, err := switchcfg.Desired([]vnet.Port{port}, ovs0)
	if err != nil {
		t.Fatal(err)
	}
	err = d.Capabilities().Check(t.Context(), want)
	if says := "ovs-vsctl add bridge ovs0 protocols OpenFlow14"; !errors.Is(err, switchcfg.ErrUnsupported) || !strings.Contains(err.Error(), says) {
		t.Errorf("got error %v, want one that says %s", err, says)
	}
	vsctl(t, l, "add", "bridge", "ovs0", "protocols", "OpenFlow14")
	if p := planPort(t, openOVS(t, "ovs0"), port); !p.Empty() {
		t.Errorf("still to do:\n%s", p)
	}
}
