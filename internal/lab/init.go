// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/vishvananda/netlink"
)

// setupFailed is the exit status when the namespaces could not be furnished.
const setupFailed = 125

// runInit is the life of the namespaces' first process: furnish them, start
// the payload, collect dead children until the payload has ended. When it
// returns and the process exits, the kernel kills whatever is left.
func runInit() int {
	if err := furnish(); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return setupFailed
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, passedOn()...)
	pid, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{
		Env:   withStage(payloadStage()),
		Files: []uintptr{0, 1, 2},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab: start the payload:", err)
		return setupFailed
	}
	defer forward(signals, func(s os.Signal) error {
		return syscall.Kill(pid, s.(syscall.Signal))
	})()
	return reap(pid)
}

// reap collects every child, adopted ones too, until the payload has ended.
func reap(payload int) int {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			fmt.Fprintln(os.Stderr, "lab: wait for the payload:", err)
			return setupFailed
		case pid == payload && (ws.Exited() || ws.Signaled()):
			return statusCode(ws)
		}
	}
}

// furnish turns fresh namespaces into something like a just booted host.
func furnish() error {
	for _, step := range []func() error{
		mountFiles, mountDev, mountKernel, writeConfig, nameHost, loopbackUp, watchTaps,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// localNames is /etc/hosts.
const localNames = "127.0.0.1 localhost lab\n::1 localhost\n"

func nameHost() error {
	if err := syscall.Sethostname([]byte("lab")); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	return os.WriteFile("/etc/hosts", []byte(localNames), 0o644)
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}
