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

func TestInstall(t *testing.T) {
	lab.Need(t) // make and systemd's programs come with what the lab needs
	dest := t.TempDir()
	install(t, dest, "/usr")
	want := []string{
		"usr/bin/virt-vnet",
		"usr/lib/systemd/system/virt-vnet-verify.service",
		"usr/lib/systemd/system/virt-vnet-verify.timer",
		"usr/lib/systemd/system/virt-vnet-verify@.service",
		"usr/libexec/virt-vnet/virt-vnet-hook",
	}
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
