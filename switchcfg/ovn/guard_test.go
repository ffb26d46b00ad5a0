// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// udp4 is a broadcast frame with a datagram between these ports.
func udp4(source byte, from, to uint16) []byte {
	frame := bytes.Repeat([]byte{0xff}, 6)
	frame = append(frame, 0x52, 0x54, 0, 0, 0, source, 8, 0)
	ip := []byte{0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, source, 255, 255, 255, 255}
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	frame = append(frame, ip...)
	frame = binary.BigEndian.AppendUint16(frame, from)
	frame = binary.BigEndian.AppendUint16(frame, to)
	return append(frame, 0, 16, 0, 0, 'v', 'v', 'n', 'e', 't', 0, 0, 0)
}

// bpdu is a frame of a spanning tree (IEEE 802.1D, 9.3.1).
func bpdu(source byte) []byte {
	frame := []byte{1, 0x80, 0xc2, 0, 0, 0, 0x52, 0x54, 0, 0, 0, source, 0, 38, 0x42, 0x42, 3}
	return append(frame, make([]byte, 43)...)
}

// arrives injects the frame several times, until it fares as wanted: the datapath
// is a moment behind the flows.
func arrives(t *testing.T, from *lab.Station, to *lab.Listener, frame []byte, want bool) (seen bool) {
	t.Helper()
	for range 4 {
		if err := from.Inject(frame); err != nil {
			t.Fatal(err)
		}
		var err error
		seen, err = to.Sees(func(got []byte) bool { return bytes.Equal(got, frame) }, 300*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if seen == want {
			break
		}
	}
	return seen
}

func listen(t *testing.T, s *lab.Station) *lab.Listener {
	t.Helper()
	listener, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
	return listener
}

// TestGuards sends what only servers and switches send, and between isolated
// guests: also in a network with a rule that follows connections, to which
// ovn-northd adds rules of its own that let things pass.
func TestGuards(t *testing.T) {
	s := startSite(t, 1)
	from, p := s.station(0, "ct0", 5)
	to, q := s.station(0, "ct1", 6)
	third, r := s.station(0, "ct2", 7)
	s.mustWire(0, q, r)
	listener := listen(t, to)
	for _, c := range []struct {
		what              string
		policy            vnet.Policy
		stateful          bool
		server, bpdu, any bool
	}{
		{"no guard", vnet.Policy{}, false, true, true, true},
		{"DHCP guard", vnet.Policy{DHCPGuard: vnet.ToggleOn}, false, false, true, true},
		{"anti-spoofing", vnet.Policy{AntiSpoof: true, DHCPGuard: vnet.ToggleOff}, false, true, false, true},
		{"no guard, with connections", vnet.Policy{}, true, true, true, true},
		{"all guards, with connections", vnet.Policy{AntiSpoof: true}, true, false, false, true},
	} {
		if c.stateful {
			nbctl(t, s.c, "--wait=hv", "--may-exist", "acl-add", "red", "to-lport", "5", "ip4", "allow-related")
		}
		p.Policy = c.policy
		s.mustWire(0, p)
		for _, frame := range []struct {
			what string
			data []byte
			want bool
		}{
			{"DHCP server", udp4(5, 67, 68), c.server},
			{"spanning tree", bpdu(5), c.bpdu},
			{"something", udp4(5, 1000, 2000), c.any},
		} {
			if got := arrives(t, from, listener, frame.data, frame.want); got != frame.want {
				t.Errorf("%s: frame of a %s arrives: %v, want %v", c.what, frame.what, got, frame.want)
			}
		}
	}

	p.Policy = vnet.Policy{RAGuard: vnet.ToggleOn}
	if err := s.wire(t.Context(), 0, p); !errors.Is(err, switchcfg.ErrUnsupported) || !strings.Contains(err.Error(), "router advertisements") {
		t.Errorf("RA guard: got error %v", err)
	}

	p.Policy, q.Policy = vnet.Policy{Isolated: true}, vnet.Policy{}
	frame, back := udp4(5, 1000, 2000), udp4(6, 1000, 2000)
	sender, other := listen(t, from), listen(t, third)
	for _, c := range []struct {
		what     string
		isolated bool
		stateful bool
	}{
		{"isolated from one that is not", false, true},
		{"both isolated", true, true},
		{"both isolated, without connections", true, false},
	} {
		if !c.stateful {
			nbctl(t, s.c, "--wait=hv", "acl-del", "red", "to-lport", "5", "ip4")
		}
		q.Policy.Isolated = c.isolated
		s.mustWire(0, p, q)
		for _, way := range []struct {
			from, to string
			got      bool
			want     bool
		}{
			{"ct0", "ct1", arrives(t, from, listener, frame, !c.isolated), !c.isolated},
			{"ct1", "ct0", arrives(t, to, sender, back, !c.isolated), !c.isolated},
			{"ct0", "ct2", arrives(t, from, other, frame, true), true},
		} {
			if way.got != way.want {
				t.Errorf("%s: a frame from %s reaches %s: %v, want %v", c.what, way.from, way.to, way.got, way.want)
			}
		}
	}
}
