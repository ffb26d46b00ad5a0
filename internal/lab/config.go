// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
)

//go:embed files/qemu.conf
var qemuConf string

//go:embed files/libvirtd.conf
var libvirtdConf string

// writeConfig puts the least configuration in place that the daemons run with.
// The machine's own is not used: its networks, guests and hooks are not ours
// to start.
func writeConfig() error {
	if err := mkdirs(etcLibvirt+"/hooks", etcLibvirt+"/qemu/networks"); err != nil {
		return err
	}
	for path, text := range map[string]string{
		etcLibvirt + "/qemu.conf":     qemuConf,
		etcLibvirt + "/libvirtd.conf": libvirtdConf,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	return nil
}

// clearFiles empties the private directories, as [Enter] left them.
func clearFiles() error {
	for _, dir := range append(private(), guestDir) {
		if dir == "/var/cache/libvirt" {
			continue // what libvirt found out about QEMU: a second to find out again
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("clear lab files: %w", err)
		}
		for _, e := range entries {
			if dir == etcLibvirt && e.Name() == "nwfilter" {
				continue
			}
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("clear lab files: %w", err)
			}
		}
	}
	// Without it there is no systemd here (sd_booted(3)).
	if err := os.RemoveAll(filepath.Dir(UnitDir)); err != nil {
		return fmt.Errorf("clear lab files: %w", err)
	}
	return writeConfig()
}
