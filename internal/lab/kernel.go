// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// kernel is what guests boot: the machine's newest installed kernel image, and
// the modules of it that they may load.
type kernel struct {
	image string              // the installed one
	boot  string              // the one to start: image, or what is packed in it
	deps  map[string][]string // file names of a module and of what it needs, in loading order
}

// drivers are all modules that a guest may ask for.
func drivers() []string {
	return []string{"virtio_pci", "virtio_net", "virtio_console", "e1000", "e1000e", "8139cp", "8021q"}
}

// errNoKernel says that no kernel package is installed.
var errNoKernel = errors.New("no kernel with modules in /boot and /lib/modules (package linux-image-amd64)")

// guestKernel finds the kernel, unpacks it and makes the initial file system,
// once per Lab or Cluster.
func (l *Lab) guestKernel(ctx context.Context) (kernel, error) {
	b := l.boot
	b.once.Do(func() {
		b.kernel, b.err = findKernel(drivers())
		if b.err == nil {
			b.err = writeInitrd(ctx, b.kernel, initrdPath, guestFiles())
		}
		if b.err == nil && b.kernel.unpack(ctx, imagePath) == nil {
			b.kernel.boot = imagePath
		}
	})
	return b.kernel, b.err
}

// guestBoot is what guests start from, and whether it is made.
type guestBoot struct {
	once   sync.Once
	kernel kernel
	err    error

	agentOnce sync.Once
	agentErr  error
}

// withAgent makes the file system of guests with an agent, once.
func (b *guestBoot) withAgent(ctx context.Context) error {
	b.agentOnce.Do(func() { b.agentErr = writeAgentInitrd(ctx, b.kernel) })
	return b.agentErr
}

// findKernel finds the kernel, and of its modules those that are named.
func findKernel(modules []string) (kernel, error) {
	images, err := filepath.Glob("/boot/vmlinuz-*")
	if err != nil {
		return kernel{}, fmt.Errorf("lab: find a kernel: %w", err)
	}
	var newest os.FileInfo
	k := kernel{deps: map[string][]string{}}
	for _, image := range images {
		st, err := os.Stat(image)
		if err != nil || (newest != nil && st.ModTime().Before(newest.ModTime())) {
			continue
		}
		if _, err := os.Stat(k.modulesDep(image)); err == nil {
			k.image, k.boot, newest = image, image, st
		}
	}
	if k.image == "" {
		return kernel{}, fmt.Errorf("lab: %w", errNoKernel)
	}
	table, err := os.ReadFile(k.modulesDep(k.image))
	if err != nil {
		return kernel{}, fmt.Errorf("lab: find modules: %w", err)
	}
	k.readDeps(string(table), modules)
	return k, nil
}

func (k kernel) modulesDep(image string) string {
	return filepath.Join(k.modulesDir(image), "modules.dep")
}

func (kernel) modulesDir(image string) string {
	return filepath.Join("/lib/modules", strings.TrimPrefix(filepath.Base(image), "vmlinuz-"))
}

// readDeps takes the lines of the named modules out of depmod's table. A line
// names a file and then what it needs, nearest first.
func (k kernel) readDeps(table string, modules []string) {
	for line := range strings.Lines(table) {
		files := strings.Fields(strings.Replace(line, ":", " ", 1))
		if len(files) == 0 {
			continue
		}
		if name := moduleName(files[0]); slices.Contains(modules, name) {
			slices.Reverse(files)
			k.deps[name] = files
		}
	}
}

// load lists the modules to load, in order. Drivers which the kernel has
// built in are in no list.
func (k kernel) load(names []string) []string {
	var all []string
	for _, name := range names {
		for _, file := range k.deps[name] {
			if m := moduleName(file); !slices.Contains(all, m) {
				all = append(all, m)
			}
		}
	}
	return all
}

// moduleName turns "kernel/net/8021q/8021q.ko.xz" into "8021q".
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return name
}

// readModule returns a module's bytes, unpacked.
func (k kernel) readModule(ctx context.Context, file string) ([]byte, error) {
	path := filepath.Join(k.modulesDir(k.image), file)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if data, err = unpack(ctx, data); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", path, err)
	}
	return data, nil
}
