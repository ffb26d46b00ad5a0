// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// mountDev gives the namespace its own /dev. There is only one devtmpfs per
// kernel, and macvtap devices are named after their link's index: labs that
// shared it would open each other's /dev/tapN.
func mountDev() error {
	nodes := map[string]uint64{}
	names := []string{"null", "zero", "full", "random", "urandom", "tty", "net/tun", "vhost-net"}
	if virtType() == "kvm" { // else libvirt would probe QEMU twice
		names = append(names, "kvm")
	}
	for _, name := range names {
		var st syscall.Stat_t
		if err := syscall.Stat("/dev/"+name, &st); err == nil {
			nodes[name] = st.Rdev
		}
	}
	if err := mount("tmpfs", "/dev", "tmpfs", syscall.MS_NOSUID, "mode=755"); err != nil {
		return err
	}
	if err := mkdirs("/dev/net", "/dev/pts", "/dev/shm"); err != nil {
		return err
	}
	for name, dev := range nodes {
		if err := mknod("/dev/"+name, dev); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
		"stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(to, "/dev/"+name); err != nil {
			return fmt.Errorf("furnish /dev: %w", err)
		}
	}
	if err := os.Chmod("/dev/shm", 0o777|os.ModeSticky); err != nil {
		return fmt.Errorf("furnish /dev: %w", err)
	}
	return mount("devpts", "/dev/pts", "devpts", syscall.MS_NOSUID|syscall.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
}

func mknod(path string, dev uint64) error {
	if err := syscall.Mknod(path, syscall.S_IFCHR|0o666, int(dev)); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("make device %s: %w", path, err)
	}
	// The umask took bits away which device users other than root may need.
	return os.Chmod(path, 0o666)
}

// watchTaps does the part of udev that macvtap needs: /dev/tapN for each
// macvtap link of this network namespace, for as long as the process lives.
func watchTaps() error {
	updates := make(chan netlink.LinkUpdate, 64)
	if err := netlink.LinkSubscribe(updates, nil); err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	go func() {
		for u := range updates {
			if t := u.Type(); t != "macvtap" && t != "ipvtap" {
				continue
			}
			path := "/dev/tap" + strconv.Itoa(u.Attrs().Index)
			if u.Header.Type == unix.RTM_DELLINK {
				_ = os.Remove(path)
			} else if err := makeTap(path, u.Attrs().Name); err != nil {
				fmt.Fprintln(os.Stderr, "lab:", err)
			}
		}
	}()
	return nil
}

func makeTap(path, link string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	dir := "/sys/class/net/" + link
	name := filepath.Base(path)
	for _, glob := range []string{dir + "/" + name + "/dev", dir + "/*/" + name + "/dev"} {
		found, err := filepath.Glob(glob)
		if err != nil || len(found) == 0 {
			continue
		}
		text, err := os.ReadFile(found[0])
		if err != nil {
			return fmt.Errorf("device number of %s: %w", link, err)
		}
		var major, minor uint32
		if _, err := fmt.Sscanf(strings.TrimSpace(string(text)), "%d:%d", &major, &minor); err != nil {
			return fmt.Errorf("device number of %s: %q: %w", link, text, err)
		}
		return mknod(path, unix.Mkdev(major, minor))
	}
	return nil // gone again already
}
