// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestFlowExports has a collector receive what ovs-vswitchd tells it of real
// traffic, in each protocol.
func TestFlowExports(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "ovs0", "a", 1), station(t, l, "ovs0", "b", 2)
	sw := ovs0
	sw.Bridge.Owned = true
	target := netip.MustParseAddrPort
	for _, c := range []struct {
		name    string
		at      string
		exports vnet.FlowExports
		is      func([]byte) bool
		drift   []string
	}{
		{
			"sflow", "127.0.0.1:6343",
			vnet.FlowExports{SFlow: vnet.SFlow{
				Targets: []netip.AddrPort{target("127.0.0.1:6343")}, Agent: "lo", Header: 128, Sampling: 1, Polling: time.Second,
			}},
			func(p []byte) bool { // a flow sample (sFlow 5), with the ping's frame
				return len(p) > 32 && binary.BigEndian.Uint32(p) == 5 && binary.BigEndian.Uint32(p[28:]) == 1 && strings.Contains(string(p), string(a.MAC))
			},
			[]string{"sFlow", "sampling=[]"},
		},
		{
			"netflow", "127.0.0.1:2055",
			vnet.FlowExports{NetFlow: vnet.NetFlow{
				Targets: []netip.AddrPort{target("127.0.0.1:2055")}, ActiveTimeout: time.Second, EngineID: vnet.Given(9), EngineType: vnet.Given(0),
			}},
			func(p []byte) bool { return len(p) > 24 && binary.BigEndian.Uint16(p) == 5 && p[21] == 9 },
			[]string{"NetFlow", "engine_id=8"},
		},
		{
			"ipfix", "127.0.0.1:4739",
			vnet.FlowExports{IPFIX: vnet.IPFIX{Targets: []netip.AddrPort{target("127.0.0.1:4739")}, Sampling: 1, Domain: vnet.Given(7)}},
			func(p []byte) bool {
				return len(p) > 16 && binary.BigEndian.Uint16(p) == 10 && binary.BigEndian.Uint32(p[12:]) == 7
			},
			[]string{"IPFIX", "obs_domain_id=[]"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			collector, err := net.ListenPacket("udp", c.at)
			if err != nil {
				t.Fatal(err)
			}
			defer collector.Close() //nolint:errcheck // it was only read from
			sw.Exports = c.exports
			d := openSwitch(t, sw)
			if p := setSwitch(t, d, sw).String(); !strings.Contains(p, "ovs0: ovs0: "+c.name+": none -> to "+c.at) {
				t.Errorf("the plan is:\n%s", p)
			}
			reaches(t, a, b)
			if !hears(t, collector, c.is) {
				t.Errorf("the collector hears nothing of the ping")
			}
			vsctl(t, l, "--id=@x", "get", "bridge", "ovs0", c.name, "--", "set", c.drift[0], strings.TrimSpace(vsctl(t, l, "get", "bridge", "ovs0", c.name)), c.drift[1])
			if p := switchtest.MustPlan(t, d, sw); p.Empty() {
				t.Errorf("%s is not seen", c.drift)
			}
			setSwitch(t, d, sw)
			sw.Exports = vnet.FlowExports{}
			setSwitch(t, d, sw)
			if left := vsctl(t, l, "--bare", "list", c.drift[0]); strings.TrimSpace(left) != "" {
				t.Errorf("left: %s", left)
			}
		})
	}
	vsctl(t, l, "--", "--id=@x", "create", "sFlow", "targets=\"127.0.0.1:1\"", "--", "set", "bridge", "ovs0", "sflow=@x")
	sw.Exports.SFlow.Targets = []netip.AddrPort{target("127.0.0.1:6343")}
	d := openSwitch(t, sw)
	if _, err := d.Apply(t.Context(), switchtest.MustPlan(t, d, sw)); !errors.Is(err, switchcfg.ErrNotOwned) {
		t.Errorf("over somebody else's sFlow: got %v, want that it is not ours", err)
	}
}

// hears waits for a datagram that is one.
func hears(t *testing.T, collector net.PacketConn, is func([]byte) bool) bool {
	t.Helper()
	if err := collector.SetReadDeadline(time.Now().Add(2 * answerLimit)); err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 65536); ; {
		n, _, err := collector.ReadFrom(buf)
		if err != nil {
			t.Log(err)
			return false
		}
		if is(buf[:n]) {
			return true
		}
	}
}
