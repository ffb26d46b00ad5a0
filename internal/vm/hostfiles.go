// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vm

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"strings"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

//go:embed files/hostfiles.sh
var hostFilesScript string

// RunOnHostFiles boots a virtual machine whose files are this machine's, every
// one where it is here, and runs one program of them as root, in the caller's
// working directory. So libvirtd, QEMU and whatever else is installed can be
// used on Debian's kernel. The emulated CPU has AMD's virtualisation, so guests
// in there run by KVM and are not emulated twice. What is written there goes to
// memory and is lost. Its processes, links and mounts are its own, and its
// kernel loads modules on demand. dir and the results are as with [Run]; nothing but ctx bounds the
// time.
//
// The files are those that this process sees. In a lab, /run is the lab's.
func RunOnHostFiles(ctx context.Context, dir string, argv ...string) (console string, err error) {
	here, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("vm: %w", err)
	}
	var command strings.Builder
	for _, word := range append([]string{here}, argv...) {
		fmt.Fprintf(&command, " '%s'", strings.ReplaceAll(word, "'", `'\''`))
	}
	// It has one CPU, as QEMU 7.2 may for ever run the breakpoint that one CPU of
	// several puts in the place of an instruction while the kernel patches itself.
	// And its tick is periodic: where an interrupt comes just as a guest is entered
	// or left, QEMU may lose it, and a timer that is set for once would be the last.
	return machine{
		script:  hostFilesScript,
		modules: []string{"virtio_pci", "9pnet_virtio", "9p", "overlay", "tun", "kvm-amd"},
		files:   []lab.File{{Name: "command.sh", Mode: 0o644, Data: []byte("set --" + command.String() + "\n")}},
		words:   []string{"nohz=off", "highres=off"},
		options: []string{
			"-accel", "tcg", "-smp", "1", "-m", "2048",
			"-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap",
		},
	}.run(ctx, dir)
}
