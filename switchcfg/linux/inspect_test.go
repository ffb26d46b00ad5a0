// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func inspect(t *testing.T, sw vnet.Switch) switchcfg.Condition {
	t.Helper()
	d, err := linux.Open(t.Context(), sw)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // it was only read from
	found, err := d.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestInspect follows a port through the states of spanning tree, and checks the
// time left against the clock.
func TestInspect(t *testing.T) {
	l := start(t)
	a := station(t, l, "a", 1)
	uplink := br0
	uplink.Uplink = a.Device
	if got := inspect(t, br0).Uplink; got.Device != "" {
		t.Errorf("no uplink is wanted, and it has %+v", got)
	}
	found := inspect(t, uplink)
	if found.Uplink.Device != a.Device {
		t.Errorf("uplink %+v, want %s", found.Uplink, a.Device)
	}
	if got, want := found.Forwarding[a.Device], (switchcfg.Forwarding{State: switchcfg.StateForwarding}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if canFilter(t) {
		ip(t, "link", "set", "br0", "type", "bridge", "vlan_filtering", "1")
		bridge(t, "vlan", "add", "dev", a.Device, "vid", "20")
		want := vnet.VLANSet{Trunk: vnet.VLANRanges{{First: 20, Last: 20}}, Native: 1}
		if got := inspect(t, uplink).Uplink.VLAN; got == nil || !got.Equal(want) {
			t.Errorf("the uplink is %v, want %v", got, want)
		}
		ip(t, "link", "set", "br0", "type", "bridge", "vlan_filtering", "0")
	}
	const delay = 2 * time.Second // the shortest of IEEE 802.1D
	ip(t, "link", "set", "br0", "type", "bridge", "stp_state", "1", "forward_delay", "200")
	ip(t, "link", "set", a.Device, "nomaster")
	ip(t, "link", "set", a.Device, "master", "br0")
	began := time.Now()
	var states []string
	for {
		f := inspect(t, br0).Forwarding[a.Device]
		if len(states) == 0 || states[len(states)-1] != f.State {
			states = append(states, f.State)
			end := time.Until(began.Add(2 * delay))
			if off := (f.Left - end).Abs(); f.State != switchcfg.StateForwarding && off > 700*time.Millisecond {
				t.Errorf("%s: %v left, want about %v", f.State, f.Left, end)
			}
		}
		if f.State == switchcfg.StateForwarding || time.Since(began) > 4*delay {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if diff := cmp.Diff([]string{"listening", "learning", "forwarding"}, states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	ip(t, "link", "set", a.Device, "down")
	if got := inspect(t, br0).Forwarding[a.Device]; got.State != "disabled" {
		t.Errorf("a port that is down is %+v", got)
	}
	ip(t, "link", "set", a.Device, "nomaster")
	if got := inspect(t, uplink).Uplink; got.Device != "" {
		t.Errorf("the uplink was taken off, and is %+v", got)
	}
}
