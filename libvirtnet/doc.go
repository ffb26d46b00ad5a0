// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package libvirtnet translates between the model and libvirt's XML: networks
// and guest interfaces are written, domains and hook payloads are read. What
// libvirt cannot carry out itself in the version at hand is left out of the XML
// and said by [Division]; the hook does it.
//
// The package is pure. Out of scope: talking to libvirt, which is virtapi;
// validating a topology, which is vnet; what a port looks like on a switch,
// which is switchcfg.
package libvirtnet
