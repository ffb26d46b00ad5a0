// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
)

// Conn is a connection to one libvirt. It is safe for concurrent use, except
// Close.
type Conn struct {
	conn    *libvirt.Connect
	uri     string
	version libvirtnet.Version
	// patience is for how long libvirt may be silent about what it knows at once.
	patience time.Duration
	// running counts the calls that libvirt has not answered.
	running atomic.Int64
}

// Open connects to the libvirt at uri, such as qemu:///system. An empty uri is
// that of the environment variable LIBVIRT_DEFAULT_URI or, without it, what
// libvirt finds (https://libvirt.org/uri.html). The error is [ErrNoLibrary],
// [ErrNotRunning], [ErrPermission], ctx's, or about the URI.
//
// A libvirt that takes the connection and says nothing for half a minute is
// [ErrNotRunning], too, and so it is later when asked for what it knows at once.
// What makes it change something is waited for until ctx ends.
//
// A qemu+ssh URI may ask for a password on the terminal, which is waited for;
// with ?no_tty=1 it fails instead.
func Open(ctx context.Context, uri string) (*Conn, error) { return openPatiently(ctx, uri, patience) }

// patience is far beyond what a busy libvirt takes for an answer.
const patience = 30 * time.Second

func openPatiently(ctx context.Context, uri string, patience time.Duration) (*Conn, error) {
	c := &Conn{patience: patience}
	open := func() (struct{}, error) { return struct{}{}, c.open(uri) }
	asking := ask[struct{}]
	if strings.Contains(cmp.Or(uri, os.Getenv("LIBVIRT_DEFAULT_URI")), "+ssh:") {
		asking = call[struct{}]
	}
	_, err := asking(ctx, c, open)
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("libvirt %s: open: no answer: %w", uri, err)
	case errors.Is(err, errSilent):
		return nil, fmt.Errorf("libvirt %s: open: %w", uri, err)
	}
	return nil, err
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

// errSilent is of a libvirt that has the connection and says nothing.
var errSilent = fmt.Errorf("%w: does it hang? try: systemctl restart libvirtd, or virtqemud", ErrNotRunning)

// promptly runs f, which asks libvirt for what it knows at once. The error is
// [ErrNotRunning] when it says nothing for as long as patience lasts.
func promptly[T any](ctx context.Context, c *Conn, f func(context.Context) (T, error)) (T, error) {
	limited, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	value, err := f(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return value, fmt.Errorf("%w (%v without a word)", errSilent, c.patience)
	}
	return value, err
}

// ask is call for what libvirt knows at once.
func ask[T any](ctx context.Context, c *Conn, f func() (T, error)) (T, error) {
	return promptly(ctx, c, func(ctx context.Context) (T, error) { return call(ctx, c, f) })
}

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
