// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"errors"
	"flag"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// mute is the URI of a libvirt that takes connections and says nothing.
func mute(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
	return "qemu+tcp://" + listener.Addr().String() + "/system"
}

// TestHostLimit has one of two hosts hang.
func TestHostLimit(t *testing.T) {
	c := cli.NewContext(cli.NewApp(), flag.NewFlagSet("", flag.ContinueOnError), nil)
	c.Context = t.Context()
	hosts := []vnet.Host{{Name: "kvm1", URI: mute(t)}, {Name: "kvm2", URI: "test:///default"}}
	var out, talk strings.Builder
	err := onHosts(c, stdio{out: &out, err: &talk}, hosts, time.Second, func(c *cli.Context, h vnet.Host, std stdio) error {
		conn, err := virtapi.Open(c.Context, h.URI)
		if err != nil {
			return err
		}
		_, err = std.out.Write([]byte("done\n"))
		return errors.Join(err, conn.Close())
	})
	want := "host kvm1: not done within 1s: libvirt " + hosts[0].URI + ": open: no answer: context deadline exceeded\n1 of 2 hosts failed"
	if exitCode(err) != exitFailed || err.Error() != want {
		t.Errorf("exit code %d, %v, want %s", exitCode(err), err, want)
	}
	if got, want := out.String(), "host kvm1\nhost kvm2\n  done\n"; got != want || talk.String() != "" {
		t.Errorf("it said %q and %q, want %q", got, talk.String(), want)
	}
}

func TestHostsProgress(t *testing.T) {
	var shown []string
	hosts := []vnet.Host{{Name: "kvm1"}, {Name: "kvm2"}, {Name: "kvm3"}}
	p := progress{step: func(line string) { shown = append(shown, line) }, waiting: hosts}
	p.show()
	for _, i := range []int{1, 0, 2} {
		p.finished(hosts[i])
	}
	want := []string{
		"0 of 3 hosts done, waiting for kvm1, kvm2, kvm3",
		"1 of 3 hosts done, waiting for kvm1, kvm3",
		"2 of 3 hosts done, waiting for kvm3",
	}
	if !slices.Equal(shown, want) {
		t.Errorf("shown %q, want %q", shown, want)
	}
}
