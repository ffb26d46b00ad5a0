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
	// current is Open_vSwitch.cur_cfg, as far as it was reported.
	current int
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
	return &conn{Conn: c, path: path, decoder: json.NewDecoder(c)}, nil
}

// incoming is a request, a notification or an answer.
type incoming struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

type outgoing struct {
	ID     any    `json:"id"`
	Method string `json:"method"`
	Params any    `json:"params"`
}

type answer struct {
	ID     json.RawMessage `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  any             `json:"error"`
}

// call sends a request and reads its answer into result.
func (c *conn) call(ctx context.Context, result any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	c.nextID++
	id := fmt.Sprint(c.nextID)
	defer c.bind(ctx)()
	if err := c.send(outgoing{ID: c.nextID, Method: method, Params: params}); err != nil {
		return c.broken(ctx, err)
	}
	for {
		msg, err := c.receive(ctx)
		if err != nil {
			return err
		}
		if string(msg.ID) != id || msg.Method != "" {
			continue
		}
		if failed(msg) {
			return fmt.Errorf("%s refuses %s: %s", c.path, method, msg.Error)
		}
		if err := json.Unmarshal(msg.Result, result); err != nil {
			return fmt.Errorf("%s answers %s with something else: %w", c.path, method, err)
		}
		return nil
	}
}

// waitUpdates takes notifications in until done says so.
func (c *conn) waitUpdates(ctx context.Context, done func() bool) error {
	defer c.bind(ctx)()
	for !done() {
		if _, err := c.receive(ctx); err != nil {
			return err
		}
	}
	return nil
}

// receive reads one message, and serves what the server asks of a client.
func (c *conn) receive(ctx context.Context) (incoming, error) {
	var msg incoming
	if err := c.decoder.Decode(&msg); err != nil {
		return msg, c.broken(ctx, err)
	}
	switch {
	case msg.Method == "echo":
		// The server's way to find out whether we live (RFC 7047, 4.1.11).
		if err := c.send(answer{ID: msg.ID, Result: msg.Params}); err != nil {
			return msg, c.broken(ctx, err)
		}
	case msg.Method == "update":
		var pair [2]json.RawMessage // the monitor's name comes first
		if err := json.Unmarshal(msg.Params, &pair); err != nil {
			return msg, fmt.Errorf("%s sends a malformed update: %w", c.path, err)
		}
		return msg, c.update(pair[1])
	case msg.Method == "" && string(msg.ID) == fmt.Sprint(monitorID):
		if failed(msg) {
			return msg, fmt.Errorf("%s refuses to report cur_cfg: %s", c.path, msg.Error)
		}
		return msg, c.update(msg.Result)
	}
	return msg, nil
}

func failed(msg incoming) bool { return len(msg.Error) > 0 && string(msg.Error) != "null" }

func (c *conn) send(msg any) error {
	text, err := json.Marshal(msg)
	if err != nil {
		return err
	}
	_, err = c.Write(text)
	return err
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
	return fmt.Errorf("%s: %w", c.path, err)
}

func isNetError(err error) bool {
	var opError *net.OpError
	return errors.As(err, &opError)
}
