// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/ovs"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// testRate is far below what the slowest machine passes.
const testRate = 16e6

// limited is a station's port with limits.
func limited(s *lab.Station, q vnet.QoS) vnet.Port {
	return vnet.Port{
		Device: s.Device, Switch: "ovs0", Network: "red", Guest: vnet.GuestRef{UUID: "u1"}, MAC: vnet.MAC(s.MAC),
		Policy: vnet.Policy{QoS: q},
	}
}

// TestRateTraffic measures what a real transfer gets.
func TestRateTraffic(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "ovs0", "a", 1), station(t, l, "ovs0", "b", 2)
	d := openOVS(t, "ovs0")
	free := switchtest.Transfer(t, a, b)
	if free < 3*testRate {
		t.Fatalf("without a limit: %.1f Mbit/s, too slow to tell a limit of %.0f", free/1e6, testRate/1e6)
	}
	for _, c := range []struct {
		name string
		port *lab.Station
		qos  vnet.QoS
	}{
		{"inbound", b, vnet.QoS{Inbound: vnet.Rate{Bits: testRate}}},
		{"outbound", a, vnet.QoS{Outbound: vnet.Rate{Bits: testRate}}},
	} {
		undo := wirePort(t, d, limited(c.port, c.qos)).Reverse()
		got := switchtest.Limited(t, c.name, a, b, testRate)
		back := switchtest.Transfer(t, b, a)
		if back < 2*testRate {
			t.Errorf("%s: the other direction gets %.1f Mbit/s", c.name, back/1e6)
		}
		if _, err := d.Apply(t.Context(), undo); err != nil {
			t.Fatal(err)
		}
		if left := leftOfRates(t, l); left != "" {
			t.Errorf("left after the undo: %s", left)
		}
		t.Logf("%s %.0f Mbit/s: a transfer gets %.2f, the other direction %.0f, without limit %.0f", c.name, testRate/1e6, got/1e6, back/1e6, free/1e6)
	}
}

// leftOfRates is what there is of QoS, queues and meters.
func leftOfRates(t *testing.T, l *lab.Lab) string {
	t.Helper()
	left := vsctl(t, l, "--columns=_uuid", "list", "QoS") + vsctl(t, l, "--columns=_uuid", "list", "Queue")
	if meters := ofctl(t, "-O", "OpenFlow13", "dump-meters", "ovs0"); strings.Contains(meters, "meter=") {
		left += meters
	}
	return left
}

// TestRateDrift checks that limits are facts, and that they do not outlive their
// port.
func TestRateDrift(t *testing.T) {
	l := start(t)
	a := station(t, l, "ovs0", "a", 1)
	d := openOVS(t, "ovs0")
	port := limited(a, vnet.QoS{Inbound: vnet.Rate{Bits: testRate}, Outbound: vnet.Rate{Bits: testRate}})
	port.Policy.AntiSpoof = true
	wirePort(t, d, port)
	for name, c := range map[string]struct {
		meddle func()
		says   string
	}{
		"no meter":  {func() { ofctl(t, "-O", "OpenFlow13", "del-meters", "ovs0") }, "outbound rate: none -> "},
		"a restart": {func() { restart(t, l) }, "outbound rate: none -> "},
		"another queue": {func() {
			vsctl(t, l, "set", "queue", strings.TrimSpace(vsctl(t, l, "--bare", "--columns=_uuid", "list", "queue")), "other_config:max-rate=5")
		}, "inbound rate: none -> "},
		"no QoS":            {func() { vsctl(t, l, "clear", "port", a.Device, "qos") }, "inbound rate: none -> "},
		"no htb beneath it": {func() { inHost(t, "tc", "qdisc", "del", "dev", a.Device, "root") }, "inbound rate: none -> "},
	} {
		c.meddle()
		if p := planPort(t, d, port); !strings.Contains(p.String(), c.says) {
			t.Errorf("%s, and the plan is:\n%s", name, p)
		}
		wirePort(t, d, port)
	}
	index := observePort(t, d, a.Device).Index
	vsctl(t, l, "del-port", a.Device)
	if leftOfRates(t, l) == "" {
		t.Error("limits do not outlive their port, and need not be swept")
	}
	if err := d.Sweep(t.Context(), []int{index}); err != nil {
		t.Fatal(err)
	}
	if left := leftOfRates(t, l); left != "" {
		t.Errorf("left of the port: %s", left)
	}
}

func inHost(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", argv, err, out)
	}
}

// TestForeignRate checks that what limits a port already is left alone.
func TestForeignRate(t *testing.T) {
	l := start(t)
	a := station(t, l, "ovs0", "a", 1)
	d := openOVS(t, "ovs0")
	vsctl(t, l, "set", "port", a.Device, "qos=@q", "--", "--id=@q", "create", "qos", "type=linux-htb", "other_config:max-rate=1000000")
	before := vsctl(t, l, "list", "qos")
	_, err := d.Apply(t.Context(), planPort(t, d, limited(a, vnet.QoS{Inbound: vnet.Rate{Bits: testRate}})))
	if !errors.Is(err, switchcfg.ErrNotOwned) || !strings.Contains(err.Error(), "ovs-vsctl list qos") {
		t.Errorf("got error %v, want %v", err, switchcfg.ErrNotOwned)
	}
	wirePort(t, d, limited(a, vnet.QoS{}))
	if after := vsctl(t, l, "list", "qos"); after != before {
		t.Errorf("was %s, is %s", before, after)
	}
}

