// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
)

// DefaultHooksDir is where libvirt looks for hooks on most distributions. It is
// also all that their AppArmor and SELinux policies let libvirt execute, so the
// program is copied there rather than linked to.
const DefaultHooksDir = "/etc/libvirt/hooks"

const (
	// programName is what it is called in a directory of hooks.
	programName = "virt-vnet"
	// sinceHookDirs is the libvirt that runs all programs in <driver>.d.
	sinceHookDirs libvirtnet.Version = 6_005_000
)

// hookedDrivers are libvirt's drivers that we have operations for.
func hookedDrivers() []string { return []string{"qemu", "network"} }

// Options says what to install and where. The zero Options is the host itself,
// with no program to install.
type Options struct {
	// HooksDir is libvirt's directory of hooks; empty means
	// [DefaultHooksDir].
	HooksDir string
	// Binary is the hook program to install a copy of.
	Binary string
	// Libvirt is the version of libvirt, which decides where its hooks are.
	// Zero means 6.5 or newer.
	Libvirt libvirtnet.Version
	// Store is where the hook keeps its last runs and finds its settings.
	Store state.Store
	// VerifyOnStart switches the check of guests after their start on or off.
	// Nil leaves it as it is.
	VerifyOnStart *bool
	// Root is put before /proc and /run; tests use it.
	Root string
}

func (o Options) dir() string {
	if o.HooksDir == "" {
		return DefaultHooksDir
	}
	return o.HooksDir
}

// inDir is our place where libvirt runs a directory of hooks, single where it
// runs a single program.
func (o Options) inDir(driver string) string {
	return filepath.Join(o.dir(), driver+".d", programName)
}
func (o Options) single(driver string) string { return filepath.Join(o.dir(), driver) }
func (o Options) hasDirs() bool               { return o.Libvirt == 0 || o.Libvirt >= sinceHookDirs }

// What was done with a file.
const (
	Installed = "installed"
	Updated   = "updated"
	Unchanged = "unchanged"
	Removed   = "removed"
	Chained   = "chained"  // another program is kept aside and run first
	Restored  = "restored" // the other program is back in its place
	Foreign   = "foreign"  // not ours, not touched
)

// FileAction is what was done with one file.
type FileAction struct {
	Path   string `json:"path"`
	Action string `json:"action"`
}

// Report is what [Install] or [Uninstall] did.
type Report struct {
	Files []FileAction `json:"files"`
	// Reload is the daemons that notice only when they are reloaded: see
	// [Reload].
	Reload []Daemon `json:"reload,omitempty"`
}

func (r *Report) add(path, action string) {
	r.Files = append(r.Files, FileAction{Path: path, Action: action})
}

// Install puts the hook program in place for all drivers, each file at once or
// not at all. Doing it again updates the program, or does nothing when it is the
// same. It refuses when a file of our name is not our program, before it
// touches anything.
func Install(ctx context.Context, o Options) (Report, error) {
	program, err := os.ReadFile(o.Binary)
	if err != nil {
		return Report{}, fmt.Errorf("hook program: %w", err)
	}
	if !isOurs(o.Binary) {
		return Report{}, fmt.Errorf("hook program %s: not virt-vnet-hook: name the program that was built with this one", o.Binary)
	}
	for _, driver := range hookedDrivers() {
		if err := o.checkPlace(driver); err != nil {
			return Report{}, err
		}
	}
	before := o.picksUp() // asked while the directory is as the daemons know it
	var r Report
	for _, driver := range hookedDrivers() {
		place := o.installSingle
		if o.hasDirs() {
			place = o.installInDir
		}
		if err := place(driver, program, &r); err != nil {
			return r, err
		}
	}
	o.relabel(ctx)
	if on := o.VerifyOnStart; on != nil {
		if err := o.Store.PutHookSettings(state.HookSettings{VerifyOnStart: *on}); err != nil {
			return r, err
		}
	}
	for _, d := range before {
		if !d.active {
			r.Reload = appendDaemon(r.Reload, d.daemon)
		}
	}
	return r, nil
}

