// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/virt-vnet/virt-vnet/switchcfg"
)

// TestOpenFlowAnswers checks that what a bridge answers is taken for what it is,
// and nothing else for an answer.
func TestOpenFlowAnswers(t *testing.T) {
	if _, err := tool(); err != nil {
		t.Fatal(err)
	}
	const hello, config = "\x05\x00\x00\x08\x00\x00\x00\x01", "\x05\x08\x00\x0c\x00\x00\x00\x02\x00"
	for _, test := range []struct {
		name, answer string
		sees         bool
		err          error
	}{
		{"usual fragments", hello + config + "\x00\xff\xff", false, nil},
		{"fragments with ports", hello + config + "\x03\xff\xff", true, nil},
		{"after an echo and an answer to something else", hello + "\x05\x02\x00\x0a\x00\x00\x00\x07hi" +
			"\x05\x08\x00\x0c\x00\x00\x00\x09\x00\x00\xff\xff" + config + "\x03\xff\xff", true, nil},
		{"refused", hello + "\x05\x01\x00\x0c\x00\x00\x00\x02\x00\x01\x00\x05", false, ofRefusal{1, 5}},
		{"too short for a message", "\x05\x08\x00\x07\x00\x00\x00\x02", false, switchcfg.ErrUnreachable},
		{"half an answer", hello + config, false, switchcfg.ErrUnreachable},
		{"nothing", "", false, switchcfg.ErrUnreachable},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := &Driver{name: "ovs0", runDir: t.TempDir(), away: true} // so that it asks once
			listener, err := net.Listen("unix", filepath.Join(d.runDir, "ovs0.mgmt"))
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close() //nolint:errcheck // of the test's own
			asked := make(chan string, 1)
			go func() {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				request := make([]byte, 2*ofHeader)
				_, _ = io.ReadFull(c, request)
				_, _ = io.WriteString(c, test.answer)
				_ = c.(*net.UnixConn).CloseWrite()
				asked <- string(request)
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}()
			sees, err := d.seesFragments(t.Context())
			if sees != test.sees || !errors.Is(err, test.err) {
				t.Errorf("got %t, %v, want %t, %v", sees, err, test.sees, test.err)
			}
			if got, want := <-asked, hello+"\x05\x07\x00\x08\x00\x00\x00\x02"; got != want {
				t.Errorf("asked %q, want %q", got, want)
			}
		})
	}
}
