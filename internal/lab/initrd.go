// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

//go:embed files/init.sh
var initScript string

//go:embed files/dhcp.sh
var dhcpScript string

//go:embed files/agent.sh
var agentScript string

// guestFiles are what a guest has beside busybox and modules.
func guestFiles() []File {
	return []File{{"init", 0o755, []byte(initScript)}, {"dhcp.sh", 0o755, []byte(dhcpScript)}}
}

// appletScript is a program of busybox for those who do not find it without one.
const appletScript = "#!/bin/sh\nexec /bin/busybox \"${0##*/}\" \"$@\"\n"

// writeAgentInitrd makes the file system of guests with an agent: that of the
// others, the machine's qemu-ga with its libraries, and what it is asked to run.
func writeAgentInitrd(ctx context.Context, k kernel) error {
	agent, err := program("qemu-ga")
	if err != nil {
		return fmt.Errorf("lab: guest agent: %w; make setup brings it", err)
	}
	out, err := exec.CommandContext(ctx, "ldd", agent).Output()
	if err != nil {
		return fmt.Errorf("lab: guest agent: libraries of %s: %w", agent, err)
	}
	files := append(guestFiles(),
		File{"agent.sh", 0o755, []byte(agentScript)}, File{"sbin/ip", 0o755, []byte(appletScript)},
		File{"bin/cat", 0o755, []byte(appletScript)})
	paths := map[string]string{agent: "sbin/qemu-ga"}
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "/") {
			paths[word] = word[1:]
		}
	}
	for from, to := range paths {
		data, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("lab: guest agent: %w", err)
		}
		files = append(files, File{to, 0o755, data})
	}
	return writeInitrd(ctx, k, agentInitrdPath, files)
}

// writeInitrd makes a file system of busybox, the files and k's modules. It is
// not packed: unpacking under emulation takes longer than reading.
func writeInitrd(ctx context.Context, k kernel, to string, files []File) error {
	path, err := program("busybox")
	if err != nil {
		return fmt.Errorf("lab: make initrd: %w", err)
	}
	busybox, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("lab: make initrd: %w", err)
	}
	var c cpio
	for _, dir := range []string{"bin", "dev", "proc", "sys", "tmp", "modules"} {
		c.add(dir, entry{mode: 0o040755})
	}
	// The kernel opens it for /init before anything is mounted.
	c.add("dev/console", entry{mode: 0o020600, major: 5, minor: 1})
	c.add("bin/busybox", entry{mode: 0o100755, data: busybox})
	c.add("bin/sh", entry{mode: 0o120777, data: []byte("busybox")})
	for _, f := range files {
		c.addFile(f)
	}
	var done []string
	for _, name := range slices.Sorted(maps.Keys(k.deps)) {
		for _, file := range k.deps[name] {
			m := moduleName(file)
			if slices.Contains(done, m) {
				continue
			}
			done = append(done, m)
			data, err := k.readModule(ctx, file)
			if err != nil {
				return fmt.Errorf("lab: make initrd: %w", err)
			}
			c.add("modules/"+m, entry{mode: 0o100644, data: data})
		}
	}
	if err := os.WriteFile(to, c.finish(), 0o644); err != nil {
		return fmt.Errorf("lab: make initrd: %w", err)
	}
	return nil
}

// cpio writes the "newc" archive format, as the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst has it.
type cpio struct {
	buf   bytes.Buffer
	inode int
}

type entry struct {
	mode         int // type and permission bits
	major, minor int // of a device
	data         []byte
}

func (c *cpio) add(name string, e entry) {
	c.inode++
	fmt.Fprintf(&c.buf, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.inode, e.mode, 0, 0, 1, 0, len(e.data), 0, 0, e.major, e.minor, len(name)+1, 0, name)
	c.pad()
	c.buf.Write(e.data)
	c.pad()
}

// addFile adds a file and the directories above it. The kernel leaves those
// that are there as they are.
func (c *cpio) addFile(f File) {
	for at, char := range f.Name {
		if char == '/' {
			c.add(f.Name[:at], entry{mode: 0o040755})
		}
	}
	c.add(f.Name, entry{mode: 0o100000 | int(f.Mode.Perm()), data: f.Data})
}

func (c *cpio) pad() {
	for c.buf.Len()%4 != 0 {
		c.buf.WriteByte(0)
	}
}

func (c *cpio) finish() []byte {
	c.add("TRAILER!!!", entry{})
	return c.buf.Bytes()
}
