// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Command virt-vnet-hook is the program that libvirt runs as its hook: it wires
// the ports of every guest that starts. "virt-vnet hooks install" puts it in
// place; nobody else calls it.
//
// It is static and imports neither libvirt nor anything else that is slow to
// load, because it delays every start of every guest. Out of scope: everything
// that is not in answer to libvirt.
package main
