// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package hooks is virt-vnet's part in libvirt's hook contract
// (https://libvirt.org/hooks.html): what is done at which event of a guest's
// life, the wiring of one guest, and the installation of the hook program.
//
// [Main] is the whole of the hook program but for its concrete parts: it reads
// the [Event], looks it up in the table of [Operations] and calls the
// [Handler]. [Wirer] is the handler of the real program. [Install], [Uninstall]
// and [GetStatus] manage the copies that libvirt runs.
//
// The package runs on every start of every guest: it imports nothing that takes
// time to load and never talks to libvirt, which waits for the hook meanwhile.
//
// Out of scope: drivers, which come in as a function; the spec, whose compiled
// records internal/state has; fabric switches, which are slow and far away.
package hooks