// TestRateReplaced checks that what somebody else has put in place of our limit is
// left alone, and that ours goes.
func TestRateReplaced(t *testing.T) {
	l := start(t)
	a := station(t, l, "ovs0", "a", 1)
	d := openOVS(t, "ovs0")
	port := limited(a, vnet.QoS{Inbound: vnet.Rate{Bits: testRate}})
	undo := wirePort(t, d, port).Reverse()
	vsctl(t, l, "set", "port", a.Device, "qos=@q", "--", "--id=@q", "create", "qos", "type=linux-htb", "other_config:max-rate=1000000")
	theirs := vsctl(t, l, "get", "port", a.Device, "qos")
	if _, err := d.Apply(t.Context(), planPort(t, d, port)); !errors.Is(err, switchcfg.ErrNotOwned) {
		t.Errorf("wired again: got error %v, want %v", err, switchcfg.ErrNotOwned)
	}
	if _, err := d.Apply(t.Context(), undo); err != nil {
		t.Fatal(err)
	}
	if got := vsctl(t, l, "get", "port", a.Device, "qos"); got != theirs {
		t.Errorf("the port's QoS is %s, was %s", got, theirs)
	}
	if left := vsctl(t, l, "--bare", "--columns=_uuid", "find", "QoS", "external_ids:virt-vnet-port="+a.Device); left != "" {
		t.Errorf("left of ours: %s", left)
	}
}

// TestRateRestart checks that a restart of ovs-vswitchd does not keep a guest with
// limits from being wired, and that one that stays away is told of, in time.
func TestRateRestart(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "ovs0", "a", 1), station(t, l, "ovs0", "b", 2)
	d := openOVS(t, "ovs0")
	limits := vnet.QoS{Inbound: vnet.Rate{Bits: testRate}, Outbound: vnet.Rate{Bits: testRate}}
	known := limited(a, limits)
	wirePort(t, d, known)
	for name, end := range map[string]func(context.Context) error{"asked to end": l.Vswitchd().Stop, "killed": l.Vswitchd().Kill} {
		for _, port := range []vnet.Port{known, limited(b, limits)} {
			if err := end(t.Context()); err != nil {
				t.Fatal(err)
			}
			back := make(chan error, 1)
			time.AfterFunc(300*time.Millisecond, func() { back <- l.StartOVS(t.Context()) })
			began := time.Now()
			p := wirePort(t, d, port)
			t.Logf("%s: %s is wired after %v", name, port.Device, time.Since(began))
			if err := <-back; err != nil {
				t.Fatal(err)
			}
			if port.Device == b.Device {
				if _, err := d.Apply(t.Context(), p.Reverse()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}

	wirePort(t, d, known)
	ofctl(t, "-O", "OpenFlow13", "del-meters", "ovs0")
	p := planPort(t, d, known)
	if err := l.Vswitchd().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	fails := func(name string, d *ovs.Driver, limit, from, to time.Duration, do func(context.Context, *ovs.Driver) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		began := time.Now()
		err := do(ctx, d)
		took := time.Since(began)
		if !errors.Is(err, switchcfg.ErrUnreachable) || strings.Count(err.Error(), "ovs-vswitchd") != 1 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got error %v, want one that says that ovs-vswitchd is not there", name, err)
		}
		if took < from || took > to {
			t.Errorf("%s took %v, want %v to %v", name, took, from, to)
		}
		t.Logf("%s: after %v: %v", name, took, err)
	}
	fails("a change", d, 5*time.Second, time.Second, 2*time.Second, func(ctx context.Context, d *ovs.Driver) error {
		_, err := d.Apply(ctx, p)
		return err
	})
	fails("a look, later", d, 5*time.Second, 0, 500*time.Millisecond, look(a.Device))
	fails("a look", openOVS(t, "ovs0"), 5*time.Second, time.Second, 2*time.Second, look(a.Device))
	fails("a look in little time", openOVS(t, "ovs0"), 200*time.Millisecond, 0, 700*time.Millisecond, look(a.Device))
	if err := errors.Join(l.StartOVS(t.Context()), l.Vswitchd().Pause()); err != nil {
		t.Fatal(err)
	}
	fails("a look at one that hangs", openOVS(t, "ovs0"), 200*time.Millisecond, 0, 700*time.Millisecond, look(a.Device))
}

func look(device string) func(context.Context, *ovs.Driver) error {
	return func(ctx context.Context, d *ovs.Driver) error {
		_, err := d.Observe(ctx, switchcfg.Scope{Devices: []string{device}})
		return err
	}
}
