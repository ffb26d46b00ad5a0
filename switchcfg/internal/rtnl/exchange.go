// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/nlconn"
)

const (
	// sizeofErrno is the first field of struct nlmsgerr.
	sizeofErrno = 4

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
	first := c.seq + 1
	var datagram []byte
	for _, m := range messages {
		c.seq++
		m.Seq = c.seq
		datagram = append(datagram, m.Serialize()...)
	}
	deadline, err := c.socket.Send(ctx, datagram)
	if err != nil {
		return nil, err
	}
	answers := make([]Answer, len(messages))
	for open := len(messages); open > 0; {
		received, err := c.socket.Receive(deadline)
		if err != nil {
			return nil, err
		}
		for len(received) > 0 {
			var r nlconn.Message
			if r, received, err = nlconn.Next(received); err != nil {
				return nil, err
			}
			// What is late for an earlier request has another number.
			if i := r.Seq - first; i < uint32(len(answers)) && answers[i].add(r, reply) {
				open--
			}
		}
	}
	return answers, nil
}

// add takes in one message of the answer and reports whether it was the last.
func (a *Answer) add(r nlconn.Message, reply uint16) (last bool) {
	if r.Flags&unix.NLM_F_DUMP_INTR != 0 {
		a.Err = errTorn
	}
	switch r.Kind {
	case unix.NLMSG_ERROR, unix.NLMSG_DONE:
		if err := refusal(r); err != nil {
			a.Err = err
		}
		return true
	}
	if reply == 0 || r.Kind == reply {
		a.Payloads = append(a.Payloads, r.Payload)
	}
	return r.Flags&unix.NLM_F_MULTI == 0
}

// refusal is the error in the message that ends an answer (struct nlmsgerr: an
// errno, then the request, then attributes); nil when there is none.
func refusal(r nlconn.Message) error {
	err := r.Errno()
	if errno := unix.Errno(0); !errors.As(err, &errno) || r.Flags&unix.NLM_F_ACK_TLVS == 0 {
		return err
	}
	rest := r.Payload[sizeofErrno:]
	if r.Kind == unix.NLMSG_ERROR {
		if len(rest) < unix.SizeofNlMsghdr {
			return err
		}
		request := unix.SizeofNlMsghdr
		if r.Flags&unix.NLM_F_CAPPED == 0 {
			request = nlconn.Align(int(binary.NativeEndian.Uint32(rest)))
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
