// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vm

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

const (
	// testLimit bounds each test binary: some four times what the slowest takes
	// on a busy machine.
	testLimit = 4 * time.Minute

	// bootLimit is what booting and the rest may take.
	bootLimit = time.Minute

	verdictPass = "\nvm: verdict pass\n"
)

// ErrFailed says that the virtual machine ran and that not every program in it
// succeeded, or that it ended before that was known.
var ErrFailed = errors.New("tests failed inside the virtual machine")

//go:embed files/init.sh
var initScript string

// modules are what the lab and the switch drivers need of the kernel.
func modules() []string {
	return []string{"overlay", "bridge", "8021q", "veth", "tun", "dummy"}
}

// Inside reports whether this process runs inside the virtual machine. There, a
// test which finds that the kernel lacks something should fail.
func Inside() bool { return os.Getenv("VIRT_VNET_VM") == "1" }

// Build compiles the tests of a package, named as for the go tool, to a static
// binary at path. The error holds the compiler's words.
func Build(ctx context.Context, pkg, path string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("vm: build the tests of %s: %w: %s", pkg, err, out)
	}
	return nil
}

// Run boots a virtual machine that runs the test binaries, static programs, one
// after the other and powers off. It returns what its console showed. Its files
// go to the directory dir, which is the caller's to remove. The end of ctx is
// the end of QEMU.
//
// The error is [ErrFailed] unless every program succeeded, and that of ctx when
// it has ended.
func Run(ctx context.Context, dir string, binaries ...string) (console string, err error) {
	ctx, cancel := context.WithTimeout(ctx, bootLimit+time.Duration(len(binaries))*testLimit)
	defer cancel()
	files, err := userspace(ctx, binaries)
	if err != nil {
		return "", fmt.Errorf("vm: %w", err)
	}
	boot, err := lab.WriteBoot(ctx, dir, modules(), files)
	if err != nil {
		return "", fmt.Errorf("vm: %w", err)
	}
	console, err = emulate(ctx, boot)
	switch {
	case err != nil:
		return console, fmt.Errorf("vm: run QEMU: %w", err)
	case !strings.Contains("\n"+console, verdictPass):
		return console, ErrFailed
	default:
		return console, nil
	}
}

// userspace collects the files of the virtual machine.
func userspace(ctx context.Context, binaries []string) ([]lab.File, error) {
	paths := map[string]string{} // from the name inside to the path here
	for _, path := range binaries {
		paths["tests/"+filepath.Base(path)] = path
	}
	for _, name := range []string{"ip", "bridge"} {
		path, err := exec.LookPath(name)
		if err != nil {
			return nil, err
		}
		paths["sbin/"+name] = path
		libraries, err := sharedLibraries(ctx, path)
		if err != nil {
			return nil, err
		}
		for _, path := range libraries {
			paths[strings.TrimPrefix(path, "/")] = path
		}
	}
	files := []lab.File{{Name: "init", Mode: 0o755, Data: []byte(initScript)}}
	for name, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files = append(files, lab.File{Name: name, Mode: 0o755, Data: data})
	}
	return files, nil
}

// sharedLibraries lists the paths of what a program is linked with, the loader
// too.
func sharedLibraries(ctx context.Context, program string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "ldd", program).Output()
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w", program, err)
	}
	var paths []string
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "/") {
			paths = append(paths, word)
		}
	}
	return paths, nil
}

// emulate runs QEMU until the virtual machine powers off, and returns what came
// over its serial port.
func emulate(ctx context.Context, boot lab.Boot) (string, error) {
	// The parent-death signal is sent when the thread ends that started the
	// child, not when the process does: keep the thread until the child is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	// With norandmaps each start of ip finds its libraries where they were and
	// QEMU has them translated already: a third of the time. The kernel hands
	// words that it does not know, and which have no dot, to init.
	cmdline := fmt.Sprintf("console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable norandmaps MODULES=%s TIMEOUT=%s",
		strings.Join(boot.Modules, ","), testLimit)
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-cpu", "max",
		"-smp", "1", "-m", "512", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", boot.Kernel, "-initrd", boot.Initrd, "-append", cmdline)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // says more than that QEMU was killed
	}
	return strings.ReplaceAll(string(out), "\r", ""), err
}
