// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import "golang.org/x/sys/unix"

// receiveFilter is the classic BPF program (bpf(4)) for ARP, IPv4 ICMP, and
// anything that carries a VLAN tag in the frame.
func receiveFilter() []unix.SockFilter {
	const (
		loadHalf = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
		loadByte = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		ifEqual  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		result   = unix.BPF_RET | unix.BPF_K
	)
	return []unix.SockFilter{
		{Code: loadHalf, K: 12},
		{Code: ifEqual, K: etherARP, Jt: 6},
		{Code: ifEqual, K: etherVLAN, Jt: 5},
		{Code: ifEqual, K: etherQinQ, Jt: 4},
		{Code: ifEqual, K: etherIPv4, Jf: 2},
		{Code: loadByte, K: etherHeader + 9},
		{Code: ifEqual, K: protoICMP, Jt: 1},
		{Code: result, K: 0},
		{Code: result, K: snapLength},
	}
}
