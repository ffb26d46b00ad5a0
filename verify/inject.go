// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

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
// or CAP_SYS_ADMIN.
func openInjector() (*injector, error) {
	tap, name, err := openTap("vvinject%d")
	if err != nil {
		return nil, err
	}
	j := &injector{tap: tap}
	if err := j.configure(name); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), tap.Close())
	}
	return j, nil
}

func openTap(pattern string) (*os.File, string, error) {
	const path = "/dev/net/tun"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	request, err := unix.NewIfreq(pattern)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("make tap: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), path), request.Name(), nil
}

func (j *injector) configure(name string) error {
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
	program, err := loadRedirect()
	if err != nil {
		return fmt.Errorf("load BPF program: %w", err)
	}
	defer unix.Close(program) //nolint:errcheck // the filter holds the program from here on
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: j.index, Parent: netlink.HANDLE_MIN_EGRESS,
			Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1,
		},
		Fd: program, Name: "virt-vnet", DirectAction: true,
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

// instruction is struct bpf_insn of linux/bpf.h.
type instruction struct {
	code      uint8
	registers uint8 // destination in the low half, source in the high half
	offset    int16
	value     int32
}

// redirectProgram sends a frame to the ingress of the device that its mark
// names, and takes the mark off: it is nothing that a guest's frame has, and
// the host's firewall may know it.
func redirectProgram() []instruction {
	const (
		move         = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_X
		moveValue    = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K
		load         = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
		store        = unix.BPF_STX | unix.BPF_MEM | unix.BPF_W
		call         = unix.BPF_JMP | unix.BPF_CALL
		exit         = unix.BPF_JMP | unix.BPF_EXIT
		markOffset   = 8  // of __sk_buff
		bpfRedirect  = 23 // enum bpf_func_id
		bpfFlIngress = 1  // BPF_F_INGRESS
	)
	return []instruction{
		{code: move, registers: 0x16},                      // r6 = context
		{code: load, registers: 0x61, offset: markOffset},  // r1 = r6->mark
		{code: moveValue, registers: 0x02},                 // r2 = 0
		{code: store, registers: 0x26, offset: markOffset}, // r6->mark = r2
		{code: moveValue, registers: 0x02, value: bpfFlIngress},
		{code: call, value: bpfRedirect},
		{code: exit},
	}
}

// loadTries is more than any machine has needed to load a program between two
// signals.
const loadTries = 50

// loadRedirect gives the program to the kernel (bpf(2), BPF_PROG_LOAD).
func loadRedirect() (int, error) {
	program := redirectProgram()
	license := []byte("Apache-2.0\x00")
	// The head of union bpf_attr, whose pointers are 64 bits wide everywhere.
	attributes := struct {
		kind, count           uint32
		instructions, license uint64
		unused                [32]byte
	}{
		kind: unix.BPF_PROG_TYPE_SCHED_CLS, count: uint32(len(program)),
		instructions: uint64(uintptr(unsafe.Pointer(&program[0]))),
		license:      uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	var fd uintptr
	errno := unix.EAGAIN
	// The kernel gives up when a signal is pending (bpf_check), and Go's
	// scheduler sends some.
	for try := 0; errno == unix.EAGAIN && try < loadTries; try++ {
		fd, _, errno = unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD,
			uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes))
	}
	runtime.KeepAlive(program)
	runtime.KeepAlive(license)
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}
