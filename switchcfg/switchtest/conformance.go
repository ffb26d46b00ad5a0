// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchtest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Fixture is a switch to run [Conformance] against, and ways to meddle with it
// that do not go through the driver.
type Fixture struct {
	// Switch exists, and nothing else uses it. Where networks are of their own,
	// so do red and blue.
	Switch vnet.Switch
	// Open opens the driver of a switch.
	Open func(context.Context, vnet.Switch) (switchcfg.Driver, error)
	// AddDevice makes a device of the host that is on no switch.
	AddDevice func(t *testing.T, device string)
	// Plug makes a device a port, of Switch or of another switch of the same
	// kind, as libvirt would: without a mark of ours.
	Plug func(t *testing.T, device string, elsewhere bool)
	// Remove takes a device away, from the switch too.
	Remove func(t *testing.T, device string)
	// Look is everything that the switch's own tools say of a port.
	Look func(t *testing.T, device string) string
	// MarkForeign puts somebody else's mark where ours would go. Nil when
	// there is no such place.
	MarkForeign func(t *testing.T, device string)
}

// suite runs one case.
type suite struct {
	*testing.T
	Fixture
	driver switchcfg.Driver
}

// Conformance holds a driver against the contract of [switchcfg.Driver].
func Conformance(t *testing.T, f Fixture) {
	cases := []struct {
		name string
		run  func(suite)
	}{
		{"no such switch", suite.noSwitch},
		{"no such port", suite.noPort},
		{"port vanishes before apply", suite.vanishes},
		{"port of another switch", suite.elsewhere},
		{"port with a foreign mark", suite.foreign},
		{"port taken meanwhile", suite.taken},
		{"what the switch cannot do", suite.unsupported},
		{"cancelled", suite.cancelled},
		{"scope", suite.scope},
		{"observe changes nothing", suite.observeOnly},
		{"wire, again, undo", suite.wire},
		{"wire a device that is on no switch", suite.plug},
		{"neighbours stay as they are", suite.neighbours},
		{"release", suite.release},
		{"VLANs", suite.vlans},
		{"settings", suite.settings},
		{"many ports in one plan", suite.many},
		{"vantage", suite.vantage},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d, err := f.Open(t.Context(), f.Switch)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
			c.run(suite{t, f, d})
		})
	}
}

const (
	guest      = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
	otherGuest = "7bd80b2c-7a4e-4b0f-9f1e-3d3a2c0f6d11"
)

// device makes a device for this case; with plugged it is a port already.
func (s suite) device(name string, plugged bool) string {
	s.Helper()
	s.AddDevice(s.T, name)
	s.Cleanup(func() { s.Remove(s.T, name) })
	if plugged {
		s.Plug(s.T, name, false)
	}
	return name
}

// port is a guest port on a device, with the given policy.
func (s suite) port(device string, policy vnet.Policy) vnet.Port {
	return vnet.Port{
		Device: device, Switch: s.Switch.Name, Network: "red", Policy: policy, InterfaceID: InterfaceID(device),
		Guest: vnet.GuestRef{Name: "g1", UUID: guest}, MAC: vnet.MAC{0x52, 0x54, 0, 0x12, 0x34, device[len(device)-1]},
	}
}

// InterfaceID is the id of the guest interface that a device is of: what a
// switch of a network that spans hosts knows it by.
func InterfaceID(device string) string {
	return fmt.Sprintf("00000000-0000-4000-8000-%012x", device)
}

func (s suite) observe(devices ...string) switchcfg.State {
	s.Helper()
	state, err := s.driver.Observe(s.Context(), switchcfg.Scope{Devices: devices})
	if err != nil {
		s.Fatal(err)
	}
	return state
}

// plan is what leads to the ports.
func (s suite) plan(ports ...vnet.Port) (switchcfg.Plan, error) {
	s.Helper()
	want, err := switchcfg.Desired(ports, s.Switch)
	if err != nil {
		s.Fatal(err)
	}
	return switchcfg.Diff(want, s.observe(want.Devices()...), guest)
}

func (s suite) mustPlan(ports ...vnet.Port) switchcfg.Plan {
	s.Helper()
	plan, err := s.plan(ports...)
	if err != nil {
		s.Fatal(err)
	}
	return plan
}

