// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

func TestSyslogWithoutLog(t *testing.T) {
	log := slog.New(newSyslog(filepath.Join(t.TempDir(), "nothing")))
	log.Error("lost") // and neither waits nor panics
}

func TestSyslog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test is over
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	log := slog.New(newSyslog(path)).With("guest", "g1")
	log.Debug("not sent")
	log.Info("wired", "ports", 2)
	log.WithGroup("g").Warn("two\nlines", "a", "b c")
	log.Error("refused")
	for _, want := range []string{
		`<30>%s: msg=wired guest=g1 ports=2`,
		`<28>%s: msg="two\\nlines" guest=g1 g.a="b c"`,
		`<27>%s: msg=refused guest=g1`,
	} {
		buf := make([]byte, 1000)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		pattern := fmt.Sprintf("^"+want+"\n$", fmt.Sprintf(`virt-vnet-hook\[%d\]`, os.Getpid()))
		if !regexp.MustCompile(pattern).Match(buf[:n]) {
			t.Errorf("%q, want %q", buf[:n], pattern)
		}
	}
}
