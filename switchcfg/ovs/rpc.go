// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg"
)

// dialLimit bounds connecting and each answer where the context has no sooner
// deadline. Both servers are on this host.
const dialLimit = 10 * time.Second

// conn is a JSON-RPC 1.0 connection (RFC 7047 section 4) for one request at a
// time. It has no goroutine and does not reconnect: a broken one stays broken.
type conn struct {
	net.Conn
	path    string
	decoder *json.Decoder
	nextID  int
}

// dial connects to a Unix domain socket. The error is
// [switchcfg.ErrUnreachable] when nobody listens there, and
// [switchcfg.ErrPermission] when the caller may not connect.
func dial(ctx context.Context, path string) (*conn, error) {
	dialer := net.Dialer{Timeout: dialLimit}
	c, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: %w: needs root or the group of Open vSwitch", path, switchcfg.ErrPermission)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w: %w", path, switchcfg.ErrUnreachable, ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("%s: %w: is Open vSwitch running?", path, switchcfg.ErrUnreachable)
	}
	decoder := json.NewDecoder(c)
	decoder.UseNumber()
	return &conn{Conn: c, path: path, decoder: decoder}, nil
}

// call sends a request and returns the result of its answer, as receive reads
// it.
func (c *conn) call(ctx context.Context, method string, params ...any) (any, error) {
	c.nextID++
	defer c.bind(ctx)()
	text := appendText([]byte(`{"method":`), method)
	text = appendList(append(text, `,"params":`...), params)
	text = fmt.Appendf(text, `,"id":%d}`, c.nextID)
	if _, err := c.Write(text); err != nil {
		return nil, c.broken(ctx, err)
	}
	for {
		msg, err := c.receive(ctx)
		if err != nil {
			return nil, err
		}
		switch {
		case msg["method"] != nil || msg["id"] != json.Number(strconv.Itoa(c.nextID)):
			continue
		case msg["error"] != nil:
			return nil, fmt.Errorf("%s refuses %s: %v", c.path, method, msg["error"])
		}
		return msg["result"], nil
	}
}

// receive reads one message, a request, a notification or an answer, and serves
// what the server asks of a client.
func (c *conn) receive(ctx context.Context) (msg map[string]any, err error) {
	if err := c.decoder.Decode(&msg); err != nil {
		return nil, c.broken(ctx, err)
	}
	if msg["method"] != "echo" {
		return msg, nil
	}
	// The server's way to find out whether we live (RFC 7047, 4.1.11).
	answer := map[string]any{"id": msg["id"], "result": msg["params"], "error": nil}
	if err := json.NewEncoder(c).Encode(answer); err != nil {
		return nil, c.broken(ctx, err)
	}
	return msg, nil
}

// bind makes ctx interrupt reading and writing, until the function it returns
// is called.
func (c *conn) bind(ctx context.Context) func() {
	limit := time.Now().Add(dialLimit)
	if deadline, ok := ctx.Deadline(); ok {
		limit = deadline
	}
	// Setting a deadline of an open socket cannot fail; of a closed one, the
	// next read will.
	_ = c.SetDeadline(limit)
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.SetDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	return func() {
		if !stop() {
			<-interrupted // else it would hit the next call
		}
	}
}

// broken explains why the connection ended or took too long.
func (c *conn) broken(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w: %w", c.path, switchcfg.ErrUnreachable, ctx.Err())
	case errors.Is(err, os.ErrDeadlineExceeded):
		// The caller's deadline, which its own timer has not noticed yet, or ours.
		return fmt.Errorf("%s: %w: %w", c.path, switchcfg.ErrUnreachable, context.DeadlineExceeded)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isNetError(err):
		return fmt.Errorf("%s: %w: it went away", c.path, switchcfg.ErrUnreachable)
	}
	return fmt.Errorf("%s answers with something else: %w", c.path, err)
}

func isNetError(err error) bool {
	var opError *net.OpError
	return errors.As(err, &opError)
}
