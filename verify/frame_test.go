// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/virt-vnet/virt-vnet/vnet"
)

var (
	macA = vnet.MAC{0x52, 0x54, 0, 0, 0, 0xa}
	macB = vnet.MAC{0x52, 0x54, 0, 0, 0, 0xb}
	ipA  = netip.MustParseAddr("10.0.20.11")
	ipB  = netip.MustParseAddr("10.0.20.12")
	ip6A = netip.MustParseAddr("2001:db8:20::11")
	ip6B = netip.MustParseAddr("2001:db8:20::12")
)

func request() frame {
	return frame{
		kind: frameARPRequest, dst: macB, src: macA, senderMAC: macA, sender: ipA, target: ipB,
		token: newToken(7, purposeUnicast, 3, 4),
	}
}

func solicitB() frame {
	return frame{
		kind: frameSolicitation, dst: macB, src: macA, senderMAC: macA, sender: linkLocal(macA), target: ip6B,
		token: newToken(7, purposeProbe6, 3, 3),
	}
}

func TestDecodeRefuses(t *testing.T) {
	arp := request().encode()
	echo := frame{kind: frameEchoRequest, dst: macB, src: macA, sender: ipA, target: ipB}.encode()
	solicit := solicitB().encode()
	set := func(b []byte, at int, value byte) []byte {
		b = bytes.Clone(b)
		b[at] = value
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":                   nil,
		"half an Ethernet header":   arp[:13],
		"Ethernet header alone":     arp[:14],
		"half an ARP":               arp[:41],
		"VLAN tag and nothing":      append(bytes.Clone(arp[:12]), 0x81, 0x00, 0x00, 0x14),
		"another EtherType":         set(arp, 12, 0x86),
		"ARP of another hardware":   set(arp, 15, 6),
		"ARP of IPv6":               set(arp, 16, 0x86),
		"reverse ARP":               set(arp, 21, 3),
		"IPv6 in IPv4's clothes":    set(echo, 14, 0x65),
		"UDP":                       set(echo, 23, 17),
		"IP header shorter than IP": set(echo, 14, 0x44),
		"IP header beyond the end":  set(echo[:40], 14, 0x4f),
		"half an ICMP header":       echo[:40],
		"ICMP unreachable":          set(echo, 34, 3),
		"fragment without header":   set(echo, 21, 7),
		"half an IPv6 header":       solicit[:50],
		"IPv4 in IPv6's clothes":    set(solicit, 14, 0x45),
		"UDP over IPv6":             set(solicit, 20, 17),
		"half a solicitation":       solicit[:70],
		"solicitation from afar":    set(solicit, 21, 254),
		"option without length":     set(solicit, 79, 0),
		"router advertisement":      set(solicit, 54, 134),
		"ICMPv6 shorter than ICMP":  set(solicit, 19, 7),
	} {
		if f, ok := decode(b); ok {
			t.Errorf("%s: read as %+v", name, f)
		}
	}
}

func TestFrameThereAndBack(t *testing.T) {
	for _, want := range []frame{
		request(),
		{kind: frameARPReply, dst: macA, src: macB, senderMAC: macB, targetMAC: macA, sender: ipB, target: ipA},
		{kind: frameEchoRequest, dst: macB, src: macA, sender: ipA, target: ipB, token: newToken(1, purposeProbe, 9, 9)},
		{kind: frameEchoReply, dst: macA, src: macB, sender: ipB, target: ipA},
		{kind: frameEchoRequest, dst: macB, src: macA, sender: ip6A, target: ip6B, token: newToken(1, purposeProbe6, 9, 9)},
		{kind: frameEchoReply, dst: macA, src: macB, sender: ip6B, target: ip6A},
		solicitB(),
		{kind: frameAdvertisement, dst: macA, src: macB, senderMAC: macB, sender: ip6B, target: linkLocal(macA)},
		{kind: frameAdvertisement, dst: macA, src: macB, sender: ip6B, target: linkLocal(macA)},
	} {
		b := want.encode()
		if want.packetLength() < 46 && len(b) != minFrame {
			t.Errorf("%+v: %d bytes, want %d", want, len(b), minFrame)
		}
		got, ok := decode(b)
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(frame{}), cmpopts.EquateComparable(netip.Addr{})); !ok || diff != "" {
			t.Errorf("decode: %v (-want +got):\n%s", ok, diff)
		}
		tagged := append(append(bytes.Clone(b[:12]), 0x81, 0, 0, 20), b[12:]...)
		if got, ok := decode(tagged); !ok || got != want {
			t.Errorf("with a VLAN tag: %+v, %v", got, ok)
		}
	}
}

