// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package virtapi is the connection to libvirt: it defines, starts and removes
// networks, lists guests with their NICs and addresses, and attaches and
// detaches interfaces. It works with every URI libvirt takes, also remote ones,
// and assumes nothing about the machine it runs on.
//
// Libvirt's calls cannot be cancelled. Every function here returns when its
// context ends, with the context's error; the call it was waiting for goes on
// in the background and may still take effect. Give contexts a deadline: a
// daemon that hangs, or a host behind qemu+ssh that went away, answers nothing.
//
// Build with the tag libvirt_dlopen: neither libvirt's headers nor a fixed
// version of it are needed then.
//
// Out of scope: what the XML says (libvirtnet), what the ports look like on the
// switch (switchcfg), live events, and guests' lifecycle. The hook does not
// use this package: loading libvirt takes longer than the hook may.
package virtapi
