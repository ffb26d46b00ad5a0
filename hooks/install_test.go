// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/state"
)

// buildOnce builds the real hook program, once for all tests.
var buildOnce = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "virt-vnet-hook")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "../cmd/virt-vnet-hook")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return path, nil
})

func hookProgram(t *testing.T) string {
	t.Helper()
	path, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// host is an imaginary one: its hooks directory, /proc and /run.
func host(t *testing.T) hooks.Options {
	t.Helper()
	root := t.TempDir()
	o := hooks.Options{
		HooksDir: filepath.Join(root, "etc/libvirt/hooks"),
		Binary:   hookProgram(t),
		Store:    state.Store{StateDir: filepath.Join(root, "state"), RunDir: filepath.Join(root, "run/virt-vnet")},
		Root:     root,
	}
	if err := os.MkdirAll(o.HooksDir, 0o755); err != nil {
		t.Fatal(err)
	}
	return o
}

func put(t *testing.T, dir, name, text string, mode fs.FileMode) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// tree is every file below dir with its mode and content; our program is "OURS".
func tree(t *testing.T, o hooks.Options) map[string]string {
	t.Helper()
	program, err := os.ReadFile(o.Binary)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	err = filepath.WalkDir(o.HooksDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Equal(text, program) {
			text = []byte("OURS")
		}
		name, _ := filepath.Rel(o.HooksDir, path)
		found[name] = fmt.Sprintf("%v %s", info.Mode(), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func checkTree(t *testing.T, o hooks.Options, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, tree(t, o)); diff != "" {
		t.Errorf("hooks directory (-want +got):\n%s", diff)
	}
}

func install(t *testing.T, o hooks.Options, want ...string) hooks.Report {
	t.Helper()
	r, err := hooks.Install(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	checkActions(t, r, want)
	return r
}

func uninstall(t *testing.T, o hooks.Options, want ...string) hooks.Report {
	t.Helper()
	r, err := hooks.Uninstall(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	checkActions(t, r, want)
	return r
}

func checkActions(t *testing.T, r hooks.Report, want []string) {
	t.Helper()
	var got []string
	for _, f := range r.Files {
		got = append(got, f.Action)
	}
	if !slices.Equal(got, want) {
		t.Errorf("report %+v, want the actions %v", r.Files, want)
	}
}

const (
	oursInDir  = "-rwxr-xr-x OURS"
	foreign    = "#!/bin/sh\necho somebody else's\n"
	foreignSet = "-rwxr-x--x " + foreign
)

// Nothing is touched when anything is in the way.
func TestInstallRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		files   map[string]string
		old     bool
		binary  string
		wantErr string
	}{
		"no program":           {binary: "/nowhere", wantErr: "/nowhere"},
		"another program":      {binary: "/bin/sh", wantErr: "not virt-vnet-hook"},
		"another Go program":   {binary: os.Args[0], wantErr: "not virt-vnet-hook"},
		"our name is taken":    {files: map[string]string{"network.d/virt-vnet": foreign}, wantErr: "network.d/virt-vnet: there is a file"},
		"a guest has our name": {files: map[string]string{"qemu.d/virt-vnet/start/begin/x": foreign}, wantErr: "qemu.d/virt-vnet: there is a file"},
		"two foreign scripts": {
			files: map[string]string{"network": foreign, "network.virt-vnet-chained": "other"}, old: true,
			wantErr: "network.virt-vnet-chained exists too",
		},
		"a directory": {files: map[string]string{"qemu/x": ""}, old: true, wantErr: "is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			o := host(t)
			for file, text := range tc.files {
				put(t, o.HooksDir, file, text, 0o755)
			}
			if tc.old {
				o.Libvirt = 6_004_000
			}
			before := tree(t, o)
			program := o.Binary
			if tc.binary != "" {
				o.Binary = tc.binary
			}
			r, err := hooks.Install(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), tc.wantErr) || len(r.Files) > 0 {
				t.Errorf("report %+v, error %v, want one with %q", r, err, tc.wantErr)
			}
			o.Binary = program
			checkTree(t, o, before)
		})
	}
}

func TestInstallInDirectories(t *testing.T) {
	o := host(t)
	others := map[string]string{"qemu": foreignSet, "qemu.d/50-site": foreignSet}
	for name := range others {
		put(t, o.HooksDir, name, foreign, 0o751)
	}
	want := maps.Clone(others)
	want["qemu.d/virt-vnet"], want["network.d/virt-vnet"] = oursInDir, oursInDir
	install(t, o, hooks.Installed, hooks.Installed)
	checkTree(t, o, want)
	install(t, o, hooks.Unchanged, hooks.Unchanged)

	// Another version, and one that somebody made a link.
	ours := filepath.Join(o.HooksDir, "qemu.d/virt-vnet")
	f, err := os.OpenFile(ours, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("another version"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(o.HooksDir, "network.d/virt-vnet")
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(o.Binary, link); err != nil {
		t.Fatal(err)
	}
	install(t, o, hooks.Updated, hooks.Updated)
	checkTree(t, o, want)

	uninstall(t, o, hooks.Removed, hooks.Removed)
	checkTree(t, o, others)
	uninstall(t, o)
}

func TestUninstallLeavesForeign(t *testing.T) {
	o := host(t)
	put(t, o.HooksDir, "qemu.d/virt-vnet", foreign, 0o751)
	put(t, o.HooksDir, "network", foreign, 0o751)
	uninstall(t, o, hooks.Foreign)
	checkTree(t, o, map[string]string{"qemu.d/virt-vnet": foreignSet, "network": foreignSet})
}

// Before libvirt 6.5 there is one program for each driver.
func TestInstallSingle(t *testing.T) {
	o := host(t)
	o.Libvirt = 6_004_000
	put(t, o.HooksDir, "qemu", foreign, 0o751)
	put(t, o.HooksDir, "qemu.d/50-site", foreign, 0o751) // not run by this libvirt
	before := tree(t, o)
	want := map[string]string{
		"qemu": oursInDir, "qemu.virt-vnet-chained": foreignSet, "network": oursInDir, "qemu.d/50-site": foreignSet,
	}
	info, err := os.Stat(filepath.Join(o.HooksDir, "qemu"))
	if err != nil {
		t.Fatal(err)
	}
	install(t, o, hooks.Chained, hooks.Installed, hooks.Installed)
	checkTree(t, o, want)
	install(t, o, hooks.Unchanged, hooks.Unchanged)
	checkTree(t, o, want)
	uninstall(t, o, hooks.Restored, hooks.Removed)
	checkTree(t, o, before)
	again, err := os.Stat(filepath.Join(o.HooksDir, "qemu"))
	if err != nil || !os.SameFile(info, again) || !again.ModTime().Equal(info.ModTime()) {
		t.Errorf("the script is not the file that it was: %v", err)
	}
}

// When libvirt is upgraded, the next install moves to its directories, and the
// script that was chained gets its place back.
func TestInstallAfterUpgrade(t *testing.T) {
	o := host(t)
	o.Libvirt = 6_004_000
	put(t, o.HooksDir, "qemu", foreign, 0o751)
	install(t, o, hooks.Chained, hooks.Installed, hooks.Installed)
	o.Libvirt = 9_000_000
	install(t, o, hooks.Restored, hooks.Installed, hooks.Removed, hooks.Installed)
	checkTree(t, o, map[string]string{
		"qemu": foreignSet, "qemu.d/virt-vnet": oursInDir, "network.d/virt-vnet": oursInDir,
	})
	o.Libvirt = 6_004_000
	install(t, o, hooks.Removed, hooks.Chained, hooks.Installed, hooks.Removed, hooks.Installed)
	uninstall(t, o, hooks.Restored, hooks.Removed)
	checkTree(t, o, map[string]string{"qemu": foreignSet})
}

// An installation that died half-way is finished by the next.
func TestInstallResumes(t *testing.T) {
	o := host(t)
	o.Libvirt = 6_004_000
	put(t, o.HooksDir, "qemu", foreign, 0o751)
	script := filepath.Join(o.HooksDir, "qemu")
	if err := os.Link(script, script+".virt-vnet-chained"); err != nil {
		t.Fatal(err)
	}
	install(t, o, hooks.Chained, hooks.Installed, hooks.Installed)
	uninstall(t, o, hooks.Restored, hooks.Removed)
	checkTree(t, o, map[string]string{"qemu": foreignSet})
}

// libvirtd puts a daemon into the imaginary host's /proc that started at that
// time, with the id of this process.
func libvirtd(t *testing.T, o hooks.Options, started time.Time) {
	t.Helper()
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		t.Fatal(err)
	}
	ticks := (time.Duration(boot.Nano()) - time.Since(started)) / (10 * time.Millisecond)
	pid := fmt.Sprint(os.Getpid())
	proc := filepath.Join(o.Root, "proc", pid)
	put(t, proc, "comm", "libvirtd\n", 0o644)
	put(t, proc, "stat", fmt.Sprintf("%s (a ) b) S 1%s %d 0 0\n", pid, strings.Repeat(" 0", 17), ticks), 0o644)
	put(t, filepath.Join(o.Root, "run"), "libvirtd.pid", pid+"\n", 0o644)
}

func reloads(r hooks.Report) int { return len(r.Reload) }

func checkActive(t *testing.T, o hooks.Options, want bool, evidence string) {
	t.Helper()
	status, err := hooks.GetStatus(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, hook := range status.Hooks {
		if hook.Active != want || !strings.Contains(hook.Evidence, evidence) {
			t.Errorf("%s: active %v, %q, want %v with %q", hook.Driver, hook.Active, hook.Evidence, want, evidence)
		}
	}
}

func TestReloadIsDue(t *testing.T) {
	o := host(t)
	if n := reloads(install(t, o, hooks.Installed, hooks.Installed)); n != 0 {
		t.Errorf("%d reloads due without a daemon", n)
	}
	checkActive(t, o, true, "no libvirt daemon runs")
	uninstall(t, o, hooks.Removed, hooks.Removed)

	libvirtd(t, o, time.Now().Add(-time.Minute))
	r := install(t, o, hooks.Installed, hooks.Installed)
	if n := reloads(r); n != 1 || r.Reload[0].Name != "libvirtd" || r.Reload[0].PID != os.Getpid() {
		t.Fatalf("reload %+v, want libvirtd once", r.Reload)
	}
	if age := time.Since(r.Reload[0].Started); age < time.Minute || age > time.Minute+10*time.Second {
		t.Errorf("libvirtd started %v ago, want a minute", age)
	}
	checkActive(t, o, false, "systemctl reload libvirtd")
	if n := reloads(install(t, o, hooks.Unchanged, hooks.Unchanged)); n != 1 {
		t.Errorf("%d reloads due the second time, want 1", n)
	}
	if err := o.Store.PutReload(state.Reload{Time: time.Now(), PIDs: []int{os.Getpid()}}); err != nil {
		t.Fatal(err)
	}
	checkActive(t, o, true, "was reloaded")
	if n := reloads(install(t, o, hooks.Unchanged, hooks.Unchanged)); n != 0 {
		t.Errorf("%d reloads due after a reload", n)
	}
	uninstall(t, o, hooks.Removed, hooks.Removed)
	checkActive(t, o, false, "not installed")
}

// A daemon that found a hook of somebody else finds ours without a reload.
func TestNoReloadAfterOtherHook(t *testing.T) {
	for name, tc := range map[string]struct {
		file string // of qemu
		mode fs.FileMode
		old  bool // libvirt
		want int
	}{
		"not executable": {"qemu", 0o644, false, 1},
		"directory, old": {"qemu.d/10-site", 0o755, true, 1},
		"of a guest":     {"qemu.d/g1/10-site", 0o755, false, 1},
		"single":         {"qemu", 0o755, false, 0},
		"single, old":    {"qemu", 0o755, true, 0},
		"in a directory": {"qemu.d/10-site", 0o755, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := host(t)
			if tc.old {
				o.Libvirt = 6_004_000
			}
			put(t, o.HooksDir, tc.file, foreign, tc.mode)
			put(t, o.HooksDir, "network", foreign, 0o755)
			libvirtd(t, o, time.Now().Add(time.Second))
			r, err := hooks.Install(t.Context(), o)
			if err != nil || reloads(r) != tc.want {
				t.Errorf("reload %+v, %v, want %d", r.Reload, err, tc.want)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	o := host(t)
	libvirtd(t, o, time.Now().Add(-time.Minute))
	checkActive(t, o, false, "not installed")
	install(t, o, hooks.Installed, hooks.Installed)
	old := state.Run{Time: time.Now().Add(-time.Hour), Driver: "network", Result: state.ResultOK}
	for _, old.Driver = range []string{"network", "qemu"} {
		if err := o.Store.PutRun(old); err != nil {
			t.Fatal(err)
		}
	}
	checkActive(t, o, false, "systemctl reload") // those ran under an earlier libvirtd
	runs := []state.Run{
		{Time: time.Now(), Driver: "network", Object: "red", Operation: "port-created", Result: state.ResultRefused, Error: "no"},
		{Time: time.Now(), Driver: "network", Object: "red", Operation: "started", Result: state.ResultOK},
		{Time: time.Now(), Driver: "qemu", Object: "g1", Operation: "start", Result: state.ResultOK},
	}
	for _, run := range runs {
		if err := o.Store.PutRun(run); err != nil {
			t.Fatal(err)
		}
	}
	checkActive(t, o, true, "it ran at")
	status, err := hooks.GetStatus(o)
	if err != nil {
		t.Fatal(err)
	}
	if status.LastError == nil || status.LastError.Operation != "port-created" {
		t.Errorf("last error %+v, want the one of port-created", status.LastError)
	}
	for _, hook := range status.Hooks {
		if !hook.Installed || !hook.Current || hook.LastRun == nil || hook.LastRun.Driver != hook.Driver {
			t.Errorf("%+v, want it installed, current, and with its last run", hook)
		}
	}
	o.Binary = "/bin/sh"
	if status, err = hooks.GetStatus(o); err != nil || status.Hooks[0].Current {
		t.Errorf("%+v, %v, want it not to be current", status.Hooks[0], err)
	}
}
