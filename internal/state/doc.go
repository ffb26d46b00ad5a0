// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package state keeps what must outlive one process: the applied intent of each
// network, what was wired for each running guest, the last runs of the hook,
// and the locks that keep concurrent hooks and commands apart.
//
// Every record is one small JSON file with a format version, written so that a
// reader sees the old or the new one and never half of it, also after a power
// cut. A record that is torn or lost all the same is an error to test for
// ([ErrDamaged], [fs.ErrNotExist]), which callers survive: the facts are on the
// switches and in libvirt.
//
//	StateDir/networks/NAME.json     applied intent, one network each
//	StateDir/guests/NAME.json       applied intent, one guest of the spec each
//	RunDir/guests/UUID.json         what was wired, with before-images
//	RunDir/switches/NAME.json       what was done to a switch itself
//	RunDir/hooks/DRIVER.json        the hook's last run for a libvirt driver
//	RunDir/hooks/error.json         the hook's last failed run
//	RunDir/hooks/reload.json        the last reload of libvirt by virt-vnet
//	RunDir/locks/                   flock files
//
// Out of scope: the user's YAML (internal/config), the history of verify runs,
// and secrets, which no record ever holds.
package state
