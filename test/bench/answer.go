// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// answering makes a device of the current network namespace answer ARP requests
// and ICMP echo for one address, and drop the rest, before the kernel's IP stack
// sees any of it. All namespaces of a machine share the room of one neighbour
// table (arp(7), gc_thresh3): hundreds of guests that speak to each other would
// fill it, as they never do with a kernel of their own each.
func answering(device string, mac net.HardwareAddr, addr netip.Addr) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: answerProgram(mac, addr),
	})
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	index := link.Attrs().Index
	return errors.Join(
		netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: index, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0),
		}}),
		netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1,
			},
			Fd: program.FD(), Name: "answer", DirectAction: true,
		}),
		program.Close(), // the filter holds it
	)
}

// What the program knows of the kernel (bpf_helpers(7), struct __sk_buff) and of
// frames (RFC 826, RFC 791, RFC 792).
const (
	skbData, skbDataEnd, skbIndex = 76, 80, 40
	actionShot                    = 2 // TC_ACT_SHOT
	etherType                     = 12
	arpOperation, arpSender       = 20, 22 // the sender's MAC, and 6 bytes on its address
	arpTarget, arpEnd             = 32, 42
	ipProtocol, ipFrom, ipTo      = 23, 26, 30
	icmpType, icmpSum             = 34, 36
)

func answerProgram(mac net.HardwareAddr, addr netip.Addr) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R7, asm.R6, skbData, asm.Word),
		asm.LoadMem(asm.R8, asm.R6, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Add.Imm(asm.R2, arpEnd),
		asm.JGT.Reg(asm.R2, asm.R8, "drop"),
		asm.LoadMem(asm.R2, asm.R7, etherType, asm.Half),
		asm.JEq.Imm(asm.R2, half([]byte{0x08, 0x00}), "ip"),
		asm.JNE.Imm(asm.R2, half([]byte{0x08, 0x06}), "drop"),
		asm.LoadMem(asm.R2, asm.R7, arpOperation, asm.Half),
		asm.JNE.Imm(asm.R2, half([]byte{0, 1}), "drop"),
	}
	a, ip := addr.AsSlice(), asm.LoadMem(asm.R2, asm.R7, ipProtocol, asm.Byte).WithSymbol("ip")
	p = append(p, unless(arpTarget+6, a)...)
	p = append(p, swap(arpSender, arpTarget, 10)...) // the sender becomes the target
	p = append(p, store(arpSender, mac)...)
	p = append(p, asm.StoreImm(asm.R7, arpOperation+1, 2, asm.Byte), asm.Ja.Label("send"), ip, asm.JNE.Imm(asm.R2, 1, "drop"),
		asm.LoadMem(asm.R2, asm.R7, icmpType, asm.Byte), asm.JNE.Imm(asm.R2, 8, "drop"))
	p = append(p, unless(ipTo, a)...)
	p = append(p, swap(ipFrom, ipTo, 4)...)
	p = append(p,
		asm.StoreImm(asm.R7, icmpType, 0, asm.Byte),
		// The sum grows by what the type lost (RFC 1624), its carry comes round.
		asm.LoadMem(asm.R2, asm.R7, icmpSum, asm.Half),
		asm.Add.Imm(asm.R2, half([]byte{8, 0})),
		asm.Mov.Reg(asm.R3, asm.R2),
		asm.RSh.Imm(asm.R3, 16),
		asm.Add.Reg(asm.R2, asm.R3),
		asm.StoreMem(asm.R7, icmpSum, asm.R2, asm.Half),
	)
	back := swap(0, 6, 6)
	back[0] = back[0].WithSymbol("send")
	p = append(append(p, back...), store(6, mac)...)
	return append(p,
		asm.LoadMem(asm.R1, asm.R6, skbIndex, asm.Word),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, actionShot).WithSymbol("drop"),
		asm.Return(),
	)
}

// half is two bytes of a frame as the program loads them.
func half(b []byte) int32 { return int32(binary.NativeEndian.Uint16(b)) }

// unless drops the frame unless those bytes are there.
func unless(at int16, want []byte) (p asm.Instructions) {
	for i := 0; i < len(want); i += 2 {
		p = append(p, asm.LoadMem(asm.R2, asm.R7, at+int16(i), asm.Half), asm.JNE.Imm(asm.R2, half(want[i:]), "drop"))
	}
	return p
}

// store puts bytes into the frame.
func store(at int16, what []byte) (p asm.Instructions) {
	for i := 0; i < len(what); i += 2 {
		p = append(p, asm.StoreImm(asm.R7, at+int16(i), int64(half(what[i:])), asm.Half))
	}
	return p
}

// swap lets two stretches of the frame change places.
func swap(a, b, bytes int16) (p asm.Instructions) {
	for i := int16(0); i < bytes; i += 2 {
		p = append(p,
			asm.LoadMem(asm.R2, asm.R7, a+i, asm.Half), asm.LoadMem(asm.R3, asm.R7, b+i, asm.Half),
			asm.StoreMem(asm.R7, b+i, asm.R2, asm.Half), asm.StoreMem(asm.R7, a+i, asm.R3, asm.Half))
	}
	return p
}
