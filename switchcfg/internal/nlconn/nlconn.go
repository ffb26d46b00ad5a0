// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package nlconn is a netlink(7) socket that blocks, with bounded waits, and the
// framing of what the kernel sends over it: what rtnl and guard have in common.
//
// The kernel has answered when a request is sent, or soon after. Go's poller
// would wake another thread for every answer, which takes longer than the
// kernel's work.
//
// Out of scope: the messages of any protocol.
package nlconn

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// answerLimit bounds the wait for one answer. The kernel answers at once, unless
// somebody holds the lock of what is asked about.
const answerLimit = 10 * time.Second

// ErrMalformed means that a message is not what the kernel's headers describe.
var ErrMalformed = errors.New("malformed netlink message")

// Socket is one netlink socket. It belongs to one goroutine at a time.
type Socket struct {
	FD  int // for socket options
	buf []byte
}

// Dial opens a socket of a protocol (NETLINK_*) in the network namespace of the
// calling thread. size is more than the kernel puts into one datagram.
func Dial(protocol, size int) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &Socket{FD: fd, buf: make([]byte, size)}, nil
}

// Close closes the socket.
func (s *Socket) Close() error { return unix.Close(s.FD) }

// Send sends a datagram to the kernel, and returns when the waits for its
// answers are to be over: at the end of ctx, or sooner.
func (s *Socket) Send(ctx context.Context, datagram []byte) (deadline time.Time, err error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	deadline = time.Now().Add(answerLimit)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	timeout := unix.NsecToTimeval(max(time.Until(deadline), time.Millisecond).Nanoseconds())
	if err := unix.SetsockoptTimeval(s.FD, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return time.Time{}, err
	}
	return deadline, unix.Sendto(s.FD, datagram, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// Receive returns the next datagram of the kernel, which is several messages.
// EAGAIN means that the time is over.
func (s *Socket) Receive(deadline time.Time) ([]byte, error) {
	for {
		n, from, err := unix.Recvfrom(s.FD, s.buf, unix.MSG_TRUNC)
		if errors.Is(err, unix.EINTR) {
			// Go interrupts its threads. The kernel then starts the time anew.
			if time.Now().After(deadline) {
				return nil, unix.EAGAIN
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if n > len(s.buf) {
			return nil, fmt.Errorf("%w: an answer of %d bytes", ErrMalformed, n)
		}
		const kernel = 0
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != kernel {
			continue // any process may send to the socket
		}
		return slices.Clone(s.buf[:n]), nil
	}
}

// Drain takes what is left of an answer that is not whole, so that it is not in
// the way of the next one.
func (s *Socket) Drain() {
	for {
		_, _, err := unix.Recvfrom(s.FD, s.buf, unix.MSG_DONTWAIT)
		if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
			return // EAGAIN: nothing is left
		}
	}
}

// Message is one message of the kernel (struct nlmsghdr and what follows it).
type Message struct {
	Kind, Flags uint16
	Seq         uint32
	Payload     []byte
}

// Next splits the first message off a datagram.
func Next(datagram []byte) (first Message, rest []byte, err error) {
	if len(datagram) < unix.SizeofNlMsghdr {
		return Message{}, nil, ErrMalformed
	}
	size := int(binary.NativeEndian.Uint32(datagram))
	if size < unix.SizeofNlMsghdr || size > len(datagram) {
		return Message{}, nil, ErrMalformed
	}
	return Message{
		Kind:    binary.NativeEndian.Uint16(datagram[4:]),
		Flags:   binary.NativeEndian.Uint16(datagram[6:]),
		Seq:     binary.NativeEndian.Uint32(datagram[8:]),
		Payload: datagram[unix.SizeofNlMsghdr:size],
	}, datagram[min(Align(size), len(datagram)):], nil
}

// Align is the size that something of size bytes takes up in a message.
func Align(size int) int { return (size + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// Errno is the error in a message that ends an answer (struct nlmsgerr), nil
// when there is none.
func (m Message) Errno() error {
	const sizeofErrno = 4
	if len(m.Payload) < sizeofErrno {
		if m.Kind == unix.NLMSG_DONE {
			return nil // it need not have an errno
		}
		return ErrMalformed
	}
	if errno := int32(binary.NativeEndian.Uint32(m.Payload)); errno != 0 {
		return unix.Errno(-errno)
	}
	return nil
}
