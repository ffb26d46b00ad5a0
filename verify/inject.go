// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// injector puts frames onto the wire as if guests had sent them.
//
// Its device is a tap of ours. A frame that is sent on it with a guest port's
// index as its mark is redirected by a small program (tc-bpf(8)) to where that
// port's own frames come in, so the switch applies all it applies to the
// guest: VLAN, isolation, filters. One program serves all ports, and since the
// tap is not persistent, nothing is left behind however the process ends.
type injector struct {
	tap   *os.File
	index int
}

// openInjector makes the injector's device. It needs CAP_NET_ADMIN, and CAP_BPF
// or, before Linux 5.8, CAP_SYS_ADMIN.
func openInjector() (*injector, error) {
	tap, name, err := openTap("vvinject%d")
	if err != nil {
		return nil, err
	}
	j := &injector{tap: tap}
	program, err := loadRedirect()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load BPF program: %w", err), tap.Close())
	}
	defer program.Close() //nolint:errcheck // the filter goes on holding the program
	if err := j.configure(name, program); err != nil {
		return nil, errors.Join(lacking(fmt.Errorf("%s: %w", name, err), capNetAdmin), tap.Close())
	}
	return j, nil
}

func openTap(pattern string) (*os.File, string, error) {
	const path = "/dev/net/tun"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", lacking(&os.PathError{Op: "open", Path: path, Err: err}, "CAP_DAC_OVERRIDE")
	}
	request, err := unix.NewIfreq(pattern)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, "", errors.Join(lacking(fmt.Errorf("make tap: %w", err), capNetAdmin), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), path), request.Name(), nil
}

func (j *injector) configure(name string, program *ebpf.Program) error {
	device, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	j.index = device.Attrs().Index
	mark, err := alias("injector")
	if err == nil {
		err = netlink.LinkSetAlias(device, mark)
	}
	if err != nil {
		return fmt.Errorf("set alias: %w", err)
	}
	quiet(name)
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: j.index, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0),
	}}
	if err := netlink.QdiscAdd(qdisc); err != nil {
		return fmt.Errorf("add clsact qdisc: %w", err)
	}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: j.index, Parent: netlink.HANDLE_MIN_EGRESS,
			Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1,
		},
		Fd: program.FD(), Name: "virt-vnet", DirectAction: true,
	}
	if err := netlink.FilterAdd(filter); err != nil {
		return fmt.Errorf("add BPF filter: %w", err)
	}
	if err := netlink.LinkSetUp(device); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return nil
}

// packet makes data leave as if the guest behind the device had sent it.
func (j *injector) packet(guest link, data []byte) packet {
	if guest.macvtap() {
		// A macvtap's frames go out where the host's would, on the device itself.
		return packet{device: guest.index, data: data}
	}
	return packet{device: j.index, mark: uint32(guest.index), data: data}
}

func (j *injector) close() error { return j.tap.Close() }

// loadRedirect gives the kernel a program that sends a frame to the ingress of
// the device that its mark names, and takes the mark off: it is nothing that a
// guest's frame has, and the host's firewall may know it.
func loadRedirect() (*ebpf.Program, error) {
	const (
		markOffset = 8 // of __sk_buff (linux/bpf.h)
		ingress    = 1 // BPF_F_INGRESS
	)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadMem(asm.R1, asm.R6, markOffset, asm.Word),
			asm.Mov.Imm(asm.R2, 0),
			asm.StoreMem(asm.R6, markOffset, asm.R2, asm.Word),
			asm.Mov.Imm(asm.R2, ingress),
			asm.FnRedirect.Call(),
			asm.Return(),
		},
	})
	if errors.Is(err, unix.EPERM) {
		// The library guesses at the limit of locked memory.
		return nil, lacking(unix.EPERM, "CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN)")
	}
	return program, err
}
