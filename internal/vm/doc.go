// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package vm runs programs as root on Debian's kernel, in a virtual machine that
// QEMU emulates. The machine's own kernel may lack what a product for Debian
// hosts uses, VLAN filtering bridges above all; Debian's has it.
//
// There are two such machines. That of [Run] boots in a few seconds and has no
// more than Go test binaries ([Build] makes them), busybox, ip, bridge, tc and
// nft: it is for the tests of one package. That of [RunOnHostFiles] has all files
// of this machine, libvirtd and QEMU with them, so that a whole lab can be
// started in it, whose guests run by KVM on the emulated CPU. [Parse] tells what
// became of each test in either.
//
// Nothing of the machine is changed, and nothing is left: the files are in a
// directory of the caller's, and the kernel kills QEMU when the process that
// started it dies.
//
// Out of scope: network cards, KVM for these machines themselves, kernels other than the newest installed one.
package vm
