// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/virt-vnet/virt-vnet/vnet"
)

var (
	macA = vnet.MAC{0x52, 0x54, 0, 0, 0, 0xa}
	macB = vnet.MAC{0x52, 0x54, 0, 0, 0, 0xb}
	ipA  = netip.MustParseAddr("10.0.20.11")
	ipB  = netip.MustParseAddr("10.0.20.12")
)

func request() frame {
	return frame{
		kind: frameARPRequest, dst: macB, src: macA, senderMAC: macA, sender: ipA, target: ipB,
		token: newToken(7, purposeUnicast, 3, 4),
	}
}

func TestDecodeRefuses(t *testing.T) {
	arp := request().encode()
	echo := frame{kind: frameEchoRequest, dst: macB, src: macA, sender: ipA, target: ipB}.encode()
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
	} {
		b := want.encode()
		if len(b) != minFrame {
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
	if sum := checksum(b[14:34]); sum != 0 {
		t.Errorf("IP header sums up to %#x, want 0", sum)
	}
	if sum := checksum(b[34:58]); sum != 0 {
		t.Errorf("ICMP sums up to %#x, want 0", sum)
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
