// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/ovs"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestInspect checks what is said of spanning tree, of an uplink and of a bond,
// and that a switch nobody runs any more is told.
func TestInspect(t *testing.T) {
	l := start(t)
	for _, pair := range [][2]string{{"up0", "far0"}, {"up1", "far1"}} {
		ip(t, "link", "add", pair[0], "up", "type", "veth", "peer", "name", pair[1])
		ip(t, "link", "set", pair[1], "up")
	}
	inspect := func(uplink string) (switchcfg.Condition, error) {
		t.Helper()
		sw := ovs0
		sw.Uplink = uplink
		d, err := ovs.Open(t.Context(), sw)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close() //nolint:errcheck // it was only read from
		return d.Inspect(t.Context())
	}
	eventually := func(what string, uplink string, done func(switchcfg.Condition) bool) {
		t.Helper()
		var found switchcfg.Condition
		var err error
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if found, err = inspect(uplink); err == nil && done(found) {
				return
			}
		}
		t.Errorf("%s: got %+v, error %v", what, found, err)
	}

	found, err := inspect("up0")
	if diff := cmp.Diff(switchcfg.Condition{Forwarding: map[string]switchcfg.Forwarding{}}, found); diff != "" || err != nil {
		t.Errorf("no port, no spanning tree: %v (-want +got):\n%s", err, diff)
	}
	vsctl(t, l, "add-port", "ovs0", "up0", "trunks=10,20")
	eventually("an uplink with a link", "up0", func(c switchcfg.Condition) bool {
		return c.Uplink.Device == "up0" && c.Uplink.Link == vnet.ToggleOn && c.Uplink.VLAN.String() == "trunk 10,20"
	})
	ip(t, "link", "set", "far0", "down")
	eventually("an uplink without a link", "up0", func(c switchcfg.Condition) bool { return c.Uplink.Link == vnet.ToggleOff })

	vsctl(t, l, "del-port", "up0", "--", "add-bond", "ovs0", "bond0", "up0", "up1")
	eventually("a bond of which one member has a link", "up0", func(c switchcfg.Condition) bool {
		return c.Uplink.Device == "bond0" && c.Uplink.Link == vnet.ToggleOn
	})

	vsctl(t, l, "del-port", "bond0", "--", "add-port", "ovs0", "up1", "--", "set", "bridge", "ovs0", "stp_enable=true")
	eventually("a port that still listens or learns", "", func(c switchcfg.Condition) bool {
		state := c.Forwarding["up1"].State
		return state == "listening" || state == "learning"
	})
	vsctl(t, l, "set", "bridge", "ovs0", "stp_enable=false", "rstp_enable=true")
	eventually("a port with RSTP", "", func(c switchcfg.Condition) bool { return c.Forwarding["up1"].State == "discarding" })

	ip(t, "tuntap", "add", "dev", "tap0", "mode", "tap")
	vsctl(t, l, "set", "bridge", "ovs0", "rstp_enable=false", "--", "add-port", "ovs0", "tap0")
	for _, fault := range []struct {
		name   string
		spoil  func()
		reason string
	}{
		{
			"a type that does not suit it", func() { vsctl(t, l, "set", "interface", "tap0", "type=bogus") },
			"could not open network device tap0 (Address family not supported by protocol)",
		},
		{
			"a device that is gone", func() { ip(t, "link", "del", "tap0"); vsctl(t, l, "set", "interface", "tap0", "type=system") },
			"could not open network device tap0 (No such device)",
		},
	} {
		fault.spoil()
		eventually(fault.name, "", func(c switchcfg.Condition) bool {
			return len(c.Refusals) == 1 && c.Refusals["tap0"].Reason == fault.reason && strings.Contains(c.Refusals["tap0"].Row, "ofport -1")
		})
	}
	vsctl(t, l, "del-port", "tap0")

	if err := os.Remove("/run/openvswitch/ovs-vswitchd.pid"); err != nil {
		t.Fatal(err)
	}
	if _, err := inspect(""); !errors.Is(err, switchcfg.ErrUnreachable) {
		t.Errorf("ovs-vswitchd is not to be found: got error %v, want %v", err, switchcfg.ErrUnreachable)
	}
}
