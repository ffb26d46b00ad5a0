// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// process is a hook that runs.
type process struct {
	cmd    *exec.Cmd
	stdin  *os.File
	output bytes.Buffer
}

// newProcess prepares a hook as libvirt does: its argument list for an event,
// an almost empty environment, and all of the XML in a pipe.
func newProcess(ctx context.Context, program string, g guest) (*process, error) {
	stdin, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	// Filled before the start, so that no writing is part of the cost.
	_, errSize := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, len(g.xml)+1)
	if errSize == nil {
		_, err = w.Write(g.xml)
	}
	if err := errors.Join(errSize, err, w.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("fill the pipe with %d bytes: %w", len(g.xml), err), stdin.Close())
	}
	p := &process{cmd: exec.CommandContext(ctx, program, g.name, "start", "begin", "-"), stdin: stdin}
	p.cmd.Env = []string{
		"LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "USER=root", "LOGNAME=root",
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, &p.output, &p.output
	return p, nil
}

// wait returns when the hook has ended. An exit code or any output is an error:
// none of them has anything to say when all is well.
func (p *process) wait() error {
	err := errors.Join(p.cmd.Wait(), p.stdin.Close())
	if err == nil && p.output.Len() > 0 {
		err = errors.New("it printed")
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", p.cmd.Path, err, bytes.TrimSpace(p.output.Bytes()))
	}
	return nil
}

// cpu is the CPU time of a hook that has ended, its children's included.
func (p *process) cpu() time.Duration {
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// runHook returns the wall time of a hook, from before its start until after
// its end.
func runHook(ctx context.Context, program string, g guest) (time.Duration, error) {
	p, err := newProcess(ctx, program, g)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := p.cmd.Start(); err != nil {
		return 0, errors.Join(err, p.stdin.Close())
	}
	err = p.wait()
	return time.Since(begun), err
}
