// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest/guardtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestTunnelTraffic sends tagged frames through a tunnel, and looks at them where
// the service VLAN comes out with its tag.
func TestTunnelTraffic(t *testing.T) {
	l := start(t)
	w := guardtest.NewWire(t, l, "ovs0")
	set := vnet.VLANSet{Service: 30, Customer: vnet.VLANRanges{{First: 5, Last: 7}}}
	want, err := switchcfg.Desired([]vnet.Port{{Device: w.Port, Switch: "ovs0", Network: "red", Policy: vlan(set)}}, ovs0)
	if err != nil {
		t.Fatal(err)
	}
	err = openOVS(t, "ovs0").Capabilities().Check(t.Context(), want)
	if !errors.Is(err, switchcfg.ErrUnsupported) || !strings.Contains(err.Error(), "other_config:vlan-limit=2") {
		t.Errorf("got error %v, want one that says how many tags there may be", err)
	}
	vsctl(t, l, "set", "Open_vSwitch", ".", "other_config:vlan-limit=2")
	d := openOVS(t, "ovs0")
	if err := d.Capabilities().Check(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	const listener = "to-b"
	port := vnet.Port{Device: w.Port, Switch: "ovs0", Network: "red", Guest: vnet.GuestRef{UUID: "u1"}, Policy: vlan(set)}
	other := port
	other.Device = listener
	frame := func(customer uint16) []byte {
		f := guardtest.Ether(guardtest.GuestMAC, 0x88b6, []byte{1, 2, byte(customer)})
		return append(append(f[:12:12], 0x81, 0, byte(customer>>8), byte(customer)), f[12:]...)
	}
	check := func(name string, there vnet.VLANSet, customer uint16, arrives bool) {
		t.Helper()
		other.Policy = vlan(there)
		wirePort(t, d, other)
		time.Sleep(revalidation)
		if got := w.Arrives(t, frame(customer)); got != arrives {
			t.Errorf("%s: arrives: %t, want %t", name, got, arrives)
		}
	}
	wirePort(t, d, port)
	check("to a tunnel of the same service", set, 5, true)
	check("a VLAN that the tunnel does not take", set, 8, false)
	check("to a tunnel of another service", vnet.VLANSet{Service: 31}, 5, false)
	check("to a trunk that has the service VLAN", vnet.VLANSet{Trunk: vnet.VLANRanges{{First: 30, Last: 30}}}, 5, true)
	check("to a trunk that has the customer's", vnet.VLANSet{Trunk: vnet.VLANRanges{{First: 5, Last: 5}}}, 5, false)
	if got := vsctl(t, l, "--bare", "--columns=vlan_mode,tag,cvlans", "list", "port", w.Port); !strings.HasPrefix(got, "dot1q-tunnel\n30\n5 6 7") {
		t.Errorf("the port is %s", got)
	}
	port.Policy = vlan(vnet.VLANSet{Service: 30})
	wirePort(t, d, port)
	check("a tunnel takes all", vnet.VLANSet{Service: 30}, 8, true)
}
