// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovsdb

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
	"github.com/virt-vnet/virt-vnet/vnet"
)

// answerLimit bounds connecting and each answer where the context has no sooner
// deadline.
const answerLimit = 10 * time.Second

// Conn is a JSON-RPC 1.0 connection (RFC 7047 section 4) for one request at a
// time. It has no goroutine and does not reconnect: a broken one stays broken.
type Conn struct {
	net.Conn
	name    string // for errors
	decoder *json.Decoder
	nextID  int
	// certificate is what the server of an ssl endpoint is shown, for errors.
	certificate string
}

// Dial connects to an endpoint. The error is [switchcfg.ErrUnreachable] when
// nobody listens there, and [switchcfg.ErrPermission] when the caller may not
// connect. The product is whose server it is, such as "Open vSwitch", and the files
// are for ssl endpoints.
func Dial(ctx context.Context, product string, to vnet.Endpoint, files vnet.TLS) (*Conn, error) {
	name := to.String()
	network := "tcp"
	if to.Transport == vnet.TransportUnix {
		name, network = to.Address, "unix"
	}
	dialer := net.Dialer{Timeout: answerLimit}
	c, err := dialer.DialContext(ctx, network, to.Address)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: %w: needs root (with CAP_DAC_OVERRIDE) or the group of %s", name, switchcfg.ErrPermission, product)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w: %w", name, switchcfg.ErrUnreachable, ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("%s: %w: is %s running?", name, switchcfg.ErrUnreachable, product)
	}
	if to.Transport == vnet.TransportSSL {
		if c, err = secure(ctx, c, files); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	decoder := json.NewDecoder(c)
	decoder.UseNumber()
	return &Conn{Conn: c, name: name, decoder: decoder, certificate: files.Certificate}, nil
}

// Call sends a request and returns the result of its answer. Its params are
// what a [Row] can have, and operations.
func (c *Conn) Call(ctx context.Context, method string, params ...any) (any, error) {
	c.nextID++
	defer c.bind(ctx)()
	text := appendText([]byte(`{"method":`), method)
	text = appendList(append(text, `,"params":`...), params)
	text = fmt.Appendf(text, `,"id":%d}`, c.nextID)
	if _, err := c.Write(text); err != nil {
		// The server has gone, and may have said why before.
		if _, last := c.Read(make([]byte, 1)); isAlert(last) {
			err = last
		}
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
			return nil, fmt.Errorf("%s refuses %s: %v", c.name, method, msg["error"])
		}
		return msg["result"], nil
	}
}

// Command calls a method whose result is text, as those of ovs-appctl(8) are.
func (c *Conn) Command(ctx context.Context, method string, params ...string) (string, error) {
	list := make([]any, len(params))
	for i, p := range params {
		list[i] = p
	}
	answer, err := c.Call(ctx, method, list...)
	if err != nil {
		return "", err
	}
	text, ok := answer.(string)
	if !ok {
		return "", fmt.Errorf("%s answers %s with something else: %.60s", c.name, method, fmt.Sprint(answer))
	}
	return text, nil
}

// receive reads one message, a request, a notification or an answer, and serves
// what the server asks of a client.
func (c *Conn) receive(ctx context.Context) (msg map[string]any, err error) {
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
func (c *Conn) bind(ctx context.Context) func() {
	limit := time.Now().Add(answerLimit)
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
func (c *Conn) broken(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w: %w", c.name, switchcfg.ErrUnreachable, ctx.Err())
	case errors.Is(err, os.ErrDeadlineExceeded):
		// The caller's deadline, which its own timer has not noticed yet, or ours.
		return fmt.Errorf("%s: %w: %w", c.name, switchcfg.ErrUnreachable, context.DeadlineExceeded)
	case isAlert(err):
		return fmt.Errorf("%s: %w: it refuses the certificate %s: %w", c.name, switchcfg.ErrPermission, c.certificate, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isNetError(err):
		return fmt.Errorf("%s: %w: it went away", c.name, switchcfg.ErrUnreachable)
	}
	return fmt.Errorf("%s answers with something else: %w", c.name, err)
}

func isNetError(err error) bool {
	var opError *net.OpError
	return errors.As(err, &opError)
}

// isAlert reports whether the server ended TLS with an alert. With TLS 1.3 it
// judges the client only after the client's handshake (RFC 8446, section 2).
func isAlert(err error) bool {
	var opError *net.OpError
	return errors.As(err, &opError) && opError.Op == "remote error"
}