// checkPlace reports what is in the way of our program.
func (o Options) checkPlace(driver string) error {
	path := o.single(driver)
	aside := path + chainedSuffix
	if o.hasDirs() {
		path = o.inDir(driver)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && isOurs(path):
		return nil
	case err != nil:
		return fmt.Errorf("hook %s: %w", path, err)
	case o.hasDirs():
		return fmt.Errorf("hook %s: there is a file of this name that is not virt-vnet's: move it away first", path)
	case info.IsDir():
		return fmt.Errorf("hook %s: it is a directory: move it away first", path)
	}
	if other, err := os.Lstat(aside); err == nil && !os.SameFile(info, other) {
		return fmt.Errorf("hook %s: not virt-vnet's, and %s exists too: move one of them away first", path, aside)
	}
	return nil
}

// installInDir installs where libvirt runs a directory of hooks. What we had
// for an older libvirt goes.
func (o Options) installInDir(driver string, program []byte, r *Report) error {
	if err := o.removeSingle(driver, r); err != nil {
		return err
	}
	return o.place(o.inDir(driver), program, r)
}

// installSingle installs where libvirt runs one program. The one that is there
// stays beside it, to be run first. Its place is never empty.
func (o Options) installSingle(driver string, program []byte, r *Report) error {
	if err := o.removeInDir(driver, r); err != nil {
		return err
	}
	path := o.single(driver)
	if _, err := os.Lstat(path); err == nil && !isOurs(path) {
		aside := path + chainedSuffix
		if err := os.Link(path, aside); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("hook %s: keep aside: %w", path, err)
		}
		r.add(aside, Chained)
		return o.replace(path, program, Installed, r)
	}
	return o.place(path, program, r)
}

// place writes the program to path, which is ours or free.
func (o Options) place(path string, program []byte, r *Report) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return o.replace(path, program, Installed, r)
	}
	if err != nil {
		return fmt.Errorf("hook %s: %w", path, err)
	}
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, program) && info.Mode() == 0o755 {
		r.add(path, Unchanged)
		return nil
	}
	return o.replace(path, program, Updated, r)
}

// replace writes the program to path in one step. The new file is made in a
// directory that libvirt runs nothing in but by name.
func (o Options) replace(path string, program []byte, action string, r *Report) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("hook %s: %w", path, err)
	}
	f, err := os.CreateTemp(o.dir(), ".virt-vnet-*")
	if err != nil {
		return fmt.Errorf("hook %s: %w", path, err)
	}
	_, err = f.Write(program)
	err = errors.Join(err, f.Chmod(0o755), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("hook %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	r.add(path, action)
	return nil
}

// Uninstall removes our programs and puts back the ones they stood before.
// Everything else stays. It succeeds when nothing is installed.
func Uninstall(_ context.Context, o Options) (Report, error) {
	var r Report
	for _, driver := range hookedDrivers() {
		single := isOurs(o.single(driver))
		if err := errors.Join(o.removeInDir(driver, &r), o.removeSingle(driver, &r)); err != nil {
			return r, err
		}
		if _, err := os.Lstat(o.single(driver)); single && err != nil && !o.hasDirs() {
			// This libvirt would go on to run the program that is gone.
			for _, d := range o.daemons(driver) {
				r.Reload = appendDaemon(r.Reload, d)
			}
		}
	}
	// What is known of the daemons and the hook ends here.
	return r, errors.Join(o.Store.RemoveRuns(), o.Store.RemoveHookSettings())
}

func (o Options) removeInDir(driver string, r *Report) error {
	path := o.inDir(driver)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if !isOurs(path) {
		r.add(path, Foreign)
		return nil
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("hook %s: %w", path, err)
	}
	r.add(path, Removed)
	return nil
}

// removeSingle removes our program from the place of the single one, and puts
// back what was there before.
func (o Options) removeSingle(driver string, r *Report) error {
	path := o.single(driver)
	if !isOurs(path) {
		return nil
	}
	err := os.Rename(path+chainedSuffix, path)
	switch {
	case err == nil:
		r.add(path, Restored)
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("hook %s: put back: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("hook %s: %w", path, err)
	}
	r.add(path, Removed)
	return nil
}

// relabel gives the files the labels that SELinux lets libvirt execute. It is
// of no consequence where there is no SELinux.
func (o Options) relabel(ctx context.Context) {
	if _, err := os.Stat(filepath.Join(o.Root, "/sys/fs/selinux/enforce")); err != nil {
		return
	}
	if restorecon, err := exec.LookPath("restorecon"); err == nil {
		_ = exec.CommandContext(ctx, restorecon, "-R", o.dir()).Run() // the labels of the directory are right on most hosts
	}
}
