// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// testRate is far below what the slowest machine passes.
const testRate = 16e6

// TestRateTraffic measures what a real transfer gets.
func TestRateTraffic(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	d := openBR0(t)
	free := switchtest.Transfer(t, a, b)
	if free < 3*testRate {
		t.Fatalf("without a limit: %.1f Mbit/s, too slow to tell a limit of %.0f", free/1e6, testRate/1e6)
	}
	for _, c := range []struct {
		property string
		feature  switchcfg.Feature
		port     *lab.Station
		qos      vnet.QoS
	}{
		{"inbound rate", switchcfg.FeatureInbound, b, vnet.QoS{Inbound: vnet.Rate{Bits: testRate}}},
		{"outbound rate", switchcfg.FeatureOutbound, a, vnet.QoS{Outbound: vnet.Rate{Bits: testRate}}},
	} {
		if reason := d.Capabilities().Try(t.Context(), c.feature); reason != "" {
			if !strings.HasPrefix(reason, "this kernel has no "+c.property) || try(t, "modprobe", "act_police") == nil {
				t.Errorf("%s: %s", c.property, reason)
			}
			continue // the virtual machine's kernel has it
		}
		undo := wire(t, d, c.port, vnet.Policy{QoS: c.qos}).Reverse()
		got := switchtest.Limited(t, c.property, a, b, testRate)
		back := switchtest.Transfer(t, b, a)
		if back < 2*testRate {
			t.Errorf("%s: the other direction gets %.1f Mbit/s", c.property, back/1e6)
		}
		if _, err := d.Apply(t.Context(), undo); err != nil {
			t.Fatal(err)
		}
		if got := limits(t, c.port.Device); strings.Contains(got, "tbf") || strings.Contains(got, "ingress") {
			t.Errorf("left after the undo: %s", got)
		}
		t.Logf("%s %.0f Mbit/s: a transfer gets %.2f, the other direction %.0f, without limit %.0f", c.property, testRate/1e6, got/1e6, back/1e6, free/1e6)
		prove(t, c.property, "the other direction, and without it both, get more", "a transfer does not get more than the rate, nor 15 % less")
	}
}

// TestRateOfLibvirtsTap checks that what libvirt gives to a tap, a discipline that
// limits nothing, makes room, and comes back.
func TestRateOfLibvirtsTap(t *testing.T) {
	l := start(t)
	a := station(t, l, "a", 1)
	d := openBR0(t)
	run(t, "tc", "qdisc", "add", "dev", a.Device, "root", "noqueue")
	for _, rate := range []vnet.BitRate{testRate, 2 * testRate, 0} {
		wire(t, d, a, vnet.Policy{QoS: vnet.QoS{Inbound: vnet.Rate{Bits: rate}}})
		got := limits(t, a.Device)
		if want := rate == 0; strings.Contains(got, "noqueue 8") != want || strings.Contains(got, "tbf") == want {
			t.Errorf("rate %s: %s", rate, got)
		}
	}
}

// TestForeignRate checks that what limits a port already, such as libvirt with a
// <bandwidth>, is left alone.
func TestForeignRate(t *testing.T) {
	l := start(t)
	a := station(t, l, "a", 1)
	d := openBR0(t)
	run(t, "tc", "qdisc", "add", "dev", a.Device, "root", "handle", "1:", "tbf", "rate", "1mbit", "burst", "64kb", "latency", "50ms")
	before := limits(t, a.Device)
	plan := switchtest.MustPlan(t, d, br0, vnet.Port{Device: a.Device, Switch: "br0", Network: "red", Policy: vnet.Policy{QoS: vnet.QoS{Inbound: vnet.Rate{Bits: testRate}}}})
	if _, err := d.Apply(t.Context(), plan); !errors.Is(err, switchcfg.ErrNotOwned) || !strings.Contains(err.Error(), "tc qdisc show dev "+a.Device) {
		t.Errorf("got error %v, want %v", err, switchcfg.ErrNotOwned)
	}
	if after := limits(t, a.Device); after != before {
		t.Errorf("was %s, is %s", before, after)
	}
	left := switchtest.MustPlan(t, d, br0, vnet.Port{Device: a.Device, Switch: "br0", Network: "red", LibvirtQoS: true, Policy: vnet.Policy{QoS: vnet.QoS{Inbound: vnet.Rate{Bits: testRate}}}})
	for _, c := range left.Changes {
		if got := *c.After.Settings.QoS; got != (vnet.QoS{}) {
			t.Errorf("with libvirt's: wants %+v", got)
		}
	}
}
