// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package state

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Run is one run of the hook program.
type Run struct {
	Format    int           `json:"format"` // set by PutRun
	Time      time.Time     `json:"time"`   // when it began
	Duration  time.Duration `json:"duration"`
	Driver    string        `json:"driver"` // libvirt's: "qemu" or "network"
	Object    string        `json:"object"` // the guest or the network
	Operation string        `json:"operation"`
	// Result is "ok", "warned" (failed, and policy or operation let it pass)
	// or "refused".
	Result string `json:"result"`
	Error  string `json:"error,omitempty"`
}

// The results of a run.
const (
	ResultOK      = "ok"
	ResultWarned  = "warned"
	ResultRefused = "refused"
)

// errorRun is the file name of the last failed run. It is no libvirt driver.
const errorRun = "error"

func (s Store) runPath(driver string) string {
	return filepath.Join(s.RunDir, "hooks", fileName(driver)+".json")
}

// PutRun keeps r as the last run of its driver and, when it failed, as the last
// failed run too: a later success does not hide it.
func (s Store) PutRun(r Run) error {
	r.Format = format
	if r.Result != ResultOK {
		if err := put(s.runPath(errorRun), r); err != nil {
			return err
		}
	}
	return put(s.runPath(r.Driver), r)
}

// LastRun reads the last run for a libvirt driver. The error is
// [fs.ErrNotExist] when there was none since the host booted.
func (s Store) LastRun(driver string) (Run, error) {
	var r Run
	err := get(s.runPath(driver), &r, &r.Format)
	return r, err
}

// LastError reads the last run that failed. The error is [fs.ErrNotExist] when
// there was none since the host booted.
func (s Store) LastError() (Run, error) { return s.LastRun(errorRun) }

// Reload is that virt-vnet made libvirt's daemons look for hooks.
type Reload struct {
	Format int       `json:"format"` // set by PutReload
	Time   time.Time `json:"time"`
	PIDs   []int     `json:"pids"`
}

func (s Store) reloadPath() string { return filepath.Join(s.RunDir, "hooks", "reload.json") }

// PutReload keeps r as the last reload.
func (s Store) PutReload(r Reload) error {
	r.Format = format
	return put(s.reloadPath(), r)
}

// LastReload reads the last reload. The error is [fs.ErrNotExist] when there
// was none since the host booted.
func (s Store) LastReload() (Reload, error) {
	var r Reload
	err := get(s.reloadPath(), &r, &r.Format)
	return r, err
}

// RemoveRuns forgets all runs and the last reload. It succeeds when there are
// none.
func (s Store) RemoveRuns() error {
	if err := os.RemoveAll(filepath.Join(s.RunDir, "hooks")); err != nil {
		return fmt.Errorf("remove records: %w", err)
	}
	return nil
}
