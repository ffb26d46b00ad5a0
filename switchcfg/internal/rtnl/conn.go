// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package rtnl

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
)

// dumpTries bounds how often a dump is repeated that the kernel reports as torn,
// because links came or went meanwhile.
const dumpTries = 8

// Conn is one rtnetlink(7) socket. It belongs to one goroutine at a time.
//
// The kernel answers in microseconds, so a context is looked at before each
// request, and its deadline bounds the wait for the answer. The socket blocks:
// Go's poller would wake another thread for every answer, which takes longer
// than the kernel's work.
type Conn struct {
	fd  int
	seq uint32 // of the latest message
	buf []byte
}

// Dial opens a socket in the network namespace of the calling thread.
func Dial() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	// The kernel's own words, such as "can't enslave a device to itself", say
	// more than an errno. Kernels before 4.12 have none.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	return &Conn{fd: fd, buf: make([]byte, nl.RECEIVE_BUFFER_SIZE)}, nil
}

// Close closes the socket.
func (c *Conn) Close() { _ = unix.Close(c.fd) }

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
	for range dumpTries {
		answers, err := c.Send(ctx, build(), reply)
		if !errors.Is(err, errTorn) {
			return answers, err
		}
	}
	return nil, fmt.Errorf("%w: the host's links keep changing", switchcfg.ErrUnreachable)
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
	case errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("%w: the kernel is busy", switchcfg.ErrUnreachable)
	}
	return err
}
