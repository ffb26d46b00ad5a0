// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package rtnl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/nlconn"
)

// dumpTries bounds how often a dump is repeated of which the kernel says that it
// is not whole: links came or went meanwhile, or there was no room for it all.
// The pauses between them grow from a millisecond, to an eighth of a second in
// all.
const dumpTries = 8

// Conn is one rtnetlink(7) socket. It belongs to one goroutine at a time.
//
// The kernel answers in microseconds, so a context is looked at before each
// request, and its deadline bounds the wait for the answer.
type Conn struct {
	socket *nlconn.Socket
	seq    uint32 // of the latest message
}

// Dial opens a socket in the network namespace of the calling thread.
func Dial() (*Conn, error) {
	socket, err := nlconn.Dial(unix.NETLINK_ROUTE, nl.RECEIVE_BUFFER_SIZE)
	if err != nil {
		return nil, err
	}
	// The kernel's own words, such as "can't enslave a device to itself", say
	// more than an errno. Kernels before 4.12 have none.
	_ = unix.SetsockoptInt(socket.FD, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	return &Conn{socket: socket}, nil
}

// Close closes the socket.
func (c *Conn) Close() { _ = c.socket.Close() }

// Message is a request under construction.
type Message struct{ *nl.NetlinkRequest }

// NewMessage starts a request of a kind (RTM_*) with flags (NLM_F_*).
func NewMessage(kind, flags int) Message {
	return Message{nl.NewNetlinkRequest(kind, flags)}
}

// LinkMessage starts a request about one link, or about all with index 0.
func LinkMessage(kind, flags, family, index int) Message {
	m := NewMessage(kind, flags)
	info := nl.NewIfInfomsg(family)
	info.Index = int32(index)
	m.AddData(info)
	return m
}

// Attr adds an attribute.
func (m Message) Attr(kind int, value []byte) { m.AddData(nl.NewRtAttr(kind, value)) }

// Send sends m and returns the answers of type reply, or of any with 0. Its
// error is an errno, which [Translate] turns into what callers test for.
func (c *Conn) Send(ctx context.Context, m Message, reply uint16) ([][]byte, error) {
	answers, err := c.SendAll(ctx, []Message{m}, reply)
	if err != nil {
		return nil, err
	}
	return answers[0].Payloads, answers[0].Err
}

// Dump sends what build makes and returns all answers or an error, never a part.
func (c *Conn) Dump(ctx context.Context, build func() Message, reply uint16) ([][]byte, error) {
	var torn error
	for try := range dumpTries {
		if try > 0 {
			time.Sleep(time.Millisecond << (try - 1))
		}
		answers, err := c.Send(ctx, build(), reply)
		if !errors.Is(err, errTorn) && !errors.Is(err, unix.ENOBUFS) {
			return answers, err
		}
		torn = err
		c.socket.Drain()
	}
	return nil, fmt.Errorf("%w: the host's links keep changing: %w", switchcfg.ErrUnreachable, torn)
}

// IsGone reports whether err means that there is no such device.
func IsGone(err error) bool { return errors.Is(err, unix.ENODEV) }

// IsUnsupported reports whether err means that the kernel cannot do it.
func IsUnsupported(err error) bool { return errors.Is(err, unix.EOPNOTSUPP) }

// Translate turns an errno into the error that callers of drivers test for.
func Translate(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: needs root or CAP_NET_ADMIN", switchcfg.ErrPermission)
	case IsGone(err):
		return switchcfg.ErrNoPort
	case IsUnsupported(err):
		return fmt.Errorf("%w: %w", switchcfg.ErrUnsupported, err)
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS):
		return fmt.Errorf("%w: the kernel is busy", switchcfg.ErrUnreachable)
	}
	return err
}
