// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/state"
)

// Status is how it is with the hooks of the host. Its JSON form is part of the
// command line's contract.
type Status struct {
	Hooks []HookStatus `json:"hooks"`
	// VerifyOnStart says that guests are checked after their start, by the unit
	// of systemd at CheckUnit, which is empty when there is none.
	VerifyOnStart bool   `json:"verifyOnStart"`
	CheckUnit     string `json:"checkUnit,omitempty"`
	// LastError is the last run that failed since the host booted, or nil.
	LastError *state.Run `json:"lastError,omitempty"`
}

// HookStatus is how it is with the hook of one libvirt driver.
type HookStatus struct {
	Driver    string `json:"driver"`
	Path      string `json:"path"`
	Installed bool   `json:"installed"`
	// Version is of the installed program.
	Version string `json:"version,omitempty"`
	// Current says that the installed program is the one of Options.Binary.
	Current bool `json:"current"`
	// Chained is the script that the program runs first.
	Chained string `json:"chained,omitempty"`
	// Daemons are those that run for this driver.
	Daemons []Daemon `json:"daemons,omitempty"`
	// Active says that every one of them runs the hook. Evidence says how that
	// is known, or what to do.
	Active   bool   `json:"active"`
	Evidence string `json:"evidence"`
	// LastRun is nil when there was none since the host booted.
	LastRun *state.Run `json:"lastRun,omitempty"`
}

// GetStatus finds out how it is with the hooks. What cannot be found out is
// missing in the status and told by the error.
func GetStatus(o Options) (Status, error) {
	var status Status
	var errs []error
	for _, driver := range hookedDrivers() {
		hook, err := o.hookStatus(driver)
		errs = append(errs, err)
		status.Hooks = append(status.Hooks, hook)
	}
	settings, err := o.Store.HookSettings()
	if !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	status.VerifyOnStart, status.CheckUnit = settings.VerifyOnStart, o.checkUnitPath()
	status.LastError, err = lastRun(o.Store.LastError())
	return status, errors.Join(append(errs, err)...)
}

func (o Options) hookStatus(driver string) (HookStatus, error) {
	hook := HookStatus{Driver: driver, Path: o.inDir(driver), Daemons: o.daemons(driver)}
	if !o.hasDirs() || isOurs(o.single(driver)) {
		hook.Path = o.single(driver)
		if aside := hook.Path + chainedSuffix; exists(aside) {
			hook.Chained = aside
		}
	}
	var errRun, errFile error
	hook.LastRun, errRun = lastRun(o.Store.LastRun(driver))
	if hook.Version, hook.Installed = programVersion(hook.Path); !hook.Installed {
		hook.Evidence = "not installed: install with: virt-vnet hooks install"
		return hook, errRun
	}
	if o.Binary != "" {
		hook.Current, errFile = sameContent(hook.Path, o.Binary)
	}
	hook.Active, hook.Evidence = o.evidence(hook)
	return hook, errors.Join(errRun, errFile)
}

// evidence tells whether all daemons run the installed hook. Libvirt looks for
// the hooks of a driver when it starts and when it is reloaded; once it has
// found any, it finds later ones in a directory without being told.
func (o Options) evidence(hook HookStatus) (active bool, text string) {
	if len(hook.Daemons) == 0 {
		return true, "no libvirt daemon runs: it finds the hook when it starts"
	}
	for _, d := range hook.Daemons {
		if active, text = o.evidenceFor(hook, d); !active {
			break
		}
	}
	return active, text
}

// evidenceFor trusts records of earlier runs and reloads even when the program
// was replaced since: an update changes nothing for the daemon, and [Uninstall]
// drops the records.
func (o Options) evidenceFor(hook HookStatus, d Daemon) (active bool, text string) {
	if run := hook.LastRun; run != nil && run.Time.After(d.Started) {
		return true, fmt.Sprintf("it ran at %s", run.Time.Format(time.DateTime))
	}
	if d.Started.After(changed(hook.Path)) {
		return true, fmt.Sprintf("%s started later than the hook was installed", d.Name)
	}
	if o.hadHook(hook.Driver, hook.Path, d) {
		return true, fmt.Sprintf("%s had found another %s hook when it started", d.Name, hook.Driver)
	}
	reload, err := o.Store.LastReload()
	if err == nil && slices.Contains(reload.PIDs, d.PID) && reload.Time.After(d.Started) {
		return true, fmt.Sprintf("%s was reloaded at %s", d.Name, reload.Time.Format(time.DateTime))
	}
	return false, fmt.Sprintf("%s (process %d) started before there was any %s hook: reload it with: "+
		"systemctl reload %s", d.Name, d.PID, hook.Driver, d.Name)
}

// hadHook reports whether there was a hook of the driver, other than the one at
// path, when the daemon started.
func (o Options) hadHook(driver, path string, d Daemon) bool {
	files, err := filepath.Glob(filepath.Join(o.dir(), driver+".d", "*"))
	if err != nil || !o.hasDirs() {
		files = nil
	}
	for _, file := range append(files, o.single(driver)) {
		info, err := os.Stat(file)
		if err != nil || file == path || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		if changed(file).Before(d.Started) {
			return true
		}
	}
	return false
}

// pickup is whether a daemon would run a hook that is installed now.
type pickup struct {
	daemon Daemon
	active bool
}

// picksUp tells for each daemon whether it runs hooks of its drivers already.
func (o Options) picksUp() []pickup {
	var all []pickup
	for _, driver := range hookedDrivers() {
		hook, _ := o.hookStatus(driver) // what is not known counts as not active
		for _, d := range hook.Daemons {
			active := o.hadHook(driver, "", d)
			if hook.Installed {
				active, _ = o.evidenceFor(hook, d)
			}
			all = append(all, pickup{d, active})
		}
	}
	return all
}

// changed returns when the file was put in its place, which its own time of
// modification need not tell; zero when there is none.
func changed(path string) time.Time {
	info, err := os.Lstat(path)
	if err != nil {
		return time.Time{}
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.ModTime()
	}
	return time.Unix(stat.Ctim.Sec, stat.Ctim.Nsec)
}

func lastRun(run state.Run, err error) (*state.Run, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no run is no error
	}
	if err != nil {
		return nil, err
	}
	return &run, nil
}

func sameContent(a, b string) (bool, error) {
	dataA, errA := os.ReadFile(a)
	dataB, errB := os.ReadFile(b)
	return bytes.Equal(dataA, dataB) && errA == nil && errB == nil, errors.Join(errA, errB)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
