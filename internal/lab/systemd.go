// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	_ "embed"
	"fmt"
)

// UnitDir is where the lab's systemd finds units. It has no others, not even
// those of the machine.
const UnitDir = "/run/systemd/system"

//go:embed files/systemd.sh
var systemdScript string

// StartSystemd starts a real systemd that knows the units in UnitDir. Its
// services share the lab's network and files. It does nothing when it runs
// already.
//
// systemd must be the first process of a PID namespace and talks to processes of
// that one only: run them with [Lab.BesideSystemd].
func (l *Lab) StartSystemd(ctx context.Context) error { return l.systemd.Start(ctx) }

// Systemd returns the lab's systemd, whether it runs or not. It ends by Kill
// only.
func (l *Lab) Systemd() *Daemon { return l.systemd }

// BesideSystemd returns the command line that runs argv where systemd, which must
// run, sees it.
func (l *Lab) BesideSystemd(argv ...string) []string { return beside(l.systemd.PID(), argv...) }

func beside(unshare int, argv ...string) []string {
	return append([]string{"nsenter", fmt.Sprintf("--pid=/proc/%d/ns/pid_for_children", unshare), "--"}, argv...)
}

func newSystemd(at *place) *Daemon {
	d := &Daemon{
		name: "systemd",
		at:   at,
		argv: []string{
			"unshare", "--pid", "--mount", "--uts", "--cgroup", "--fork", "--mount-proc", "--kill-child", "sh", "-c", systemdScript,
		},
		log: "/var/log/systemd.out",
	}
	d.ready = func(ctx context.Context) error { // called with the lock held
		_, err := run(ctx, beside(d.cmd.Process.Pid, "systemctl", "show", "--property=Version")...)
		return err
	}
	return d
}
