// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
)

// The machine outside, and addresses that are the router's there.
const (
	outside   = "203.0.113.1"
	natted    = "203.0.113.10"
	forwarded = "203.0.113.20"
	balanced  = "203.0.113.100"
)

// TestOVNRouter follows traffic out of a network of OVN and into it: over a VLAN
// of the physical network, with addresses translated both ways and connections
// balanced, from guests of the router's host and of another.
func TestOVNRouter(t *testing.T) {
	lab.Need(t, lab.Libvirt, lab.Guests, lab.OVN)
	ctx := t.Context()
	h := &hosts{t: t, bin: programs(t)}
	h.Cluster = labtest.StartCluster(t, lab.ClusterOptions{Hosts: 2, Each: lab.Options{Libvirt: true}, OVN: &lab.OVNOptions{}})
	text, err := os.ReadFile("testdata/way-out.yaml")
	if err != nil {
		t.Fatal(err)
	}
	h.useSpec(strings.ReplaceAll(string(text), "@NB@", h.Central.NBTCP()))
	gate := h.Hosts[0]
	world := &lab.Station{Name: "world", Bridge: "br-ex", VLAN: 20, Addresses: []netip.Prefix{netip.MustParsePrefix(outside + "/24")}}
	if err := gate.AddOVSBridge(ctx, world.Bridge); err != nil {
		t.Fatal(err)
	}
	h.on(gate, "ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:ovn-bridge-mappings=physnet:"+world.Bridge)
	if err := gate.AddStation(ctx, world); err != nil {
		t.Fatal(err)
	}
	h.apply(0)
	h.bootOVN()
	h.sync()
	t.Run("DHCP", func(t *testing.T) { h.with(t).offers() })
	t.Run("verify", func(t *testing.T) { h.with(t).wants("the way out", h.verify(gate)) })
	t.Run("out", func(t *testing.T) { h.with(t).goesOut(world) })
	t.Run("in", func(t *testing.T) { h.with(t).comesIn(world) })
}

// offers looks at all that a guest is offered with its address.
func (h *hosts) offers() {
	h.must("a", `printf '#!/bin/sh\n[ "$1" = bound ] && env\nexit 0\n' >/show.sh; chmod +x /show.sh`)
	got := "\n" + h.must("a", "udhcpc -q -n -i eth0 -O mtu -O staticroutes -s /show.sh 2>&1")
	for _, want := range []string{"ip=10.0.20.11", "mtu=1442", "router=10.0.20.1", "staticroutes=10.8.0.0/16 10.0.20.1 0.0.0.0/0 10.0.20.1"} {
		if !strings.Contains(got, "\n"+want+"\n") {
			h.t.Errorf("no %s among what it is offered: %s", want, got)
		}
	}
	if link := h.must("a", "ip link show eth0"); !strings.Contains(link, " mtu 1442 ") {
		h.t.Errorf("its NIC: %s", link)
	}
}

// goesOut has guests of both hosts speak to the world, which sees the router's
// address; and not where an ACL says so, which is logged.
func (h *hosts) goesOut(world *lab.Station) {
	tells(h.t, world, 7000)
	tells(h.t, world, 7001)
	for guest, place := range h.places {
		if out := h.must(guest, "nc -w 5 "+outside+" 7000 </dev/null"); strings.TrimSpace(out) != natted {
			h.t.Errorf("the world sees guest %s as %q, want %s", guest, out, natted)
		}
		if out, err := h.exec(guest, "nc -w 2 "+outside+" 7001 </dev/null"); err == nil && strings.Contains(out, natted) {
			h.t.Errorf("guest %s reaches the world in spite of the ACL: %s", guest, out)
		}
		if log := h.on(h.Hosts[place], "cat", "/var/log/openvswitch/ovn-controller.log"); !strings.Contains(log, `name="out drop tcp ports 7001 to `+outside+`", verdict=drop`) {
			h.t.Errorf("the log of %s has nothing of the ACL:\n%s", h.Hosts[place].Name, log)
		}
	}
}

// tells has the station answer whoever connects to the port with the address that
// it sees, until the test ends.
func tells(t *testing.T, s *lab.Station, port int) {
	t.Helper()
	var server net.Listener
	err := s.Do(func() (err error) {
		server, err = net.Listen("tcp", net.JoinHostPort(outside, fmt.Sprint(port)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			_, _ = io.WriteString(conn, host)
			_ = conn.Close()
		}
	}()
}

// comesIn has the world speak to a guest on the other host, by the address that
// is forwarded to it and by that which is balanced.
func (h *hosts) comesIn(world *lab.Station) {
	h.must("b", "(nc -ll -p 8080 -e /bin/busybox echo hello >/dev/null 2>&1 &); "+
		"until cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q :1F90.*:0000.0A; do sleep 1; done")
	for _, at := range []string{forwarded + " 8080", balanced + " 80"} {
		ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
		out, err := world.Run(ctx, append([]string{"busybox", "nc", "-w", "5"}, strings.Fields(at)...)...)
		cancel()
		if err != nil || strings.TrimSpace(out) != "hello" {
			h.t.Errorf("the world asks %s: %q, %v", at, out, err)
		}
	}
}
