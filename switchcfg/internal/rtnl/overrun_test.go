// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package rtnl

import (
	"errors"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
)

// TestDumpAfterOverrun makes the kernel drop messages for two sockets, which it
// tells with ENOBUFS at the next chance: a request fails on one, which shows
// that it is so, and a dump is whole on the other.
func TestDumpAfterOverrun(t *testing.T) {
	lab.Need(t)
	labtest.Start(t, lab.Options{})
	ip(t, "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
	one, other := listening(t), listening(t)
	for range 100 {
		ip(t, "link", "set", "veth0", "up")
		ip(t, "link", "set", "veth0", "down")
	}
	build := func() Message { return LinkMessage(unix.RTM_GETLINK, unix.NLM_F_DUMP, unix.AF_UNSPEC, 0) }
	if _, err := one.Send(t.Context(), build(), unix.RTM_NEWLINK); !errors.Is(err, unix.ENOBUFS) {
		t.Fatalf("got error %v, want %v", err, unix.ENOBUFS)
	}
	answers, err := other.Dump(t.Context(), build, unix.RTM_NEWLINK)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, a := range answers {
		l, err := ParseLink(a)
		if err != nil {
			t.Fatal(err)
		}
		names[l.Name] = true
	}
	for _, name := range []string{"lo", "veth0", "veth1"} {
		if !names[name] {
			t.Errorf("%s is not in the dump: %v", name, names)
		}
	}
}

// listening is a socket that also gets every change of a link, and has no room
// for them.
func listening(t *testing.T) *Conn {
	t.Helper()
	c, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := unix.SetsockoptInt(c.socket.FD, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(c.socket.FD, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.RTNLGRP_LINK); err != nil {
		t.Fatal(err)
	}
	return c
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
