// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package leftovers_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// process is what /proc tells about one.
type process struct {
	pid, parent   int
	command       string
	pidNS, netNS  string
	mountNS       string
	descriptorsOf []string // what its open files are
}

// processes lists all processes of the machine.
func processes(t *testing.T) []process {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var all []process
	for _, dir := range dirs {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it has ended meanwhile
		}
		// pid (command) state ppid ...; the command may hold anything.
		text := string(stat)
		open, end := strings.Index(text, "("), strings.LastIndex(text, ")")
		fields := strings.Fields(text[end+1:])
		if fields[0] == "Z" {
			continue
		}
		p := process{command: text[open+1 : end]}
		p.pid, _ = strconv.Atoi(filepath.Base(dir))
		p.parent, _ = strconv.Atoi(fields[1])
		p.pidNS, _ = os.Readlink(dir + "/ns/pid")
		p.netNS, _ = os.Readlink(dir + "/ns/net")
		p.mountNS, _ = os.Readlink(dir + "/ns/mnt")
		descriptors, _ := filepath.Glob(dir + "/fd/*")
		for _, d := range descriptors {
			target, _ := os.Readlink(d)
			p.descriptorsOf = append(p.descriptorsOf, target)
		}
		all = append(all, p)
	}
	return all
}

// labOf finds the first process of the lab that outer has started.
func labOf(t *testing.T, outer int) process {
	t.Helper()
	all := processes(t)
	i := slices.IndexFunc(all, func(p process) bool { return p.parent == outer })
	if i < 0 {
		t.Fatalf("process %d has started no lab", outer)
	}
	return all[i]
}

// members are the commands that run in any of the lab's namespaces, or hold
// one open.
func members(t *testing.T, first process) []string {
	t.Helper()
	var commands []string
	for _, p := range processes(t) {
		if p.pidNS == first.pidNS || p.netNS == first.netNS || p.mountNS == first.mountNS ||
			slices.Contains(p.descriptorsOf, first.netNS) {
			commands = append(commands, p.command)
		}
	}
	slices.Sort(commands)
	return slices.Compact(commands)
}

// ourNames are the beginnings of the names that a lab could leave somewhere.
func ourNames() []string {
	return []string{"libvirt", "openvswitch", "virt-vnet", "tap", "netns", "ovs", "qemu", "virtlogd", ".lab"}
}

// traces lists all files with our names where a lab could leave some, and the
// mounts of the machine.
func traces(t *testing.T) []string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	found := strings.Split(string(mounts), "\n")
	for _, dir := range []string{"/etc", "/var/lib", "/var/log", "/var/cache", "/run", "/dev", "/tmp", "/dev/shm"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if !slices.ContainsFunc(ourNames(), func(n string) bool { return strings.HasPrefix(e.Name(), n) }) {
				continue
			}
			_ = filepath.WalkDir(filepath.Join(dir, e.Name()), func(path string, _ fs.DirEntry, _ error) error {
				found = append(found, path)
				return nil // what cannot be read is listed all the same
			})
		}
	}
	slices.Sort(found)
	return found
}

// cable is the near end of a pair of links, in a network namespace of the
// test's own. The kernel removes it when the far end's namespace ends.
type cable struct{ handle *netlink.Handle }

// plugInto makes a cable with its far end where the process is.
func plugInto(t *testing.T, pid int) cable {
	t.Helper()
	var c cable
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err != nil {
			result <- err
			return
		}
		defer ns.Close() //nolint:errcheck // the handle has its own hold on it
		pair := &netlink.Veth{PeerName: "look", PeerNamespace: netlink.NsPid(pid)}
		pair.Name = "cable"
		if err := netlink.LinkAdd(pair); err != nil {
			result <- err
			return
		}
		c.handle, err = netlink.NewHandle()
		result <- err
	}()
	if err := <-result; err != nil {
		t.Fatalf("plug a cable into process %d: %v", pid, err)
	}
	t.Cleanup(c.handle.Close)
	return c
}

func (c cable) exists(t *testing.T) bool {
	t.Helper()
	_, err := c.handle.LinkByName("cable")
	if err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
		t.Fatal(err)
	}
	return err == nil
}
