// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vm

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

const verdictPass = "\nvm: verdict pass\n"

// machine is a virtual machine that does one job and powers off.
type machine struct {
	script  string     // the job, which files/init.sh takes in
	modules []string   // of the kernel, loaded before the job
	files   []lab.File // beside busybox and the scripts
	words   []string   // NAME=VALUE without dots and spaces: of the kernel, or variables of the script
	options []string   // of QEMU: its size and devices
}

// run boots the machine and returns what its console showed. The error is
// [ErrFailed] when the job did not end well.
func (m machine) run(ctx context.Context, dir string) (console string, err error) {
	files := append(slices.Clone(m.files),
		lab.File{Name: "init", Mode: 0o755, Data: []byte(initScript)},
		lab.File{Name: "job.sh", Mode: 0o644, Data: []byte(m.script)})
	boot, err := lab.WriteBoot(ctx, dir, m.modules, files)
	if err != nil {
		return "", fmt.Errorf("vm: %w", err)
	}
	console, err = m.emulate(ctx, boot)
	switch {
	case err != nil:
		return console, fmt.Errorf("vm: run QEMU: %w", err)
	case !strings.Contains("\n"+console, verdictPass):
		return console, ErrFailed
	default:
		return console, nil
	}
}

// emulate runs QEMU until the virtual machine powers off, and returns what came
// over its serial port.
func (m machine) emulate(ctx context.Context, boot lab.Boot) (string, error) {
	// The parent-death signal is sent when the thread ends that started the
	// child, not when the process does: keep the thread until the child is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	// With norandmaps each start of ip finds its libraries where they were and
	// QEMU has them translated already: a third of the time. The kernel hands
	// words that it does not know, and which have no dot, to init.
	words := append([]string{
		"console=ttyS0", "quiet", "panic=-1", "mitigations=off", "tsc=reliable", "norandmaps",
		"MODULES=" + strings.Join(boot.Modules, ","),
	}, m.words...)
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{
		"-M", "pc", "-cpu", "max", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", boot.Kernel, "-initrd", boot.Initrd, "-append", strings.Join(words, " "),
	}, m.options...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // says more than that QEMU was killed
	}
	return strings.ReplaceAll(string(out), "\r", ""), err
}
