// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// execLimit bounds one command inside a guest.
const execLimit = time.Minute

// ExecError says that a command inside a guest ended with a status other than 0.
type ExecError struct {
	Guest, Command string
	Status         int
	Output         string
}

// Error implements error.
func (e *ExecError) Error() string {
	return fmt.Sprintf("lab: guest %s: %q: exit status %d: %s", e.Guest, e.Command, e.Status, e.Output)
}

// Exec runs a shell command, of one line, inside a guest that is up and
// returns what it printed, stdout and stderr together. It goes over a serial
// port, so it works whatever state the network is in, and runs one command at
// a time per guest. The error is an [*ExecError] when the command ran and its
// status was not 0. When ctx ends early, or after a minute, the command goes on
// inside the guest and Exec gives up.
func (l *Lab) Exec(ctx context.Context, guest, command string) (string, error) {
	if strings.ContainsAny(command, "\r\n") {
		return "", fmt.Errorf("lab: guest %s: %q: a command is one line", guest, command)
	}
	ctx, cancel := context.WithTimeout(ctx, patient(execLimit))
	defer cancel()
	var conn net.Conn
	err := l.at.do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "unix", socketPath(guest))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("lab: guest %s: second serial port: %w", guest, err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer conn.Close() //nolint:errcheck // nothing is buffered

	id := rand.Text()
	if _, err := fmt.Fprintf(conn, "%s %s\n", id, command); err != nil {
		return "", fmt.Errorf("lab: guest %s: %q: %w", guest, command, errors.Join(ctx.Err(), err))
	}
	out, status, err := readAnswer(bufio.NewReader(conn), id)
	switch {
	case err != nil:
		return out, fmt.Errorf("lab: guest %s: %q: %w", guest, command, errors.Join(ctx.Err(), err))
	case status != 0:
		return out, &ExecError{Guest: guest, Command: command, Status: status, Output: out}
	default:
		return out, nil
	}
}

// readAnswer reads a command's output up to its closing line. What comes
// before an earlier command's closing line belongs to that one.
func readAnswer(r *bufio.Reader, id string) (out string, status int, err error) {
	var lines []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return strings.TrimSpace(strings.Join(lines, "\n")), 0, fmt.Errorf("read its output: %w", err)
		}
		line = strings.TrimRight(line, "\r\n")
		first, rc, ok := strings.Cut(line, " rc=")
		switch {
		case ok && first == id:
			status, err = strconv.Atoi(rc)
			return strings.TrimSpace(strings.Join(lines, "\n")), status, err
		case ok && len(first) == len(id) && !strings.Contains(first, " "):
			lines = nil
		default:
			lines = append(lines, line)
		}
	}
}
