// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// answerLimit bounds the wait for one answer. The kernel answers at once,
	// unless somebody holds the lock of its whole network configuration.
	answerLimit = 10 * time.Second

	// batch is how many messages go into one datagram. The answers to them
	// wait in the socket's buffer, which holds some 50 about links; the kernel
	// drops what does not fit.
	batch = 16
)

// errTorn means that links came or went while the kernel listed them
// (NLM_F_DUMP_INTR).
var errTorn = errors.New("the list is torn")

// Answer is what the kernel says to one message.
type Answer struct {
	Payloads [][]byte
	// Err is an errno, with the kernel's own words if it has any.
	Err error
}

// SendAll sends messages, several at a time, which the kernel carries out in
// their order, also behind one that it refuses. It returns an answer for each,
// with the payloads of type reply, or of any with 0. No message may be a dump
// unless it is the only one. The error means that answers are missing, but not
// that nothing was done.
func (c *Conn) SendAll(ctx context.Context, messages []Message, reply uint16) ([]Answer, error) {
	answers := make([]Answer, 0, len(messages))
	for some := range slices.Chunk(messages, batch) {
		got, err := c.exchange(ctx, some, reply)
		if err != nil {
			return nil, err
		}
		answers = append(answers, got...)
	}
	return answers, nil
}

// exchange sends one datagram and receives until all messages are answered.
func (c *Conn) exchange(ctx context.Context, messages []Message, reply uint16) ([]Answer, error) {
	deadline, err := c.limit(ctx)
	if err != nil {
		return nil, err
	}
	first := c.seq + 1
	var datagram []byte
	for _, m := range messages {
		c.seq++
		m.Seq = c.seq
		datagram = append(datagram, m.Serialize()...)
	}
	if err := unix.Sendto(c.fd, datagram, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	answers := make([]Answer, len(messages))
	for open := len(messages); open > 0; {
		received, err := c.receive(deadline)
		if err != nil {
			return nil, err
		}
		for len(received) > 0 {
			var r response
			if r, received, err = next(received); err != nil {
				return nil, err
			}
			// What is late for an earlier request has another number.
			if i := r.seq - first; i < uint32(len(answers)) && answers[i].add(r, reply) {
				open--
			}
		}
	}
	return answers, nil
}

// limit bounds the waits for answers, and returns when they are to be over.
func (c *Conn) limit(ctx context.Context) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	deadline := time.Now().Add(answerLimit)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	timeout := unix.NsecToTimeval(max(time.Until(deadline), time.Millisecond).Nanoseconds())
	return deadline, unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
}

// response is one message of the kernel.
type response struct {
	kind, flags uint16
	seq         uint32
	payload     []byte
}

// receive returns the next datagram of the kernel, which is several messages.
// EAGAIN means that the time is over.
func (c *Conn) receive(deadline time.Time) ([]byte, error) {
	for {
		n, from, err := unix.Recvfrom(c.fd, c.buf, unix.MSG_TRUNC)
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
		if n > len(c.buf) {
			return nil, fmt.Errorf("%w: an answer of %d bytes", ErrMalformed, n)
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != nl.PidKernel {
			continue // any process may send to the socket
		}
		return slices.Clone(c.buf[:n]), nil
	}
}

// next splits the first message off a datagram.
func next(datagram []byte) (first response, rest []byte, err error) {
	if len(datagram) < unix.SizeofNlMsghdr {
		return response{}, nil, ErrMalformed
	}
	size := int(binary.NativeEndian.Uint32(datagram))
	if size < unix.SizeofNlMsghdr || size > len(datagram) {
		return response{}, nil, ErrMalformed
	}
	return response{
		kind:    binary.NativeEndian.Uint16(datagram[4:]),
		flags:   binary.NativeEndian.Uint16(datagram[6:]),
		seq:     binary.NativeEndian.Uint32(datagram[8:]),
		payload: datagram[unix.SizeofNlMsghdr:size],
	}, datagram[min(align(size), len(datagram)):], nil
}

// align is the size that something of size bytes takes up in a message.
func align(size int) int { return (size + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// add takes in one message of the answer and reports whether it was the last.
func (a *Answer) add(r response, reply uint16) (last bool) {
	if r.flags&unix.NLM_F_DUMP_INTR != 0 {
		a.Err = errTorn
	}
	switch r.kind {
	case unix.NLMSG_ERROR, unix.NLMSG_DONE:
		if err := refusal(r); err != nil {
			a.Err = err
		}
		return true
	}
	if reply == 0 || r.kind == reply {
		a.Payloads = append(a.Payloads, r.payload)
	}
	return r.flags&unix.NLM_F_MULTI == 0
}

// refusal is the error in the message that ends an answer (struct nlmsgerr: an
// errno, then the request, then attributes); nil when there is none.
func refusal(r response) error {
	const sizeofErrno = 4
	if len(r.payload) < sizeofErrno {
		if r.kind == unix.NLMSG_DONE {
			return nil // it need not have an errno
		}
		return ErrMalformed
	}
	errno := int32(binary.NativeEndian.Uint32(r.payload))
	if errno == 0 {
		return nil
	}
	err := error(unix.Errno(-errno))
	rest := r.payload[sizeofErrno:]
	if r.flags&unix.NLM_F_ACK_TLVS == 0 {
		return err
	}
	if r.kind == unix.NLMSG_ERROR {
		if len(rest) < unix.SizeofNlMsghdr {
			return err
		}
		request := unix.SizeofNlMsghdr
		if r.flags&unix.NLM_F_CAPPED == 0 {
			request = align(int(binary.NativeEndian.Uint32(rest)))
		}
		rest = rest[min(request, len(rest)):]
	}
	words := ""
	_ = EachAttr(rest, func(kind uint16, value []byte) error {
		if kind == nl.NLMSGERR_ATTR_MSG {
			words = Text(value)
		}
		return nil
	})
	if words == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, words)
}
