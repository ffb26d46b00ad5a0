// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startLimit = 60 * time.Second
	stopLimit  = 15 * time.Second
)

// Daemon is one background program of the lab that tests may stop, kill, pause
// and start again. It is safe for concurrent use.
type Daemon struct {
	name  string
	at    *place // where it runs
	argv  []string
	log   string
	prep  func(context.Context) error // before each start; may be nil
	ready func(context.Context) error // nil once the daemon serves

	reloaded string // what it logs after a SIGHUP; may be empty

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// Name returns the program's name.
func (d *Daemon) Name() string { return d.name }

// PID returns the process id, or 0 when the daemon is not running.
func (d *Daemon) PID() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.running() {
		return 0
	}
	return d.cmd.Process.Pid
}

// Log returns what the daemon has printed in all its runs, for diagnosis.
func (d *Daemon) Log() string {
	var text []byte
	err := d.at.do(func() (err error) {
		text, err = os.ReadFile(d.log)
		return err
	})
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Start runs the daemon and returns when it serves. It does nothing when it
// runs already.
func (d *Daemon) Start(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patient(startLimit))
	defer cancel()
	if d.prep != nil {
		if err := d.at.do(func() error { return d.prep(ctx) }); err != nil {
			return fmt.Errorf("lab: prepare %s: %w", d.name, err)
		}
	}
	if err := d.at.do(d.spawn); err != nil {
		return fmt.Errorf("lab: start %s: %w", d.name, err)
	}
	err := poll(ctx, func(ctx context.Context) error {
		if !d.running() {
			cancel()
			return errors.New("it has ended")
		}
		return d.at.do(func() error { return d.ready(ctx) })
	})
	if err != nil {
		return fmt.Errorf("lab: start %s: %w; its log:\n%s", d.name, err, tail(d.Log()))
	}
	return nil
}

func (d *Daemon) spawn() error {
	path, err := program(d.argv[0])
	if err != nil {
		return err
	}
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()                        //nolint:errcheck // the child has its own copy
	cmd := exec.Command(path, d.argv[1:]...) //nolint:noctx // it outlives the call
	cmd.Stdout, cmd.Stderr = log, log
	// A Ctrl-C is for the program that uses the lab, which then stops us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	d.cmd, d.done = cmd, done
	go func() {
		_ = cmd.Wait() // the log says why, if it was not us
		close(done)
	}()
	return nil
}

// running needs mu.
func (d *Daemon) running() bool {
	if d.cmd == nil {
		return false
	}
	select {
	case <-d.done:
		return false
	default:
		return true
	}
}

// Stop asks the daemon to end (SIGTERM) and waits until it has.
func (d *Daemon) Stop(ctx context.Context) error { return d.end(ctx, syscall.SIGTERM) }

// Kill ends the daemon at once (SIGKILL), as a crash would, and waits until it
// is gone. What it had under way stays as it is.
func (d *Daemon) Kill(ctx context.Context) error { return d.end(ctx, syscall.SIGKILL) }

// Restart stops the daemon and starts it again.
func (d *Daemon) Restart(ctx context.Context) error {
	if err := d.Stop(ctx); err != nil {
		return err
	}
	return d.Start(ctx)
}

// Reload sends SIGHUP, on which libvirtd looks for hook files anew, and waits
// until the daemon has, if it says so in its log.
func (d *Daemon) Reload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patient(stopLimit))
	defer cancel()
	before := strings.Count(d.Log(), d.reloaded)
	if err := d.signal(syscall.SIGHUP); err != nil || d.reloaded == "" {
		return err
	}
	err := poll(ctx, func(ctx context.Context) error {
		if strings.Count(d.Log(), d.reloaded) > before {
			// A round trip later it is done.
			return d.at.do(func() error { return d.ready(ctx) })
		}
		return errors.New("not reloaded")
	})
	if err != nil {
		return fmt.Errorf("lab: reload %s: %w", d.name, err)
	}
	return nil
}

// Pause freezes the daemon (SIGSTOP): it keeps its connections and answers
// nothing. Resume lets it go on.
func (d *Daemon) Pause() error { return d.signal(syscall.SIGSTOP) }

// Resume lets a paused daemon go on (SIGCONT).
func (d *Daemon) Resume() error { return d.signal(syscall.SIGCONT) }

func (d *Daemon) signal(s syscall.Signal) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.running() {
		return fmt.Errorf("lab: send %v to %s: it is not running", s, d.name)
	}
	if err := d.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("lab: send %v to %s: %w", s, d.name, err)
	}
	return nil
}

func (d *Daemon) end(ctx context.Context, s syscall.Signal) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patient(stopLimit))
	defer cancel()
	_ = d.cmd.Process.Signal(s)               // it may just have ended
	_ = d.cmd.Process.Signal(syscall.SIGCONT) // it may be paused
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("lab: stop %s: %w", d.name, ctx.Err())
	}
}

// tail returns the last part of a long text.
func tail(text string) string {
	const most = 3000
	if len(text) > most {
		return "..." + text[len(text)-most:]
	}
	return text
}
