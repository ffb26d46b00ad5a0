// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// overheard is a frame that passed a device, when by the kernel's clock, and
// which way.
type overheard struct {
	words

	device   int
	outgoing bool
	at       time.Time
}

// ear hears the conversations at all devices of the host. It takes whole
// frames, few of them, where [socket] takes the heads of many.
type ear struct {
	file *os.File
}

// earSize is more than any device's MTU lets through, offloads left aside: ours
// are short.
const earSize = 16 << 10

func openEar() (*ear, error) {
	sender, err := openSender()
	if err != nil {
		return nil, err
	}
	e := &ear{file: sender.file}
	if ctlErr := sender.control(func(fd uintptr) { err = e.configure(int(fd)) }); ctlErr != nil || err != nil {
		return nil, errors.Join(ctlErr, err, e.close())
	}
	return e, nil
}

func (e *ear) configure(fd int) error {
	raw, err := bpf.Assemble(earFilter())
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		return fmt.Errorf("packet socket: attach filter: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return fmt.Errorf("packet socket: ask for timestamps: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL)}); err != nil {
		return fmt.Errorf("packet socket: bind: %w", err)
	}
	return nil
}

// earFilter takes ARP, ICMP and ICMPv6; of TCP what opens, accepts and refuses
// connections, and of UDP anything, of ports of ours.
func earFilter() []bpf.Instruction {
	const (
		tcpFlags, opening = 13, 0x06 // RST and SYN
		ipv6Header        = 40
		v4, v6            = etherHeader, etherHeader + ipv6Header
	)
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Val: etherARP, SkipTrue: 27},
		bpf.JumpIf{Val: unix.ETH_P_IPV6, SkipTrue: 15},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherIPv4, SkipTrue: 24},
		// IPv4
		bpf.LoadAbsolute{Off: v4 + 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 22}, // a later fragment
		bpf.LoadAbsolute{Off: v4 + 9, Size: 1},
		bpf.JumpIf{Val: protoICMP, SkipTrue: 21},
		bpf.LoadMemShift{Off: v4},
		bpf.JumpIf{Val: unix.IPPROTO_UDP, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 17},
		bpf.LoadIndirect{Off: v4 + tcpFlags, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: opening, SkipTrue: 15},
		bpf.LoadIndirect{Off: v4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: firstPort, SkipTrue: 14},
		bpf.LoadIndirect{Off: v4 + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: firstPort, SkipTrue: 12},
		bpf.RetConstant{},
		// IPv6
		bpf.LoadAbsolute{Off: etherHeader + 6, Size: 1},
		bpf.JumpIf{Val: unix.IPPROTO_ICMPV6, SkipTrue: 9},
		bpf.JumpIf{Val: unix.IPPROTO_UDP, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 6},
		bpf.LoadAbsolute{Off: v6 + tcpFlags, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: opening, SkipTrue: 4},
		bpf.LoadAbsolute{Off: v6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: firstPort, SkipTrue: 3},
		bpf.LoadAbsolute{Off: v6 + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: firstPort, SkipTrue: 1},
		bpf.RetConstant{},
		bpf.RetConstant{Val: earSize},
	}
}

// listen hands frames to handle until the deadline, until handle returns false,
// or until ctx ends, which is the only error besides a broken socket.
func (e *ear) listen(ctx context.Context, deadline time.Time, handle func(overheard) bool) error {
	if err := e.file.SetReadDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = e.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buffer, control := make([]byte, earSize), make([]byte, 64)
	for {
		o, err := e.receive(buffer, control)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if o.kind != 0 && !handle(o) {
			return nil
		}
	}
}

func (e *ear) receive(buffer, control []byte) (o overheard, err error) {
	conn, err := e.file.SyscallConn()
	if err != nil {
		return o, err
	}
	var n, controls int
	var from unix.Sockaddr
	var failed error
	err = conn.Read(func(fd uintptr) bool {
		n, controls, _, from, failed = unix.Recvmsg(int(fd), buffer, control, unix.MSG_DONTWAIT)
		return !errors.Is(failed, unix.EAGAIN)
	})
	switch {
	case err != nil:
		return o, err
	case errors.Is(failed, unix.EINTR), errors.Is(failed, unix.ENETDOWN):
		return o, nil
	case failed != nil:
		return o, failed
	}
	o.words = understand(buffer[:n])
	if l, ok := from.(*unix.SockaddrLinklayer); ok {
		o.device, o.outgoing = l.Ifindex, l.Pkttype == unix.PACKET_OUTGOING
	}
	o.at = timestamp(control[:controls])
	return o, nil
}

// timestamp is the kernel's time of a frame (socket(7), SO_TIMESTAMPNS).
func timestamp(control []byte) time.Time {
	messages, _ := unix.ParseSocketControlMessage(control)
	for _, m := range messages {
		if m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			return time.Unix((*unix.Timespec)(unsafe.Pointer(&m.Data[0])).Unix())
		}
	}
	return time.Now()
}

// lost is as of [socket.lost].
func (e *ear) lost() int { return (&socket{file: e.file}).lost() }

func (e *ear) close() error { return e.file.Close() }
