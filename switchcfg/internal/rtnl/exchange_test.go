// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package rtnl_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
)

func TestMain(m *testing.M) { lab.Main(m) }

func dial(t *testing.T) *rtnl.Conn {
	t.Helper()
	c, err := rtnl.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// byName asks for a device.
func byName(name string) rtnl.Message {
	m := rtnl.LinkMessage(unix.RTM_GETLINK, 0, unix.AF_UNSPEC, 0)
	m.Attr(unix.IFLA_IFNAME, nl.ZeroTerminated(name))
	m.Filter()
	return m
}

// TestSendAllMatches checks that each of many messages, more than go into
// one datagram, gets its own answer, whatever becomes of those around it.
func TestSendAllMatches(t *testing.T) {
	t.Parallel()
	c := dial(t)
	var messages []rtnl.Message
	for i := range 100 {
		name := "lo"
		if i%3 == 1 {
			name = fmt.Sprint("nosuch", i)
		}
		messages = append(messages, byName(name))
	}
	answers, err := c.SendAll(t.Context(), messages, unix.RTM_NEWLINK)
	if err != nil || len(answers) != len(messages) {
		t.Fatalf("got %d answers and error %v, want %d", len(answers), err, len(messages))
	}
	for i, a := range answers {
		if gone := i%3 == 1; rtnl.IsGone(a.Err) != gone || (len(a.Payloads) == 1) == gone {
			t.Errorf("message %d: got %d payloads and error %v, want gone: %v", i, len(a.Payloads), a.Err, gone)
		}
	}
}

// TestLinksByName checks that devices that do not or cannot exist leave their
// places empty, and move nobody else's.
func TestLinksByName(t *testing.T) {
	t.Parallel()
	c := dial(t)
	names := slices.Repeat([]string{"", "lo", "nosuch0", "lo", "a-name-that-no-device-can-be"}, 12)
	links, err := c.LinksByName(t.Context(), names...)
	if err != nil || len(links) != len(names) {
		t.Fatalf("got %d links and error %v, want %d", len(links), err, len(names))
	}
	for i, l := range links {
		if want := names[i] == "lo"; l.Exists() != want || (l.Name == "lo") != want {
			t.Errorf("%d: asked for %q, got %+v", i, names[i], l)
		}
	}
	if links, err := c.LinksByName(t.Context()); err != nil || len(links) != 0 {
		t.Errorf("no names: got %v and error %v", links, err)
	}
}

// TestKernelsWords checks that an error has the errno and what the kernel says
// of it, and that a later message of the datagram is carried out all the same.
func TestKernelsWords(t *testing.T) {
	lab.Need(t)
	l := labtest.Start(t, lab.Options{})
	if err := l.AddLinuxBridge(t.Context(), "br0"); err != nil {
		t.Fatal(err)
	}
	c := dial(t)
	br0, err := c.LinkByName(t.Context(), "br0")
	if err != nil {
		t.Fatal(err)
	}
	set := func(kind int, value []byte) rtnl.Message {
		m := rtnl.LinkMessage(unix.RTM_SETLINK, unix.NLM_F_ACK, unix.AF_UNSPEC, br0.Index)
		m.Attr(kind, value)
		return m
	}
	answers, err := c.SendAll(t.Context(), []rtnl.Message{
		set(unix.IFLA_IFALIAS, []byte("first")),
		set(unix.IFLA_MTU, nl.Uint32Attr(1)),
		set(unix.IFLA_IFALIAS, []byte("last")),
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if answers[0].Err != nil || answers[2].Err != nil {
		t.Errorf("got errors %v and %v, want none", answers[0].Err, answers[2].Err)
	}
	const words = "mtu less than device minimum"
	if err := answers[1].Err; !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), words) {
		t.Errorf("MTU 1: got error %v, want %v with %q", err, unix.EINVAL, words)
	}
	if got, err := c.LinkByName(t.Context(), "br0"); err != nil || got.Alias != "last" {
		t.Errorf("got %+v and error %v, want alias %q", got, err, "last")
	}
}

// TestDeadline checks that a time that is over is no time at all, and that the
// socket is of use afterwards.
func TestDeadline(t *testing.T) {
	t.Parallel()
	c := dial(t)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := c.LinkByName(ctx, "lo"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want %v", err, context.DeadlineExceeded)
	}
	if _, err := c.LinkByName(t.Context(), "lo"); err != nil {
		t.Error(err)
	}
}
