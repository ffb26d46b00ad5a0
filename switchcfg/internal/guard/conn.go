// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
)

// Conn is a connection to the kernel's nftables, in the network namespace of the
// thread that opened it. It belongs to one goroutine at a time.
//
// Its errors wrap [switchcfg.ErrPermission], [switchcfg.ErrUnsupported],
// [switchcfg.ErrNotOwned] when somebody else has a table of that name, and
// [switchcfg.ErrUnreachable] when others do not stop changing the ruleset.
type Conn struct {
	socket *socket
	// odd is ports that have more elements than their own say.
	odd map[int]bool
}

// Open connects.
func Open() (*Conn, error) {
	s, err := dial()
	if err != nil {
		return nil, translate(err)
	}
	return &Conn{socket: s, odd: map[int]bool{}}, nil
}

// Close disconnects.
func (c *Conn) Close() error { return c.socket.Close() }

// retry does something again for as long as others get in its way.
func retry(ctx context.Context, do func(context.Context) error) error {
	var err error
	for range tries {
		if err = do(ctx); !isConflict(err) {
			break
		}
	}
	return translate(err)
}

// isConflict reports whether err means that others changed the ruleset between
// our look at it and what we did.
func isConflict(err error) bool {
	if errors.Is(err, errTorn) {
		return true
	}
	for _, errno := range []unix.Errno{unix.EEXIST, unix.EBUSY, unix.ERESTART, unix.ENOBUFS} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return errors.Is(err, unix.ENOENT) && !isLack(err)
}

// isLack reports whether err means that the kernel lacks a part that the table
// needs, or its module.
func isLack(err error) bool {
	for _, errno := range []unix.Errno{unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT} {
		if errors.Is(err, errno) {
			return true
		}
	}
	var refused *refusal
	if !errors.As(err, &refused) || !errors.Is(err, unix.ENOENT) {
		return false
	}
	switch refused.message.kind {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_NEWSET, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_NEWRULE:
		return true
	}
	return false
}

// translate turns an errno into the error that callers test for.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: needs root or CAP_NET_ADMIN", switchcfg.ErrPermission)
	case isLack(err):
		return fmt.Errorf("%w: %w", switchcfg.ErrUnsupported, err)
	case isConflict(err):
		return fmt.Errorf("%w: nftables: others keep changing the ruleset: %w", switchcfg.ErrUnreachable, err)
	case errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("%w: nftables: the kernel is busy", switchcfg.ErrUnreachable)
	}
	return err
}

// dump calls f for every payload of an answer, once they are all there.
func (c *Conn) dump(ctx context.Context, m message, f func(payload []byte) error) error {
	answers, err := c.socket.ask(ctx, m)
	if err != nil {
		return err
	}
	if err := answers[0].err; err != nil {
		return err
	}
	for _, payload := range answers[0].payloads {
		if err := f(payload); err != nil {
			return err
		}
	}
	return nil
}
