// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vantage

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"strings"
	"sync/atomic"
)

// markFormat names the process that a vantage belongs to. A process ID is used
// again and means nothing in another process namespace, so there are the
// process's start (proc(5), stat field 22) and its namespace too.
const markFormat = "virt-vnet vantage pid=%d start=%s ns=%s"

// maxPerProcess bounds how many vantages one process has at a time.
const maxPerProcess = 1000

// Mark returns the mark of this process's vantages.
func Mark() (string, error) {
	start, err := startTime(os.Getpid())
	if err != nil {
		return "", err
	}
	ns, err := namespace()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(markFormat, os.Getpid(), start, ns), nil
}

// IsMark reports whether text is the mark of a vantage.
func IsMark(text string) bool {
	_, _, _, ok := parse(text)
	return ok
}

// Stale reports whether text is the mark of a vantage whose process has ended.
// A process that cannot be judged counts as alive.
func Stale(text string) bool {
	pid, start, ns, ok := parse(text)
	if !ok {
		return false
	}
	if here, err := namespace(); err != nil || here != ns {
		return false
	}
	now, err := startTime(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	return err == nil && now != start
}

// given counts the names that were given to somebody.
var given atomic.Uint64

// Names returns candidates for the name of a vantage of this process, each
// short enough to take a one-letter suffix (15 characters in all, IFNAMSIZ). Those
// who ask at the same time get different ones.
func Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for range maxPerProcess {
			n := (given.Add(1) - 1) % maxPerProcess
			if !yield(fmt.Sprintf("vv%d-%d", os.Getpid(), n)) {
				return
			}
		}
	}
}

// Quiet keeps the host from sending anything from a device on its own account: it
// has no IPv6 there, and does not answer ARP for its other addresses (arp_ignore
// of ip-sysctl), which guests would take to be at a MAC that is soon gone. A host
// without IPv6 is quiet already.
func Quiet(device string) error {
	for _, set := range [][2]string{{"ipv6/conf/" + device + "/disable_ipv6", "1"}, {"ipv4/conf/" + device + "/arp_ignore", "1"}} {
		err := os.WriteFile("/proc/sys/net/"+set[0], []byte(set[1]), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep %s quiet: %w", device, err)
		}
	}
	return nil
}

func parse(text string) (pid int, start, ns string, ok bool) {
	n, err := fmt.Sscanf(text, markFormat, &pid, &start, &ns)
	return pid, start, ns, err == nil && n == 3
}

func namespace() (string, error) { return os.Readlink("/proc/self/ns/pid") }

// startTime is when a process started, in clock ticks after boot. The fields
// are counted behind the program's name, which may hold anything.
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	const startField = 22 - 3 // the first field behind the name is the third
	end := strings.LastIndexByte(string(stat), ')')
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) <= startField {
		return "", fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	return fields[startField], nil
}
