// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	"io/fs"
	"path/filepath"
)

// File is a regular file of an initial file system.
type File struct {
	Name string      // its path, without the leading slash
	Mode fs.FileMode // the permission bits
	Data []byte
}

// Boot is what a virtual machine starts with, for those who run QEMU on their
// own instead of by [Lab.DefineGuest]. They need not be inside a lab.
type Boot struct {
	Kernel  string   // path of the kernel image
	Initrd  string   // path of the initial file system
	Modules []string // files in /modules of it, in loading order
}

// WriteBoot writes to the directory dir what boots the machine's newest
// installed kernel. The initial file system has busybox, the files, one of
// which is "init", and the kernel's named modules with what they need; a module
// that is built into the kernel is in no file.
func WriteBoot(ctx context.Context, dir string, modules []string, files []File) (Boot, error) {
	k, err := findKernel(modules)
	if err != nil {
		return Boot{}, err
	}
	b := Boot{
		Kernel: filepath.Join(dir, "vmlinux"), Initrd: filepath.Join(dir, "initrd.cpio"), Modules: k.load(modules),
	}
	if err := writeInitrd(ctx, k, b.Initrd, files); err != nil {
		return Boot{}, err
	}
	if k.unpack(ctx, b.Kernel) != nil {
		b.Kernel = k.image // it boots as well, only slower
	}
	return b, nil
}
