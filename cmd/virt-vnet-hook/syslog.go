// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// syslogHandler sends each record as one datagram to the system's log, which is
// the journal where there is one. It opens nothing before the first record, and
// loses records where there is no log: a hook that waits for its log would hold
// up guests.
type syslogHandler struct {
	path string
	mu   *sync.Mutex // of text
	text *bytes.Buffer
	slog.Handler
}

// newSyslog returns a handler for the log at path, usually /dev/log.
func newSyslog(path string) *syslogHandler {
	text := new(bytes.Buffer)
	return &syslogHandler{path: path, mu: new(sync.Mutex), text: text, Handler: slog.NewTextHandler(text, &slog.HandlerOptions{
		Level: slog.LevelInfo,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{} // the log has both
			}
			return a
		},
	})}
}

// Handle implements [slog.Handler].
func (h *syslogHandler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text.Reset()
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	return h.send(fmt.Sprintf("<%d>virt-vnet-hook[%d]: %s", priority(r.Level), os.Getpid(), h.text))
}

// WithAttrs implements [slog.Handler].
func (h *syslogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &syslogHandler{path: h.path, mu: h.mu, text: h.text, Handler: h.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h *syslogHandler) WithGroup(name string) slog.Handler {
	return &syslogHandler{path: h.path, mu: h.mu, text: h.text, Handler: h.Handler.WithGroup(name)}
}

// send writes one datagram (RFC 3164) without waiting. It has no time: the log
// adds its own (section 4.3.2), and ours would need the local time zone, which
// takes longer to load than the line to write.
func (h *syslogHandler) send(line string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was buffered
	return unix.Sendto(fd, []byte(line), 0, &unix.SockaddrUnix{Name: h.path})
}

// priority is the facility daemon (3) with the severity of RFC 3164.
func priority(level slog.Level) int {
	const daemon = 3 << 3
	switch {
	case level >= slog.LevelError:
		return daemon | 3
	case level >= slog.LevelWarn:
		return daemon | 4
	}
	return daemon | 6
}
