// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package lab builds a private, throw-away virtualisation host inside this
// one: its own network, mount, process, host name and IPC namespaces, its own
// libvirtd, its own Open vSwitch and real QEMU guests that boot Debian's kernel
// with a busybox userspace under software emulation. Integration tests and the
// demo run in it.
//
// A program enters the lab by running itself again inside new namespaces (see
// [Enter] for programs and [Main] for test packages). Inside, every path has
// its usual name: qemu:///system, /etc/libvirt, /run/openvswitch/db.sock,
// /etc/virt-vnet, /var/lib/virt-vnet and /run/virt-vnet just work and are empty
// at first. Nothing the lab does reaches the machine's disk, and nothing
// survives it: the files live in a tmpfs of a private mount namespace, the
// links in a private network namespace, and the processes in a private process
// namespace whose first process the kernel kills when the outer one dies, in
// whatever way it dies. Any number of labs run side by side.
//
// What stays the machine's own: /tmp, the home directories, the working
// directory, and everything else that is not named in [Enter].
//
// A [Cluster] is a lab with several such hosts in it, each in namespaces of its
// own, between which guests migrate, with OVN as an option: its databases beside
// the test, and a chassis on every host.
//
// Out of scope: fabric switches, kernel features that the machine's kernel lacks
// (a guest kernel can stand in for them), and any judgement about the network:
// the lab only builds it and gives independent ways to look at it ([Lab.Exec],
// [Station.Ping]).
package lab
