// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi

import (
	"context"
	"fmt"
	"sync/atomic"

	"libvirt.org/go/libvirt"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
)

// Conn is a connection to one libvirt. It is safe for concurrent use, except
// Close.
type Conn struct {
	conn    *libvirt.Connect
	uri     string
	version libvirtnet.Version
	// running counts the calls that libvirt has not answered.
	running atomic.Int64
}

// Open connects to the libvirt at uri, such as qemu:///system. An empty uri is
// that of the environment variable LIBVIRT_DEFAULT_URI or, without it, what
// libvirt finds (https://libvirt.org/uri.html). The error is [ErrNoLibrary],
// [ErrNotRunning], [ErrPermission], ctx's, or about the URI.
//
// A qemu+ssh URI may ask for a password on the terminal; with ?no_tty=1 it
// fails instead.
func Open(ctx context.Context, uri string) (*Conn, error) {
	c := &Conn{}
	_, err := call(ctx, c, func() (struct{}, error) { return struct{}{}, c.open(uri) })
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("libvirt %s: open: no answer: %w", uri, err)
		}
		return nil, err
	}
	return c, nil
}

// open fills in c.
func (c *Conn) open(uri string) error {
	conn, err := libvirt.NewConnect(uri)
	if err != nil {
		return openError(uri, err)
	}
	version, err := conn.GetLibVersion()
	if err == nil {
		uri, err = conn.GetURI()
	}
	if err != nil {
		_, _ = conn.Close()
		return openError(uri, err)
	}
	c.conn, c.uri, c.version = conn, uri, libvirtnet.Version(version)
	return nil
}

// Close ends the connection. A connection with a call that libvirt has not
// answered cannot be closed: it stays until the process ends.
func (c *Conn) Close() error {
	if c.running.Load() > 0 {
		return nil
	}
	if _, err := c.conn.Close(); err != nil {
		return callError("libvirt "+c.uri+": close", err)
	}
	return nil
}

// Version returns the version of the libvirt at the other end.
func (c *Conn) Version() libvirtnet.Version { return c.version }

// URI returns where the connection leads to, also when Open was asked for the
// default.
func (c *Conn) URI() string { return c.uri }

// call runs f, which talks to libvirt, and returns when it is done or ctx ends.
// f must hold nothing that outlives it: it may go on alone.
func call[T any](ctx context.Context, c *Conn, f func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	done := make(chan answer, 1)
	c.running.Add(1)
	go func() {
		value, err := f()
		c.running.Add(-1)
		done <- answer{value, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}
