// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	// base holds what the lab itself needs. It is in the private /run.
	base = "/run/virt-vnet-lab"

	storeDir   = base + "/store"
	hostsDir   = base + "/hosts" // see [Host.Path]
	guestDir   = base + "/guests"
	bootDir    = base + "/boot" // what guests start from
	initrdPath = bootDir + "/initrd.cpio"
	imagePath  = bootDir + "/vmlinux"
	// agentInitrdPath is that of guests with an agent.
	agentInitrdPath = bootDir + "/initrd-agent.cpio"

	etcLibvirt = "/etc/libvirt"
)

// overlaid are the directories that are copy-on-write inside a lab. That is
// also what lets mount points exist which the machine does not have.
func overlaid() []string {
	return []string{"/etc", "/var/lib", "/var/log", "/var/cache"}
}

// private are the directories that are empty at first inside a lab.
func private() []string {
	return []string{
		etcLibvirt, "/var/lib/libvirt", "/run/libvirt", "/var/log/libvirt", "/var/cache/libvirt",
		"/etc/openvswitch", "/var/lib/openvswitch", "/run/openvswitch", "/var/log/openvswitch",
		"/etc/ovn", "/var/lib/ovn", "/run/ovn", "/var/log/ovn",
		"/etc/virt-vnet", "/var/lib/virt-vnet", "/run/virt-vnet",
	}
}

// mountFiles gives the namespace its own files: one tmpfs over /run, in which
// everything that the lab writes ends up.
func mountFiles() error {
	// First of all: nothing below may reach the machine's mount table.
	if err := mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := mount("tmpfs", "/run", "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755"); err != nil {
		return err
	}
	if err := mkdirs("/run/lock", "/run/netns", storeDir, guestDir, bootDir, hostsDir); err != nil {
		return err
	}
	for _, dir := range overlaid() {
		if err := mountOverlay(dir); err != nil {
			return err
		}
	}
	for _, dir := range private() {
		own := filepath.Join(storeDir, "private", flat(dir))
		if err := mkdirs(own, dir); err != nil {
			return err
		}
		if err := keepFilters(dir, own); err != nil {
			return err
		}
		if err := mount(own, dir, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

func mountOverlay(dir string) error {
	upper := filepath.Join(storeDir, "upper", flat(dir))
	work := filepath.Join(storeDir, "work", flat(dir))
	if err := mkdirs(upper, work); err != nil {
		return err
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work)
	return mount("overlay", dir, "overlay", 0, data)
}

// keepFilters copies the machine's network filter definitions: they are part
// of libvirt's packages, not of the machine's own set-up.
func keepFilters(dir, own string) error {
	if dir != etcLibvirt {
		return nil
	}
	err := os.CopyFS(filepath.Join(own, "nwfilter"), os.DirFS(filepath.Join(dir, "nwfilter")))
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("copy network filters: %w", err)
	}
	return nil
}

// mountKernel shows the new namespaces' processes and links.
func mountKernel() error {
	if err := mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return err
	}
	return mount("sysfs", "/sys", "sysfs", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "")
}

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := syscall.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", strings.TrimSpace(fstype+" "+source), target, err)
	}
	return nil
}

func mkdirs(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	return nil
}

// flat turns a path into one file name.
func flat(dir string) string {
	return strings.ReplaceAll(strings.TrimPrefix(dir, "/"), "/", "-")
}