// apply carries a plan out, which must succeed and be all of it.
func (s suite) apply(plan switchcfg.Plan) {
	s.Helper()
	applied, err := s.driver.Apply(s.Context(), plan)
	if err != nil {
		s.Fatalf("apply:\n%s%v", plan, err)
	}
	if diff := difference(plan.Changes, applied); diff != "" {
		s.Fatalf("applied something else (-plan +applied):\n%s", diff)
	}
}

// difference is what two things of package switchcfg differ in.
func difference(a, b any) string { return cmp.Diff(a, b, cmpopts.EquateComparable(netip.Addr{})) }

// settled checks that nothing is left to do.
func (s suite) settled(ports ...vnet.Port) {
	s.Helper()
	if plan := s.mustPlan(ports...); !plan.Empty() {
		s.Fatalf("there is still something to do:\n%s", plan)
	}
}

// fails checks an error and that it names the object.
func (s suite) fails(err, want error, name string) {
	s.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), name) {
		s.Fatalf("got error %v, want one that is %q and names %s", err, want, name)
	}
}

// has reports whether the switch can do something.
func (s suite) has(feature switchcfg.Feature) bool {
	caps := s.driver.Capabilities()
	_, missing := caps.Missing[feature]
	return !missing && (caps.Try == nil || caps.Try(s.Context(), feature) == "")
}

// asks are policies that ask for one feature each, in another way than a port
// without any policy is.
func asks() map[switchcfg.Feature]vnet.Policy {
	rate := vnet.Rate{Bits: 100e6}
	return map[switchcfg.Feature]vnet.Policy{
		switchcfg.FeatureVLAN:                  {VLAN: vnet.VLANSet{Access: 20}},
		switchcfg.FeatureTunnel:                {VLAN: vnet.VLANSet{Service: 30, Customer: vnet.VLANRanges{{First: 5, Last: 7}}}},
		switchcfg.FlagIsolated.Feature():       {Isolated: true},
		switchcfg.FlagLearning.Feature():       {Learning: vnet.ToggleOff},
		switchcfg.FlagFlood.Feature():          {Flood: vnet.ToggleOff},
		switchcfg.FlagMulticastFlood.Feature(): {MulticastFlood: vnet.ToggleOff},
		switchcfg.FlagBroadcastFlood.Feature(): {BroadcastFlood: vnet.ToggleOff},
		switchcfg.FlagFastLeave.Feature():      {FastLeave: vnet.ToggleOn},
		switchcfg.FlagNeighSuppress.Feature():  {NeighSuppress: vnet.ToggleOn},
		switchcfg.FlagBPDUGuard.Feature():      {BPDUGuard: vnet.ToggleOn},
		switchcfg.FlagRootBlock.Feature():      {RootBlock: vnet.ToggleOn},
		switchcfg.FeatureAntiSpoof:             {AntiSpoof: true, DHCPGuard: vnet.ToggleOff, RAGuard: vnet.ToggleOff},
		switchcfg.FeatureDHCPGuard:             {DHCPGuard: vnet.ToggleOn},
		switchcfg.FeatureRAGuard:               {RAGuard: vnet.ToggleOn},
		switchcfg.FeatureInbound:               {QoS: vnet.QoS{Inbound: rate}},
		switchcfg.FeatureOutbound:              {QoS: vnet.QoS{Outbound: rate}},
		switchcfg.FeaturePriority:              {QoS: vnet.QoS{Priority: 5}},
	}
}

// fullPolicy asks for everything that the switch can do.
func (s suite) fullPolicy() vnet.Policy {
	var full vnet.Policy
	for feature, policy := range asks() {
		if s.has(feature) {
			full = both(full, policy)
		}
	}
	return full
}

// both asks for what a and b ask for, which is not the same setting.
func both(a, b vnet.Policy) vnet.Policy {
	sum, more := reflect.ValueOf(&a).Elem(), reflect.ValueOf(b)
	for i := range sum.NumField() {
		switch {
		case sum.Field(i).Type() == reflect.TypeFor[vnet.QoS]():
			q := reflect.ValueOf(&a.QoS).Elem()
			for j := range q.NumField() {
				if q.Field(j).IsZero() {
					q.Field(j).Set(more.Field(i).Field(j))
				}
			}
		case !more.Field(i).IsZero():
			sum.Field(i).Set(more.Field(i))
		}
	}
	return a
}

func deviceNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("ct%d", i)
	}
	return names
}
