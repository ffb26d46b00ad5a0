// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// stageEnv tells a re-executed program which part it plays. Its value is
// "init", "keeper of", or "payload" followed by the process namespace it was set in, so
// that a value which leaked out of a lab means nothing.
const stageEnv = "VIRT_VNET_LAB_STAGE"

// reasonEnv carries from Main to Need why there is no lab.
const reasonEnv = "VIRT_VNET_LAB_UNAVAILABLE"

// killDelay is how long a cancelled lab may take to end by itself.
const killDelay = 5 * time.Second

// Enter moves the program into a new lab by running it again, with the same
// arguments, environment and standard files, inside fresh namespaces. Call it
// first in main, before the program has side effects:
//
//	inside, code, err := lab.Enter(ctx)
//	if err != nil { ... }
//	if !inside {
//		os.Exit(code)
//	}
//	// from here on, the program is in the lab
//
// In the re-executed program inside is true, at once. In the outer one Enter
// blocks until the inner one has ended, and code is its exit status (128 plus
// the number for a signal). SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on,
// once each; the inner program is not in the terminal's foreground, so it must
// not read from a terminal. When ctx ends, the inner program gets SIGTERM, and
// everything is killed a few seconds later.
//
// Inside, these are private: /run, /dev, /proc, /sys, copy-on-write views of
// /etc, /var/lib, /var/log and /var/cache, and empty directories in the places
// where libvirt, Open vSwitch and virt-vnet keep their files. /dev has kvm only
// with [KVMEnv].
//
// The error wraps [ErrUnavailable] when this machine or user cannot have a lab
// at all.
func Enter(ctx context.Context) (inside bool, code int, err error) {
	switch {
	case Inside():
		return true, 0, nil
	case os.Getenv(stageEnv) == "init" && os.Getpid() == 1:
		return false, runInit(), nil
	case os.Getenv(stageEnv) == keeperStage():
		return false, runKeeper(), nil
	}
	if os.Geteuid() != 0 {
		return false, 0, fmt.Errorf("%w: needs root, runs as uid %d", ErrUnavailable, os.Geteuid())
	}
	code, err = launch(ctx)
	return false, code, err
}

// Main runs a package's tests inside one lab. It is the whole of a TestMain:
//
//	func TestMain(m *testing.M) { lab.Main(m) }
//
// The test binary runs itself again inside, with the same flags: -run, -v,
// -race, -timeout, -coverprofile and the like behave as usual. Where no lab can
// be had the tests run outside, and those that call [Need] skip or fail.
func Main(m interface{ Run() int }) {
	inside, code, err := Enter(context.Background())
	switch {
	case errors.Is(err, ErrUnavailable):
		_ = os.Setenv(reasonEnv, err.Error()) // without it, Need has a vaguer reason
		m.Run()
	case inside:
		m.Run()
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	default:
		// This process has run no test, so the testing package knows of no status.
		os.Exit(code)
	}
}

// Inside reports whether this process runs inside a lab.
func Inside() bool {
	return os.Getenv(stageEnv) == payloadStage()
}

func payloadStage() string {
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "payload"
	}
	return "payload " + ns
}

// Outside is the environment for a program that is started inside a lab and shall
// have one of its own, within.
func Outside() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, stageEnv+"=") })
}

// withStage returns the environment with the stage set to value.
func withStage(value string) []string { return append(Outside(), stageEnv+"="+value) }

// launch runs this program as the first process of new namespaces and waits
// for its end.
func launch(ctx context.Context) (int, error) {
	// The parent-death signal is sent when the thread ends that started the
	// child, not when the process does: keep the thread until the child is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = withStage("init")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig: syscall.SIGKILL,
		// Its own process group, so that a Ctrl-C arrives once, through us.
		Setpgid: true,
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = killDelay

	signals := make(chan os.Signal, 8)
	signal.Notify(signals, passedOn()...)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) {
			return 0, fmt.Errorf("%w: new namespaces: %w", ErrUnavailable, err)
		}
		return 0, fmt.Errorf("lab: new namespaces: %w", err)
	}
	stop := forward(signals, cmd.Process.Signal)
	defer stop()
	return exitCode(cmd.Wait())
}

func passedOn() []os.Signal {
	return []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}
}

// forward hands each signal on until stop is called.
func forward(signals <-chan os.Signal, send func(os.Signal) error) (stop func()) {
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				_ = send(s) // the receiver may just have ended
			case <-done:
				return
			}
		}
	}()
	return func() { close(done) }
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return statusCode(exit.Sys().(syscall.WaitStatus)), nil
	default:
		return 0, fmt.Errorf("lab: wait for the inner process: %w", err)
	}
}

// statusCode is the shell's convention: 128 plus the signal's number.
func statusCode(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
