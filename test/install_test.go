// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
)

// install runs make install.
func install(t *testing.T, destDir, prefix string) {
	t.Helper()
	makeTarget(t, "install", destDir, prefix)
}

func makeTarget(t *testing.T, target, destDir, prefix string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "make", "-C", "..", target, "DESTDIR="+destDir, "PREFIX="+prefix)
	cmd.Env = append(os.Environ(), "GOFLAGS=", "MAKEFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make %s: %v\n%s", target, err, out)
	}
}

// files lists the files below dir.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// installed are the files that make install puts in place, with the prefix /usr.
func installed() []string {
	return []string{
		"usr/bin/virt-vnet",
		"usr/lib/systemd/system/virt-vnet-verify.service",
		"usr/lib/systemd/system/virt-vnet-verify.timer",
		"usr/lib/systemd/system/virt-vnet-verify@.service",
		"usr/libexec/virt-vnet/virt-vnet-hook",
	}
}

func TestInstall(t *testing.T) {
	lab.Need(t) // make and systemd's programs come with what the lab needs
	dest := t.TempDir()
	install(t, dest, "/usr")
	want := installed()
	if got := files(t, dest); !slices.Equal(got, want) {
		t.Errorf("installed %v, want %v", got, want)
	}
	unit, err := os.ReadFile(filepath.Join(dest, want[1]))
	if err != nil || !strings.Contains(string(unit), "\nExecStart=/usr/bin/virt-vnet verify --nightly ") {
		t.Errorf("the unit: %v\n%s", err, unit)
	}
	makeTarget(t, "uninstall", dest, "/usr")
	if left := files(t, dest); len(left) != 0 {
		t.Errorf("uninstall leaves %v", left)
	}

	// systemd wants to find the program where the unit says it is.
	prefix := t.TempDir()
	install(t, "", prefix)
	service := filepath.Join(prefix, "lib/systemd/system/virt-vnet-verify.service")
	timer := filepath.Join(prefix, "lib/systemd/system/virt-vnet-verify.timer")
	check := filepath.Join(prefix, "lib/systemd/system", hooks.CheckUnit)
	for _, args := range [][]string{
		{"verify", service, timer, check},
		// 3.0 of 10, as it is now.
		{"security", "--offline=true", "--threshold=30", service},
	} {
		cmd := exec.CommandContext(t.Context(), "systemd-analyze", args...)
		if out, err := cmd.CombinedOutput(); err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %v: %v\n%s", args, err, out)
		}
	}
}

// TestPackages builds the packages, and has their scripts do what they do on a
// host that has the hook.
func TestPackages(t *testing.T) {
	lab.Need(t, lab.Libvirt)
	for _, old := range append(glob(t, "../bin/*.deb"), glob(t, "../bin/*.rpm")...) {
		if err := os.Remove(old); err != nil {
			t.Fatal(err)
		}
	}
	makeTarget(t, "packages", "", "")
	deb, rpm := glob(t, "../bin/virt-vnet_*.deb"), glob(t, "../bin/virt-vnet-*.rpm")
	if len(deb) != 1 || len(rpm) != 1 {
		t.Fatalf("packages %v and %v, want one of each", deb, rpm)
	}
	dir := t.TempDir()
	tool(t, "dpkg-deb", "--raw-extract", deb[0], dir)
	got := slices.DeleteFunc(files(t, dir), func(path string) bool { return strings.HasPrefix(path, "DEBIAN/") })
	if !slices.Equal(got, installed()) {
		t.Errorf("the deb has %v, want %v", got, installed())
	}
	list := tool(t, "rpm", "-qpl", rpm[0])
	for _, path := range installed() {
		if !strings.Contains(list, "/"+path+"\n") {
			t.Errorf("the rpm has no %s:\n%s", path, list)
		}
	}

	labtest.Start(t, lab.Options{Libvirt: true})
	const hook = hooks.DefaultHooksDir + "/qemu.d/virt-vnet"
	t.Setenv("PATH", filepath.Join(dir, "usr/bin")+":"+os.Getenv("PATH"))
	script := func(name, how string, want os.FileMode) {
		t.Helper()
		tool(t, "sh", filepath.Join(dir, "DEBIAN", name), how)
		mode := os.FileMode(0)
		if info, err := os.Stat(hook); err == nil {
			mode = info.Mode()
		}
		if mode != want {
			t.Errorf("after %s %s the hook's mode is %v, want %v", name, how, mode, want)
		}
	}
	const none, program = 0, 0o755
	script("postinst", "configure", none)
	tool(t, "virt-vnet", "hooks", "install")
	if err := os.Chmod(hook, 0o700); err != nil { // as another version's
		t.Fatal(err)
	}
	script("prerm", "upgrade", 0o700)
	script("postinst", "configure", program)
	script("prerm", "remove", none)
	script("postrm", "remove", none)
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return list
}
