// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestFloodTraffic(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	d := openBR0(t)
	unknown := frame(nobody, a.MAC, experimental, 'u')
	group := frame(multicast, a.MAC, experimental, 'm')
	everybody := frame(broadcast, a.MAC, experimental, 'b')
	mine := frame(b.MAC, a.MAC, experimental, 'k')
	all := map[string][]byte{"unknown unicast": unknown, "multicast": group, "broadcast": everybody, "known unicast": mine}
	reaches(t, b, a) // so the bridge knows b

	for _, c := range []struct {
		property, stops string
		policy          vnet.Policy
	}{
		{"flood", "unknown unicast", vnet.Policy{Flood: vnet.ToggleOff}},
		{"multicast flood", "multicast", vnet.Policy{MulticastFlood: vnet.ToggleOff}},
		{"broadcast flood", "broadcast", vnet.Policy{BroadcastFlood: vnet.ToggleOff}},
	} {
		undo := wire(t, d, b, c.policy).Reverse()
		for what, f := range all {
			if what == c.stops {
				stays(t, a, b, f, c.property+" off, "+what)
			} else {
				passes(t, a, b, f, c.property+" off, "+what)
			}
		}
		if _, err := d.Apply(t.Context(), undo); err != nil {
			t.Fatal(err)
		}
		passes(t, a, b, all[c.stops], c.property+" on, "+c.stops)
		prove(t, c.property, "all other frames pass, and with it on "+c.stops, c.stops+" does not")
	}
}

func TestLearningTraffic(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	d := openBR0(t)
	knows := func(mac vnet.MAC) bool {
		t.Helper()
		rows, err := d.Learned(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if row.MAC == mac {
				return true
			}
		}
		return false
	}
	for _, c := range []struct {
		learning vnet.Toggle
		mac      vnet.MAC
	}{{vnet.ToggleOff, vnet.MAC{0x52, 0x54, 0, 1, 1, 1}}, {vnet.ToggleOn, vnet.MAC{0x52, 0x54, 0, 2, 2, 2}}} {
		wire(t, d, a, vnet.Policy{Learning: c.learning})
		passes(t, a, b, frame(broadcast, c.mac[:], experimental, 'l'), "learning "+c.learning.String())
		if got, want := knows(c.mac), c.learning == vnet.ToggleOn; got != want {
			t.Errorf("learning %s: the bridge knows the sender: %t", c.learning, got)
		}
	}
	prove(t, "learning", "with it on the bridge knows the sender of a frame", "with it off it does not, and the frame passes")
}

func TestNeighSuppressTraffic(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	d := openBR0(t)
	reaches(t, b, a)
	ip(t, "neigh", "add", "10.9.0.2", "lladdr", b.MAC.String(), "dev", "br0", "nud", "permanent")
	ask := arpRequest(a, 2)
	passes(t, a, b, ask, "ARP request")
	wire(t, d, b, vnet.Policy{NeighSuppress: vnet.ToggleOn})
	stays(t, a, b, ask, "ARP request that the bridge answers")
	answers, err := a.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer answers.Close() //nolint:errcheck // the test is over
	if err := a.Inject(ask); err != nil {
		t.Fatal(err)
	}
	reply := func(f []byte) bool {
		return len(f) > 22 && string(f[6:12]) == string(b.MAC) && f[12] == 8 && f[13] == 6 && f[21] == 2
	}
	if seen, err := answers.Sees(reply, sightLimit); err != nil || !seen {
		t.Errorf("the bridge did not answer in the place of b: %v", err)
	}
	passes(t, a, b, arpRequest(a, 9), "ARP request for somebody else")
	prove(t, "neighbour suppression", "the bridge answers for the guest, and requests for others reach it", "a request that is answered does not")
}

