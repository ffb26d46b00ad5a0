// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package hostside lets a vantage on a Linux bridge and the host itself see each
// other. It is apart from the driver because it takes a BPF library, which the
// program that runs at every start of a guest is to do without.
package hostside

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	bpflink "github.com/cilium/ebpf/link"

	"github.com/virt-vnet/virt-vnet/vnet"
)

type programs struct{ links []bpflink.Link }

// Join lets a macvlan on a bridge, with that MAC address, and the host itself see
// each other, which the kernel keeps apart. What the macvlan sends comes in at
// the bridge too, and what the host sends through the bridge comes in at the
// macvlan too. Both are programs that end when they are closed, or with this
// process (bpf_link), beside whatever else there is at the bridge. The numbers are
// indices of devices. It needs CAP_BPF and Linux 6.6.
func Join(macvlan int, mac vnet.MAC, bridge int) (io.Closer, error) {
	p := &programs{}
	err := p.copyTo(macvlan, bridge, vnet.MAC{})
	if err == nil {
		// The macvlan's own frames leave through the bridge as well.
		err = p.copyTo(bridge, macvlan, mac)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// copyTo has what leaves through one device come in at another as well, except
// what the MAC sent. Who is there passes over what is for somebody else.
func (p *programs) copyTo(from, to int, except vnet.MAC) error {
	const (
		source  = 6  // in the Ethernet header
		ingress = 1  // BPF_F_INGRESS
		next    = -1 // TCX_NEXT
	)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadAbs(source, asm.Word),
			asm.JNE.Imm32(asm.R0, int32(binary.BigEndian.Uint32(except[:])), "copy"),
			asm.LoadAbs(source+4, asm.Half),
			asm.JEq.Imm(asm.R0, int32(binary.BigEndian.Uint16(except[4:])), "pass on"),
			asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("copy"),
			asm.Mov.Imm(asm.R2, int32(to)),
			asm.Mov.Imm(asm.R3, ingress),
			asm.FnCloneRedirect.Call(),
			asm.Mov.Imm(asm.R0, next).WithSymbol("pass on"),
			asm.Return(),
		},
	})
	if err != nil {
		return fmt.Errorf("load BPF program: %w", err)
	}
	defer program.Close() //nolint:errcheck // the link goes on holding it
	attached, err := bpflink.AttachTCX(bpflink.TCXOptions{Interface: from, Program: program, Attach: ebpf.AttachTCXEgress})
	if err != nil {
		return fmt.Errorf("attach BPF program: %w", err)
	}
	p.links = append(p.links, attached)
	return nil
}

// Close ends the programs.
func (p *programs) Close() error {
	var errs []error
	for _, l := range p.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
