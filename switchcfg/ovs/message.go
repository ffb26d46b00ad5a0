// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg"
)

// How a bridge handles IP fragments is one number, and a meter a few: messages of
// some bytes (ONF TS-018, sections 7.1, 7.3.2 and 7.3.4.4) that are not worth a
// run of ovs-ofctl, which takes longer than all else that a guest's start does to
// a guarded port.

// The types of the messages, and their version, which is that of
// [openflowVersion].
const (
	ofVersion          = 5
	ofHello            = 0
	ofError            = 1
	ofEchoRequest      = 2
	ofEchoReply        = 3
	ofGetConfigRequest = 7
	ofGetConfigReply   = 8
	ofSetConfig        = 9
	ofBarrierRequest   = 20
	ofBarrierReply     = 21
	ofMeterMod         = 29
)

// openflowLimit bounds a connection where the context has no sooner deadline.
const openflowLimit = 10 * time.Second

// ofHeader is the length of what every message begins with: version, type,
// length and the number of the request.
const ofHeader = 8

// fragMask are the bits of the configuration that say how fragments are handled.
// nxMatch, of Open vSwitch, has flows look at the ports in the first of them; with
// the usual way these look like zero, and a guard would have to drop whatever is
// fragmented (ovs-ofctl(8), set-frags).
const (
	fragMask = 3
	nxMatch  = 3
)

// ofRefusal is what a bridge says of a message that it does not carry out: the
// type and the code of its error.
type ofRefusal struct{ kind, code uint16 }

// unknownMeter is the refusal to change a meter that is not there.
var unknownMeter = ofRefusal{12, 3}

func (r ofRefusal) Error() string {
	return fmt.Sprintf("refused, with error type %d, code %d", r.kind, r.code)
}

// ofConn is an OpenFlow connection for one request at a time.
type ofConn struct {
	net.Conn
	requests uint32
}

// seesFragments reports whether flows may look at the ports in first fragments.
func (d *Driver) seesFragments(ctx context.Context) (sees bool, err error) {
	err = d.converse(ctx, func(c *ofConn) error {
		config, err := c.ask(ofGetConfigRequest, nil, ofGetConfigReply)
		sees = err == nil && config[1]&fragMask == nxMatch
		return err
	})
	return sees, err
}

// seeFragments makes them.
func (d *Driver) seeFragments(ctx context.Context) error {
	return d.converse(ctx, func(c *ofConn) error {
		config, err := c.ask(ofGetConfigRequest, nil, ofGetConfigReply)
		if err != nil || config[1]&fragMask == nxMatch {
			return err
		}
		config[1] |= nxMatch
		return c.change(ofSetConfig, config)
	})
}

// change sends messages of a kind that have no answer, and waits until all are
// carried out.
func (c *ofConn) change(kind byte, bodies ...[]byte) error {
	for _, body := range bodies {
		if err := c.send(kind, body); err != nil {
			return err
		}
	}
	_, err := c.ask(ofBarrierRequest, nil, ofBarrierReply) // an error comes before
	return err
}

// converse does something on a connection with the bridge. What breaks off is
// done again.
func (d *Driver) converse(ctx context.Context, do func(*ofConn) error) error {
	return d.outlasting(ctx, func() error { return d.converseOnce(ctx, do) })
}

func (d *Driver) converseOnce(ctx context.Context, do func(*ofConn) error) error {
	if reason := d.lacksOpenFlow(); reason != "" {
		return fmt.Errorf("OpenFlow: %w: %s", switchcfg.ErrUnsupported, reason)
	}
	err := d.dialOpenFlow(ctx, do)
	if refusal, ok := errors.AsType[ofRefusal](err); ok {
		return fmt.Errorf("OpenFlow: %w", refusal)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("OpenFlow: ovs-vswitchd %w: %w", switchcfg.ErrUnreachable, ctx.Err())
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("OpenFlow: %w: needs root or the group of %s", switchcfg.ErrPermission, product)
	}
	return fmt.Errorf("OpenFlow: ovs-vswitchd %w: %w", switchcfg.ErrUnreachable, err)
}

func (d *Driver) dialOpenFlow(ctx context.Context, do func(*ofConn) error) error {
	conn, err := (&net.Dialer{Timeout: openflowLimit}).DialContext(ctx, "unix", filepath.Join(d.runDir, d.name+".mgmt"))
	if err != nil {
		return err
	}
	defer conn.Close()                                                      //nolint:errcheck // nothing is left to be written
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()             // ends what waits
	if err := conn.SetDeadline(time.Now().Add(openflowLimit)); err != nil { // where ctx has none
		return err
	}
	c := &ofConn{Conn: conn}
	if err := c.send(ofHello, nil); err != nil {
		return err
	}
	return do(c)
}

// send sends one message.
func (c *ofConn) send(kind byte, body []byte) error {
	c.requests++
	message := []byte{ofVersion, kind}
	message = binary.BigEndian.AppendUint16(message, uint16(ofHeader+len(body)))
	message = binary.BigEndian.AppendUint32(message, c.requests)
	_, err := c.Write(append(message, body...))
	return err
}

// ask sends a request and returns the body of its answer, which is to be of that
// kind. Whatever else comes is none.
func (c *ofConn) ask(kind byte, body []byte, answer byte) ([]byte, error) {
	if err := c.send(kind, body); err != nil {
		return nil, err
	}
	asked := c.requests
	for {
		got, number, body, err := c.receive()
		switch {
		case err != nil:
			return nil, err
		case got == ofError && len(body) >= 4:
			return nil, ofRefusal{binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:])}
		case got == ofEchoRequest:
			if err := c.send(ofEchoReply, body); err != nil {
				return nil, err
			}
		case number == asked && got == answer && (answer == ofBarrierReply || len(body) == 4):
			return body, nil
		}
	}
}

func (c *ofConn) receive() (kind byte, number uint32, body []byte, err error) {
	var header [ofHeader]byte
	if _, err := io.ReadFull(c, header[:]); err != nil {
		return 0, 0, nil, err
	}
	length := binary.BigEndian.Uint16(header[2:])
	if length < ofHeader {
		return 0, 0, nil, fmt.Errorf("a message of %d bytes", length)
	}
	body = make([]byte, length-ofHeader)
	_, err = io.ReadFull(c, body)
	return header[1], binary.BigEndian.Uint32(header[4:]), body, err
}
