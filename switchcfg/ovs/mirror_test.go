// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs_test

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/ovs"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// guestPort is a station's port as that of a guest called like it.
func guestPort(s *lab.Station, network string, set vnet.VLANSet) vnet.Port {
	return vnet.Port{
		Device: s.Device, Switch: "ovs0", Network: network, MAC: vnet.MAC(s.MAC),
		Guest: vnet.GuestRef{Name: s.Name, UUID: "uuid-of-" + s.Name}, Policy: vlan(set),
	}
}

// openSwitch opens the switch with all that the spec asks of it.
func openSwitch(t *testing.T, sw vnet.Switch) *ovs.Driver {
	t.Helper()
	d, err := ovs.Open(t.Context(), sw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// setSwitch makes that so, and checks that it is. It returns the plan.
func setSwitch(t *testing.T, d *ovs.Driver, sw vnet.Switch, ports ...vnet.Port) switchcfg.Plan {
	t.Helper()
	p := switchtest.MustPlan(t, d, sw, ports...)
	if _, err := d.Apply(t.Context(), p); err != nil {
		t.Fatalf("%v\n%s", err, p)
	}
	if left := switchtest.MustPlan(t, d, sw, ports...); !left.Empty() {
		t.Fatalf("left to do:\n%s", left)
	}
	return p
}

// echo is an ICMP echo request (8) or reply (0) between two stations.
func echo(kind byte, from, to *lab.Station) func([]byte) bool {
	return func(f []byte) bool {
		at := 14
		if len(f) > 16 && f[12] == 0x81 {
			at += 4
		}
		return len(f) > at+20 && f[at-2] == 8 && f[at-1] == 0 && f[at+9] == 1 && f[at+20] == kind &&
			bytes.Equal(f[6:12], from.MAC) && bytes.Equal(f[:6], to.MAC)
	}
}

// shows pings from one end to the other until there are copies at s of just the request and
// the reply that are wanted, as soon as no flow is cached from before.
func shows(t *testing.T, s *lab.Station, ends [2]*lab.Station, request, reply bool) {
	t.Helper()
	a, b := ends[0], ends[1]
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it was only read from
	isRequest, isReply := echo(8, a, b), echo(0, b, a)
	for end := time.Now().Add(answerLimit); ; {
		reaches(t, a, b)
		var seesRequest, seesReply bool
		_, err := l.Sees(func(f []byte) bool {
			seesRequest, seesReply = seesRequest || isRequest(f), seesReply || isReply(f)
			return seesRequest && seesReply
		}, 100*time.Millisecond) // they are made before the answer
		switch {
		case err != nil:
			t.Fatal(err)
		case seesRequest == request && seesReply == reply:
			return
		case time.Now().After(end):
			t.Fatalf("%s sees the request: %t, want %t; the reply: %t, want %t", s.Name, seesRequest, request, seesReply, reply)
		}
	}
}

// TestMirrorTraffic looks at copies of real frames where mirrors send them.
func TestMirrorTraffic(t *testing.T) {
	l := start(t)
	a, b, c := station(t, l, "ovs0", "a", 1), station(t, l, "ovs0", "b", 2), station(t, l, "ovs0", "c", 3)
	s, r := station(t, l, "ovs0", "s", 8), station(t, l, "ovs0", "r", 9)
	vsctl(t, l, "--", "--id=@m", "create", "Mirror", "name=theirs", "--", "set", "Bridge", "ovs0", "mirrors=@m")
	ports := []vnet.Port{
		guestPort(a, "red", vnet.VLANSet{Access: 20}), guestPort(b, "red", vnet.VLANSet{Access: 20}), guestPort(c, "blue", vnet.VLANSet{Access: 20}),
		guestPort(r, "watch", vnet.VLANSet{Access: 99}),
	}
	sw := ovs0
	sw.Mirrors = []vnet.Mirror{{Name: "m"}}
	d := openSwitch(t, sw)
	for _, test := range []struct {
		name           string
		mirror         vnet.Mirror
		at             *lab.Station
		request, reply bool // of a's ping to b
		plan           string
	}{
		{
			name: "of a guest, from it, to a port", mirror: vnet.Mirror{Guests: []string{"a"}, Direction: vnet.DirectionOut, ToPort: s.Device},
			at: s, request: true, plan: "ovs0: to-a: mirrors: none -> m out",
		},
		{
			name: "of a guest, to it", mirror: vnet.Mirror{Guests: []string{"a/red"}, Direction: vnet.DirectionIn, ToPort: s.Device},
			at: s, reply: true, plan: "ovs0: to-a: mirrors: m out -> m in",
		},
		{
			name: "of a network", mirror: vnet.Mirror{Networks: []string{"red"}, ToPort: s.Device},
			at: s, request: true, reply: true, plan: "ovs0: to-b: mirrors: none -> m",
		},
		{name: "of another network", mirror: vnet.Mirror{Networks: []string{"blue"}, ToPort: s.Device}, at: s, plan: "ovs0: to-c: mirrors: none -> m"},
		{
			name: "of a device", mirror: vnet.Mirror{Ports: []string{"ovs0", b.Device}, Direction: vnet.DirectionIn, ToPort: s.Device},
			at: s, request: true, plan: "ovs0: ovs0: mirror m: guests to port to-s -> in ovs0 to-b to port to-s",
		},
		{
			name: "of all, in a VLAN", mirror: vnet.Mirror{VLANs: vnet.VLANRanges{{First: 20, Last: 29}}, ToPort: s.Device},
			at: s, request: true, reply: true, plan: "ovs0: ovs0: mirror m: in ovs0 to-b to port to-s -> all ports, VLANs 20-29 to port to-s",
		},
		{name: "of all, in another VLAN", mirror: vnet.Mirror{All: true, VLANs: vnet.VLANRanges{{First: 30, Last: 30}}, ToPort: s.Device}, at: s},
		{
			name: "to a VLAN", mirror: vnet.Mirror{Guests: []string{"a"}, ToVLAN: 99},
			at: r, request: true, reply: true, plan: "ovs0: ovs0: mirror m: all ports, VLANs 30 to port to-s -> guests to VLAN 99",
		},
		{
			name: "to a guest", mirror: vnet.Mirror{Guests: []string{"a"}, Direction: vnet.DirectionOut, ToGuest: "r", Snaplen: 60},
			at: r, request: true, plan: "ovs0: to-r: mirrors: none -> to m",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.mirror.Name = "m"
			sw.Mirrors = []vnet.Mirror{test.mirror}
			if p := setSwitch(t, d, sw, ports...).String(); !strings.Contains(p, test.plan) {
				t.Errorf("the plan lacks %q:\n%s", test.plan, p)
			}
			shows(t, test.at, [2]*lab.Station{a, b}, test.request, test.reply)
		})
	}
	checkMirrorDrift(t, l, d, sw, ports)

	// The port of a guest that stops leaves the mirror, and that of one that starts
	// is in it.
	vsctl(t, l, "del-port", a.Device)
	if got := vsctl(t, l, "--bare", "--columns=select_src_port", "find", "Mirror", "name=m"); strings.TrimSpace(got) != "" {
		t.Errorf("a mirror has the ports %s of a guest that stopped", got)
	}
	vsctl(t, l, "add-port", "ovs0", a.Device)
	setSwitch(t, d, sw, ports[0])
	shows(t, r, [2]*lab.Station{a, b}, true, false)

	sw.Mirrors = nil
	sw.Bridge.Owned = true
	setSwitch(t, d, sw, ports...)
	if got := vsctl(t, l, "--bare", "--columns=name", "list", "Mirror"); strings.TrimSpace(got) != "theirs" {
		t.Errorf("mirrors left: %q, want only theirs", got)
	}
	if got := vsctl(t, l, "get", "Bridge", "ovs0", "flood_vlans"); strings.TrimSpace(got) != "[]" {
		t.Errorf("flood_vlans is left: %s", got)
	}
}

// checkMirrorDrift has somebody else meddle with the mirror m, of guest a, and
// checks that it is seen and mended.
func checkMirrorDrift(t *testing.T, l *lab.Lab, d *ovs.Driver, sw vnet.Switch, ports []vnet.Port) {
	t.Helper()
	for _, meddle := range []struct{ plan, set string }{
		{"to-a: mirrors: none -> m out", "select_src_port=[]"},
		{"ovs0: mirror m: all ports to a guest", "select_all=true"},
		{"to-r: mirrors: none -> to m", "output_port=[]"},
		{", 60 bytes each", "snaplen=[]"},
	} {
		vsctl(t, l, "set", "Mirror", "m", meddle.set)
		if p := setSwitch(t, d, sw, ports...).String(); !strings.Contains(p, meddle.plan) {
			t.Errorf("after %s the plan lacks %q:\n%s", meddle.set, meddle.plan, p)
		}
	}
}

// TestERSPAN looks at what a mirror to an address sends there: GRE of the
// userspace datapath, out of another bridge that has the way.
func TestERSPAN(t *testing.T) {
	l := start(t)
	a, b, u := station(t, l, "ovs0", "a", 1), station(t, l, "ovs0", "b", 2), station(t, l, "ovs1", "u", 9)
	ip(t, "addr", "add", "10.9.0.99/24", "dev", "ovs1")
	ip(t, "link", "set", "ovs1", "up")
	reaches(t, u, &lab.Station{Name: "ovs1", Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.99/24")}})
	sw := ovs0
	sw.Mirrors = []vnet.Mirror{{Name: "far", Guests: []string{"a"}, ToAddress: address(9), Session: 7}}
	d := openSwitch(t, sw)
	ports := []vnet.Port{guestPort(a, "red", vnet.VLANSet{}), guestPort(b, "red", vnet.VLANSet{})}
	setSwitch(t, d, sw, ports...)
	for _, version := range []int{1, 2} {
		sw.Mirrors[0].Version = version
		setSwitch(t, d, sw, ports...)
		listener, err := u.Listen()
		if err != nil {
			t.Fatal(err)
		}
		reaches(t, a, b)
		protocol := map[int][2]byte{1: {0x88, 0xbe}, 2: {0x22, 0xeb}}[version]
		seen, err := listener.Sees(func(f []byte) bool {
			const gre = 14 + 20
			if len(f) < gre+50 || f[23] != 47 || [2]byte(f[gre+2:]) != protocol {
				return false
			}
			session := (int(f[gre+10])<<8 | int(f[gre+11])) & 1023
			return session == 7 && bytes.Contains(f[gre:], a.MAC)
		}, answerLimit)
		if err != nil || !seen {
			t.Errorf("version %d: what was sent to %s has not come (%v)", version, u.Addresses[0], err)
		}
		_ = listener.Close()
	}
	sw.Mirrors = nil
	sw.Bridge.Owned = true
	setSwitch(t, d, sw, ports...)
	if got := vsctl(t, l, "--bare", "--columns=name", "find", "Interface", "type=erspan"); strings.TrimSpace(got) != "" {
		t.Errorf("left: %s", got)
	}
}

func TestMirrorOfMissingPort(t *testing.T) {
	start(t)
	sw := ovs0
	sw.Mirrors = []vnet.Mirror{{Name: "m", All: true, ToPort: "nosuch"}}
	d := openSwitch(t, sw)
	if _, err := d.Apply(t.Context(), switchtest.MustPlan(t, d, sw)); !errors.Is(err, switchcfg.ErrNoPort) {
		t.Errorf("got %v, want that there is no such port", err)
	}
}