// A kernel drops an echo with a wrong checksum, and says nothing.
func TestEchoChecksums(t *testing.T) {
	b := frame{kind: frameEchoRequest, dst: macB, src: macA, sender: ipA, target: ipB, token: 1}.encode()
	if sum := checksum(b[14:34], 0); sum != 0 {
		t.Errorf("IP header sums up to %#x, want 0", sum)
	}
	if sum := checksum(b[34:58], 0); sum != 0 {
		t.Errorf("ICMP sums up to %#x, want 0", sum)
	}
}

// A frame of full length is that long, and sums up as well.
func TestEchoOfFullLength(t *testing.T) {
	for _, f := range []frame{
		{kind: frameEchoRequest, dst: macB, src: macA, sender: ipA, target: ipB, token: 1, length: 1500},
		{kind: frameEchoRequest, dst: macB, src: macA, sender: ip6A, target: ip6B, token: 1, length: 1501},
	} {
		b := f.encode()
		if len(b) != etherHeader+f.length {
			t.Errorf("%d bytes, want %d", len(b), etherHeader+f.length)
		}
		if f.target.Is4() {
			if sum := checksum(b[34:], 0); sum != 0 {
				t.Errorf("ICMP sums up to %#x, want 0", sum)
			}
		}
		if got, ok := decode(b[:snapLength]); !ok || got.token != 1 {
			t.Errorf("its head is read as %+v, %v", got, ok)
		}
	}
}

func TestSolicitedNode(t *testing.T) {
	// The example of RFC 4291 section 2.7.1.
	group, mac := solicitedNode(netip.MustParseAddr("4037::01:800:200e:8c6c"))
	if group != netip.MustParseAddr("ff02::1:ff0e:8c6c") || mac != (vnet.MAC{0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c}) {
		t.Errorf("got %s at %s", group, mac)
	}
	// That of RFC 4291 appendix A.
	if a := linkLocal(vnet.MAC{0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde}); a != netip.MustParseAddr("fe80::3656:78ff:fe9a:bcde") {
		t.Errorf("got %s", a)
	}
}

// A clock that is set while frames wait must not make times out of nothing.
func TestOnOurClock(t *testing.T) {
	now := time.Now()
	for wall, want := range map[time.Duration]time.Duration{
		-3 * time.Millisecond: -3 * time.Millisecond, 0: 0,
		-time.Hour: 0, time.Hour: 0, time.Millisecond: 0, // it was set
	} {
		if got := onOurClock(now, now.Round(0).Add(wall)).Sub(now); got != want {
			t.Errorf("a stamp %v off: %v, want %v", wall, got, want)
		}
	}
}

func TestProbeWithoutAddressIsRFC5227(t *testing.T) {
	b := frame{kind: frameARPRequest, dst: macB, src: macA, senderMAC: macA, target: ipB}.encode()
	if !bytes.Equal(b[28:32], []byte{0, 0, 0, 0}) {
		t.Errorf("sender address %v, want 0.0.0.0", b[28:32])
	}
}

func TestToken(t *testing.T) {
	got := newToken(1<<runBits-1, purposeGateway, maxNICs, maxNICs-1)
	if got.run() != 1<<runBits-1 || got.purpose() != purposeGateway || got.from() != maxNICs || got.to() != maxNICs-1 {
		t.Errorf("token comes back as %d %d %d %d", got.run(), got.purpose(), got.from(), got.to())
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(request().encode())
	f.Add(frame{kind: frameEchoReply, token: 5}.encode())
	f.Add(solicitB().encode())
	f.Add(frame{kind: frameAdvertisement, sender: ip6B, target: ip6A, senderMAC: macB}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := decode(b)
		if !ok {
			return
		}
		again, ok := decode(got.encode())
		if !ok {
			t.Fatalf("%+v does not survive", got)
		}
		if got.kind == frameEchoRequest || got.kind == frameEchoReply {
			got.senderMAC, got.targetMAC = vnet.MAC{}, vnet.MAC{}
		}
		if got != again {
			t.Errorf("%+v became %+v", got, again)
		}
	})
}
