// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package vm runs Go test binaries as root on Debian's kernel, in a virtual
// machine that QEMU emulates. The machine's own kernel may lack what a product
// for Debian hosts uses, VLAN filtering bridges above all; Debian's has it.
//
// [Build] makes the binary of a package's tests, [Run] boots the newest
// installed kernel with it and busybox, ip and bridge as the whole userspace,
// and [Parse] tells what became of each test. Nothing is shared with the
// machine, and nothing is left: the files are in a directory of the caller's,
// and the kernel kills QEMU when the process that started it dies.
//
// Out of scope: programs other than those (no libvirt, Open vSwitch or QEMU
// inside), the testdata directories of packages, network cards, KVM.
package vm
