// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

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

// TestGuards sends what only servers and switches send.
func TestGuards(t *testing.T) {
	s := startSite(t, 1)
	from, p := s.station(0, "ct0", 5)
	to, q := s.station(0, "ct1", 6)
	s.mustWire(0, q)
	listener, err := to.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []struct {
		what              string
		policy            vnet.Policy
		server, bpdu, any bool
	}{
		{"no guard", vnet.Policy{}, true, true, true},
		{"DHCP guard", vnet.Policy{DHCPGuard: vnet.ToggleOn}, false, true, true},
		{"anti-spoofing", vnet.Policy{AntiSpoof: true, DHCPGuard: vnet.ToggleOff}, true, false, true},
		{"no guard again", vnet.Policy{}, true, true, true},
	} {
		p.Policy = c.policy
		s.mustWire(0, p)
		for _, frame := range []struct {
			what string
			data []byte
			want bool
		}{{"DHCP server", udp4(5, 67, 68), c.server}, {"spanning tree", bpdu(5), c.bpdu}, {"something", udp4(5, 1000, 2000), c.any}} {
			seen := false
			for range 4 {
				if err := from.Inject(frame.data); err != nil {
					t.Fatal(err)
				}
				seen, err = listener.Sees(func(got []byte) bool { return bytes.Equal(got, frame.data) }, 300*time.Millisecond)
				if err != nil {
					t.Fatal(err)
				}
				if seen || !frame.want {
					break
				}
			}
			if seen != frame.want {
				t.Errorf("%s: frame of a %s arrives: %v, want %v", c.what, frame.what, seen, frame.want)
			}
		}
	}
}
