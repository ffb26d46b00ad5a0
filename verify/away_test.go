// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"errors"
	"testing"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestAwayBound judges where the port of another host's guest is bound, and whether
// there is a way to it.
func TestAwayBound(t *testing.T) {
	two := []string{"one", "two"}
	well := Binding{ID: "port", Known: true, Chassis: "two", Requested: two[1:]}
	for name, test := range map[string]struct {
		spoil  func(*Overlay, *Binding)
		status Status
		code   string
	}{
		"well":               {func(*Overlay, *Binding) {}, StatusPass, ""},
		"no southbound":      {func(o *Overlay, _ *Binding) { o.Unknown = errors.New("away") }, StatusInconclusive, ""},
		"no logical port":    {func(_ *Overlay, b *Binding) { *b = Binding{} }, StatusFail, CodePortNotBound},
		"bound to none":      {func(_ *Overlay, b *Binding) { b.Chassis = "" }, StatusFail, CodePortNotBound},
		"bound to this host": {func(_ *Overlay, b *Binding) { b.Chassis = "one" }, StatusFail, CodePortElsewhere},
		"moving":             {func(_ *Overlay, b *Binding) { b.Requested = two }, StatusInconclusive, ""},
		"faulty tunnel":      {func(o *Overlay, _ *Binding) { o.Tunnels[0].Fault = "BFD is down" }, StatusFail, CodeTunnelDown},
		"no such chassis":    {func(o *Overlay, _ *Binding) { o.Tunnels = nil }, StatusFail, CodeTunnelDown},
		"tunnel ends astray": {func(o *Overlay, _ *Binding) { o.Astray = []string{"192.0.2.1"} }, StatusFail, CodeTunnelDown},
	} {
		o := &Overlay{Chassis: "one", Registered: true, Tunnels: []Tunnel{{Chassis: "two", Remote: "192.0.2.2", Device: "t0"}}}
		b := well
		test.spoil(o, &b)
		sw := &Switch{Switch: vnet.Switch{Name: "br-int", Driver: vnet.DriverOVN}, Overlay: o}
		n := &nic{NIC: &NIC{Port: &Port{Binding: b}}, network: &vnet.Network{}, sw: sw, running: true, away: "host2"}
		n.Want.Device = "vnet0"
		f := n.judge(step{RungForwarding, (*nic).judgeForwarding})
		if f.status != test.status || f.code != test.code || f.status == StatusFail && (f.fix == "" || len(f.evidence) == 0) {
			t.Errorf("%s: got %+v", name, f)
		}
		n.climb(staticSteps(), nil)
		n.climbLive(liveSteps(), nil)
		if n.plugged() || n.wired() || n.speaks() {
			t.Errorf("%s: something would be sent at a port that is not here", name)
		}
	}
}
