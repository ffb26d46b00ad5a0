// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux"
)

// prove notes that a property holds both ways: what may pass passes, which also
// shows that the probe sees it, and what may not does not. make test-vm prints
// all of them. A test that has failed proves nothing.
func prove(t *testing.T, property, may, mayNot string) {
	t.Helper()
	known := func(p linux.Property) bool { return p.Name == property }
	if !slices.ContainsFunc(linux.Properties(), known) {
		t.Errorf("%q is no property of the driver", property)
	}
	if !t.Failed() {
		t.Logf("proof: %s | %s | %s", property, may, mayNot)
	}
}

const (
	// sightLimit is how long a frame that is to come is waited for, and
	// silenceLimit one that is not.
	sightLimit   = 3 * time.Second
	silenceLimit = 300 * time.Millisecond
)

// delivered reports whether a frame that one station sends arrives at another.
func delivered(t *testing.T, from, to *lab.Station, frame []byte, expected bool) bool {
	t.Helper()
	l, err := to.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := from.Inject(frame); err != nil {
		t.Fatal(err)
	}
	limit := silenceLimit
	if expected {
		limit = sightLimit
	}
	seen, err := l.Sees(func(got []byte) bool { return bytes.HasPrefix(got, frame) }, limit)
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

func passes(t *testing.T, from, to *lab.Station, frame []byte, what string) {
	t.Helper()
	if !delivered(t, from, to, frame, true) {
		t.Errorf("%s: does not pass from %s to %s", what, from.Name, to.Name)
	}
}

func stays(t *testing.T, from, to *lab.Station, frame []byte, what string) {
	t.Helper()
	if delivered(t, from, to, frame, false) {
		t.Errorf("%s: passes from %s to %s", what, from.Name, to.Name)
	}
}

// Destinations of test frames.
var (
	broadcast = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	nobody    = []byte{0x52, 0x54, 0, 0xff, 0xff, 0xff}
	multicast = []byte{0x01, 0x00, 0x5e, 0x01, 0x02, 0x03} // 239.1.2.3
)

const (
	experimental = 0x88b5 // IEEE 802 local experimental EtherType 1
	etherIPv4    = 0x0800
	etherARP     = 0x0806
)

// minFrame is the length of the shortest frame, without its checksum.
const minFrame = 60

// frame is an Ethernet frame. All differ in their payload.
func frame(dst, src []byte, etherType uint16, payload ...byte) []byte {
	f := unpadded(dst, src, etherType, payload)
	return append(f, make([]byte, max(0, minFrame-len(f)))...)
}

// unpadded is a frame whose padding a bridge may have taken off.
func unpadded(dst, src []byte, etherType uint16, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint16(slices.Concat(dst, src), etherType), payload...)
}

// bpdu is a spanning tree frame (IEEE 802.1D, 9.3.1) of a bridge that every
// other bridge takes for the root.
func bpdu(src []byte) []byte {
	llc := []byte{0x42, 0x42, 0x03}
	root := []byte{0, 0, 0, 0, 0, 0, 0, 1}
	body := slices.Concat(llc, []byte{0, 0, 0, 0, 0}, root, []byte{0, 0, 0, 0}, root, []byte{0x80, 1, 0, 0, 20, 0, 2, 0, 2, 0})
	return frame([]byte{0x01, 0x80, 0xc2, 0, 0, 0}, src, uint16(len(body)), body...)
}

// arpRequest asks for n's address (RFC 826), as from of the test network.
func arpRequest(from *lab.Station, n byte) []byte {
	sender, target := from.Addresses[0].Addr().As4(), address(n).As4()
	body := slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, 1}, from.MAC, sender[:], make([]byte, 6), target[:])
	return frame(broadcast, from.MAC, etherARP, body...)
}

// ipv4 is an IPv4 packet (RFC 791) to a multicast group, in a frame.
func ipv4(src *lab.Station, group [4]byte, protocol byte, payload []byte) []byte {
	from := src.Addresses[0].Addr().As4()
	header := []byte{0x46, 0xc0, 0, 0, 0, 0, 0, 0, 1, protocol, 0, 0}
	header = slices.Concat(header, from[:], group[:], []byte{0x94, 4, 0, 0}) // router alert, RFC 2113
	binary.BigEndian.PutUint16(header[2:], uint16(len(header)+len(payload)))
	binary.BigEndian.PutUint16(header[10:], checksum(header))
	mac := []byte{0x01, 0, 0x5e, group[1] & 0x7f, group[2], group[3]}
	return unpadded(mac, src.MAC, etherIPv4, append(header, payload...))
}

// igmp is an IGMPv2 message (RFC 2236): 0x16 joins the group 239.1.2.3, 0x17
// leaves it.
func igmp(src *lab.Station, kind byte) []byte {
	message := []byte{kind, 0, 0, 0, 239, 1, 2, 3}
	binary.BigEndian.PutUint16(message[2:], checksum(message))
	to := [4]byte{239, 1, 2, 3}
	if kind == 0x17 {
		to = [4]byte{224, 0, 0, 2}
	}
	return ipv4(src, to, 2, message)
}

// checksum is that of the Internet (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
