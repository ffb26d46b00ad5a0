// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/internal/state"
)

// Daemon is one running daemon of libvirt that runs hooks.
type Daemon struct {
	Name    string    `json:"name"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
}

// daemonNames returns the daemons that run the hooks of a driver: the one of
// the modular set-up, and the one for everything.
func daemonNames(driver string) []string {
	if driver == "network" {
		return []string{"virtnetworkd", "libvirtd"}
	}
	return []string{"virtqemud", "libvirtd"}
}

// daemons returns those that run for a driver.
func (o Options) daemons(driver string) []Daemon {
	var found []Daemon
	for _, name := range daemonNames(driver) {
		for _, pid := range o.pids(name) {
			found = append(found, Daemon{Name: name, PID: pid, Started: o.started(pid)})
		}
	}
	return found
}

// pids finds a daemon by its pid file, or else by its name among the processes
// that see the same files as we do: there may be others in containers.
func (o Options) pids(name string) []int {
	for _, file := range []string{"/run/" + name + ".pid", "/run/libvirt/" + name + ".pid"} {
		text, err := os.ReadFile(filepath.Join(o.Root, file))
		if err != nil {
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && o.comm(pid) == name {
			return []int{pid}
		}
	}
	entries, err := os.ReadDir(filepath.Join(o.Root, "/proc"))
	if err != nil {
		return nil
	}
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && o.comm(pid) == name && o.mounts(e.Name()) == o.mounts("self") {
			found = append(found, pid)
		}
	}
	return found
}

func (o Options) comm(pid int) string {
	text, err := os.ReadFile(filepath.Join(o.Root, "/proc", strconv.Itoa(pid), "comm"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func (o Options) mounts(pid string) string {
	ns, err := os.Readlink(filepath.Join(o.Root, "/proc", pid, "ns/mnt"))
	if err != nil {
		return ""
	}
	return ns
}

// started returns when a process began (proc_pid_stat(5), field 22: clock ticks
// after boot), or the zero time.
func (o Options) started(pid int) time.Time {
	const ticks = 100 // USER_HZ, the same on every Linux
	text, err := os.ReadFile(filepath.Join(o.Root, "/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return time.Time{}
	}
	// The second field, the name, can have spaces and ends with the last ")".
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var now unix.Timespec
	if len(fields) < 20 || unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return time.Time{}
	}
	start, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}
	}
	age := time.Duration(now.Nano()) - time.Duration(start)*time.Second/ticks
	return time.Now().Add(-age)
}

func appendDaemon(list []Daemon, d Daemon) []Daemon {
	if slices.ContainsFunc(list, func(other Daemon) bool { return other.PID == d.PID }) {
		return list
	}
	return append(list, d)
}

// Reload makes the daemons look for hooks again, and keeps a note of it. Call it
// when the hooks are installed. The daemons
// do so in the background within a second; guests do not notice.
func Reload(ctx context.Context, o Options, daemons []Daemon) error {
	var errs []error
	note := state.Reload{Time: time.Now()}
	for _, d := range daemons {
		if err := o.reload(ctx, d); err != nil {
			errs = append(errs, fmt.Errorf("reload %s, process %d: %w", d.Name, d.PID, err))
			continue
		}
		note.PIDs = append(note.PIDs, d.PID)
	}
	if len(note.PIDs) > 0 {
		errs = append(errs, o.Store.PutReload(note))
	}
	return errors.Join(errs...)
}

func (o Options) reload(ctx context.Context, d Daemon) error {
	if !o.underSystemd(d) {
		return syscall.Kill(d.PID, syscall.SIGHUP)
	}
	out, err := exec.CommandContext(ctx, "systemctl", "reload", d.Name+".service").CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// underSystemd reports whether the process is the service of its name.
func (o Options) underSystemd(d Daemon) bool {
	if _, err := os.Stat(filepath.Join(o.Root, "/run/systemd/system")); err != nil {
		return false
	}
	text, err := os.ReadFile(filepath.Join(o.Root, "/proc", strconv.Itoa(d.PID), "cgroup"))
	return err == nil && strings.Contains(string(text), "/"+d.Name+".service")
}