func TestFastLeaveTraffic(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	c := station(t, l, "c", 3)
	// A new querier is believed when the answers to its first query are in.
	ip(t, "link", "set", "br0", "type", "bridge", "mcast_query_response_interval", "10")
	ip(t, "link", "set", "br0", "type", "bridge", "mcast_snooping", "1", "mcast_querier", "1")
	time.Sleep(200 * time.Millisecond)
	d := openBR0(t)
	data := ipv4(a, [4]byte{239, 1, 2, 3}, 253, []byte("data"))
	for _, fast := range []vnet.Toggle{vnet.ToggleOff, vnet.ToggleOn} {
		wire(t, d, b, vnet.Policy{FastLeave: fast})
		if err := b.Inject(igmp(b, 0x16)); err != nil {
			t.Fatal(err)
		}
		passes(t, a, b, data, "the group of the guest")
		stays(t, a, c, data, "the group of another guest")
		if err := b.Inject(igmp(b, 0x17)); err != nil {
			t.Fatal(err)
		}
		if fast == vnet.ToggleOn {
			stays(t, a, b, data, "the group that the guest has left")
		} else {
			passes(t, a, b, data, "the group that the guest has left, before the last member's time is over")
		}
	}
	prove(t, "fast leave", "the group reaches its member, and without it for a while after it has left", "with it not after it has left")
}

func TestSpanningTreeTraffic(t *testing.T) {
	l := start(t)
	ip(t, "link", "set", "br0", "type", "bridge", "stp_state", "1", "forward_delay", "200")
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	d := openBR0(t)
	wait := func() {
		t.Helper()
		if err := a.WaitPing(t.Context(), b.Addresses[0].Addr(), 20*time.Second); err != nil {
			t.Error(err)
		}
	}
	root := func() string {
		t.Helper()
		id, err := os.ReadFile("/sys/class/net/br0/bridge/root_id")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(id))
	}
	forge := func() {
		t.Helper()
		if err := a.Inject(bpdu(a.MAC)); err != nil {
			t.Fatal(err)
		}
	}
	const forged = "0000.000000000001"
	wait()
	own := root()

	wire(t, d, a, vnet.Policy{BPDUGuard: vnet.ToggleOff, RootBlock: vnet.ToggleOn})
	forge()
	if got := root(); got != own {
		t.Errorf("root block: the root is %s, want %s", got, own)
	}
	wire(t, d, a, vnet.Policy{BPDUGuard: vnet.ToggleOff, RootBlock: vnet.ToggleOff})
	forge()
	if got := root(); got != forged {
		t.Errorf("without root block: the root is %s, want %s: the probe cannot see a guest become root", got, forged)
	}
	prove(t, "root block", "without it a guest becomes the root", "with it it does not")
	wait() // so its frames do not shut the port by themselves
	wire(t, d, a, vnet.Policy{})
	reaches(t, a, b)
	forge()
	doesNotReach(t, a, b)
	prove(t, "bpdu guard", "a guest's frames pass, and without it also after a BPDU", "after a BPDU they do not")
}

func TestMTU(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	for _, s := range []string{"a", "b"} {
		run(t, "ip", "-n", s, "link", "set", "eth0", "mtu", "9000")
	}
	ip(t, "link", "set", a.Device, "mtu", "9000")
	d := openBR0(t)
	long := frame(b.MAC, a.MAC, experimental, make([]byte, 8000)...)
	stays(t, a, b, long, "8000 bytes at MTU 1500")
	wireMTU(t, d, b.Device, 9000)
	passes(t, a, b, long, "8000 bytes at MTU 9000")
	if plan := wireMTU(t, d, b.Device, 1400); len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "lowers that of br0 from 9000") {
		t.Errorf("warnings %q, want one that it lowers the bridge's", plan.Warnings)
	}
	stays(t, a, b, long, "8000 bytes at MTU 1400")
	if got := ip(t, "link", "show", "br0"); !strings.Contains(got, " mtu 1400 ") {
		t.Errorf("the bridge did not follow, so the warning was wrong: %s", got)
	}
	prove(t, "MTU", "frames of the port's size pass", "longer ones do not; a plan warns before the bridge is lowered")
}
