// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package vnet is the model everything else speaks: networks, switches, guests
// and ports, as a site wants them.
//
// A [Topology] holds what a spec says. [Topology.Validate] finds everything
// that is wrong with it at once. [Topology.Port] says how one guest NIC should
// sit on its switch.
//
// The package imports the standard library only and does no I/O: reading YAML
// is internal/config, libvirt XML is libvirtnet, live switches are switchcfg.
package vnet
