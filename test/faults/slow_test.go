// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package faults

import (
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"
)

// lateness is how long the slow gateway takes.
const lateness = 300 * time.Millisecond

// slowGateway lets the gateway of the network honest answer ICMP echo late: what
// delays frames (tc-netem(8)) is missing in many kernels.
func slowGateway(t *testing.T, s *site) {
	t.Helper()
	s.must(t, "ip netns exec gw-honest sysctl -qw net.ipv4.icmp_echo_ignore_all=1")
	err := s.honest.Do(func() (err error) {
		s.late, err = net.ListenPacket("ip4:icmp", "0.0.0.0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	go answerLate(s.late)
}

func quickGateway(t *testing.T, s *site) {
	t.Helper()
	if err := s.late.Close(); err != nil {
		t.Fatal(err)
	}
	s.must(t, "ip netns exec gw-honest sysctl -qw net.ipv4.icmp_echo_ignore_all=0")
}

// answerLate answers echo requests (RFC 792) until conn is closed.
func answerLate(conn net.PacketConn) {
	const echoReply, echoRequest, header = 0, 8, 8
	b := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return
		}
		if n < header || b[0] != echoRequest {
			continue
		}
		answer := slices.Clone(b[:n])
		answer[0] = echoReply
		// The type is part of the checksum, which is kept in one's complement.
		sum := uint32(binary.BigEndian.Uint16(answer[2:])) + echoRequest<<8
		binary.BigEndian.PutUint16(answer[2:], uint16(sum+sum>>16))
		time.AfterFunc(lateness, func() { _, _ = conn.WriteTo(answer, from) })
	}
}
