// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import "golang.org/x/sys/unix"

// The instructions of classic BPF (bpf(4)) that our filters need.
const (
	loadHalf = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
	loadByte = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
	loadWord = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	ifEqual  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	result   = unix.BPF_RET | unix.BPF_K
)

// anyIndex is where the index of a frame's device is loaded from: SKF_AD_OFF +
// SKF_AD_IFINDEX (linux/filter.h).
const anyIndex = 0xfffff000 + 8

// filterWithout is receiveFilter for all devices but one.
func filterWithout(device int) []unix.SockFilter {
	return append([]unix.SockFilter{
		{Code: loadWord, K: anyIndex},
		{Code: ifEqual, K: uint32(device), Jf: 1},
		{Code: result, K: 0},
	}, receiveFilter()...)
}

// receiveFilter is the program for ARP, ICMP, the echoes and the neighbour
// discovery of ICMPv6, and anything that carries a VLAN tag in the frame.
func receiveFilter() []unix.SockFilter {
	const icmp6 = etherHeader + ip6Header
	return []unix.SockFilter{
		{Code: loadHalf, K: 12},
		{Code: ifEqual, K: etherARP, Jt: 14},
		{Code: ifEqual, K: etherVLAN, Jt: 13},
		{Code: ifEqual, K: etherQinQ, Jt: 12},
		{Code: ifEqual, K: etherIPv6, Jt: 3},
		{Code: ifEqual, K: etherIPv4, Jf: 9},
		{Code: loadByte, K: etherHeader + 9},
		{Code: ifEqual, K: protoICMP, Jt: 8, Jf: 7},
		{Code: loadByte, K: etherHeader + 6},
		{Code: ifEqual, K: protoICMPv6, Jf: 5},
		{Code: loadByte, K: icmp6},
		{Code: ifEqual, K: solicitation, Jt: 4},
		{Code: ifEqual, K: advertisement, Jt: 3},
		{Code: ifEqual, K: echoReply6, Jt: 2},
		{Code: ifEqual, K: echoRequest6, Jt: 1},
		{Code: result, K: 0},
		{Code: result, K: snapLength},
	}
}
