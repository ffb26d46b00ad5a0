// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// addNeighbours puts a station on the network red of each host. They are called
// n0, n1 and so on, and have the addresses 10.9.0.1, 10.9.0.2 and so on.
func (s *site) addNeighbours() {
	s.Helper()
	for i, h := range s.c.Hosts {
		n := &lab.Station{
			Name: fmt.Sprintf("n%d", i), Bridge: lab.IntegrationBridge, MAC: net.HardwareAddr{0x52, 0x54, 0, 9, 0, byte(i)},
			Addresses: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.9.0.%d/24", i+1))},
		}
		if err := h.AddStation(s.Context(), n); err != nil {
			s.Fatal(err)
		}
		id := switchtest.InterfaceID(n.Device)
		nbctl(s.T, s.c, "lsp-add", "red", id, "--", "lsp-set-addresses", id, fmt.Sprintf("%s 10.9.0.%d", n.MAC, i+1))
		run(s.T, h, "ovs-vsctl", "set", "Interface", n.Device, "external_ids:iface-id="+id)
	}
	nbctl(s.T, s.c, "--wait=hv", "sync")
}

// inspect is the overlay as the first host's driver sees it.
func (s *site) inspect() switchcfg.Overlay {
	s.Helper()
	var found switchcfg.Condition
	err := s.c.Hosts[0].Do(func() (err error) {
		found, err = s.drivers[0].Inspect(s.Context())
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	return *found.Overlay
}

// TestVantage looks into a network from one host, at neighbours on both.
func TestVantage(t *testing.T) {
	s := startSite(t, 2)
	s.addNeighbours()
	h, d := s.c.Hosts[0], s.drivers[0]
	before := nbctl(t, s.c, "show") + run(t, h, "ovs-vsctl", "list-ports", lab.IntegrationBridge)
	device := s.openVantage()
	run(t, h, "ip", "addr", "add", "10.9.0.99/24", "dev", device)
	for _, to := range []string{"10.9.0.1", "10.9.0.2"} {
		run(t, h, "busybox", "ping", "-c", "3", "-W", "2", to)
	}
	if err := h.Do(func() error { return d.CloseVantage(t.Context(), device) }); err != nil {
		t.Fatal(err)
	}
	if err := h.Do(func() error { return d.CloseVantage(t.Context(), device) }); err != nil {
		t.Errorf("one that is closed: %v", err)
	}
	if err := h.Do(func() error { return d.CloseVantage(t.Context(), "to-n0") }); err == nil {
		t.Error("a guest's port was closed as a vantage")
	}
	look := func() string {
		return nbctl(t, s.c, "show") + run(t, h, "ovs-vsctl", "list-ports", lab.IntegrationBridge)
	}
	if after := look(); after != before {
		t.Errorf("the vantage left something:\n%s\nwant\n%s", after, before)
	}

	// A process that crashed leaves both halves.
	left := s.openVantage()
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	dead := fmt.Sprintf(`external_ids:virt-vnet-vantage="virt-vnet vantage pid=4194300 start=1 ns=%s"`, ns)
	run(t, h, "ovs-vsctl", "set", "Port", left, dead, "--", "set", "Interface", left, dead)
	id := strings.Trim(run(t, h, "ovs-vsctl", "get", "Interface", left, "external_ids:iface-id"), "\"\n")
	nbctl(t, s.c, "set", "Logical_Switch_Port", id, dead)
	next := s.openVantage()
	if err := h.Do(func() error { return d.CloseVantage(t.Context(), next) }); err != nil {
		t.Fatal(err)
	}
	if after := look(); after != before {
		t.Errorf("what a crashed process left is still there:\n%s\nwant\n%s", after, before)
	}
	if _, err := d.OpenNetworkVantage(t.Context(), "green"); err == nil {
		t.Error("a vantage in a network that is not there")
	}
}

func (s *site) openVantage() (device string) {
	s.Helper()
	err := s.c.Hosts[0].Do(func() (err error) {
		device, err = s.drivers[0].OpenNetworkVantage(s.Context(), "red")
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	return device
}

// TestInspectOverSSL has only the southbound database at ssl, for which
// ovn-controller has its files from Open vSwitch.
func TestInspectOverSSL(t *testing.T) {
	c := startWith(t, 1, lab.OVNOptions{SSL: true})
	s := &site{T: t, c: c, sw: brInt(t, c)}
	s.openAll()
	s.addNeighbours()
	h := c.Hosts[0]
	run(t, h, "ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:ovn-remote="+c.Central.SBSSL())
	const want = "neither the switch's tls nor Open vSwitch says with which files: ovs-vsctl set-ssl"
	if o := s.inspect(); o.Unknown == nil || !strings.Contains(o.Unknown.Error(), want) {
		t.Errorf("without files: got %v, want %s", o.Unknown, want)
	}
	certs := c.Central.Certificates()
	setSSL := []string{"ovs-vsctl", "set-ssl"}
	for i, file := range []string{certs.ClientKey, certs.Client, certs.CA} { // which the host does not see
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		file = filepath.Join(t.TempDir(), fmt.Sprint(i))
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		setSSL = append(setSSL, file)
	}
	run(t, h, setSSL...)
	o := s.inspect()
	for begun := time.Now(); o.Control != nil && time.Since(begun) < 20*time.Second; { // ovn-controller had given up for a while
		o = s.inspect()
	}
	if o.Unknown != nil || o.Control != nil || !o.Registered {
		t.Errorf("with those of Open vSwitch: got %+v", o)
	}
	packet := switchcfg.Packet{Device: "to-n0", From: netip.MustParseAddr("10.9.0.1"), To: netip.MustParseAddr("10.9.0.2")}
	if err := h.Do(func() error { _, err := s.drivers[0].Trace(t.Context(), packet); return err }); err != nil {
		t.Errorf("ovn-trace: %v", err)
	}
}

// TestInspect breaks what spans the hosts, a thing at a time.
func TestInspect(t *testing.T) {
	s := startSite(t, 2)
	s.addNeighbours()
	h, ctx := s.c.Hosts[0], t.Context()
	o := s.inspect()
	want := switchcfg.Binding{
		ID: switchtest.InterfaceID("to-n0"), Known: true, Chassis: "host1", Requested: nil, Installed: true, Peers: []string{"host2"},
	}
	got := o.Bindings["to-n0"]
	if got.Cookie == 0 {
		t.Error("the cookie of its flows is not known")
	}
	if got.Cookie = 0; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("binding: got %+v, want %+v", got, want)
	}
	ends := []string{h.Tunnel.String()}
	healthy := o.Control == nil && o.Unknown == nil && o.Registered && slices.Equal(o.Ends, ends) && len(o.Astray) == 0 &&
		len(o.Tunnels) == 1 && o.Tunnels[0].Chassis == "host2" && o.Tunnels[0].Fault == ""
	if !healthy {
		t.Errorf("a healthy host: got %+v", o)
	}
	var rows []switchcfg.Learned
	err := h.Do(func() (err error) {
		rows, err = s.drivers[0].Learned(ctx)
		return err
	})
	known := []switchcfg.Learned{{MAC: vnet.MAC{0x52, 0x54, 0, 9, 0, 0}, Device: "to-n0"}}
	if err != nil || !slices.Equal(rows, known) {
		t.Errorf("learned: got %v, %v, want %v", rows, err, known)
	}

	// ovn-controller writes the SB's addresses of this host again as they change.
	run(t, h, "ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:ovn-encap-ip=192.0.2.1")
	nbctl(t, s.c, "--wait=hv", "sync")
	if o := s.inspect(); !slices.Equal(o.Astray, []string{"192.0.2.1"}) {
		t.Errorf("an address that is not the host's: got %+v", o)
	}
	run(t, h, "ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:ovn-encap-ip="+h.Tunnel.String())
	nbctl(t, s.c, "--wait=hv", "sync")

	if err := h.Controller().Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if o := s.inspect(); o.Control == nil || o.Unknown != nil || o.Bindings["to-n0"].Chassis != "host1" {
		t.Errorf("with ovn-controller killed: got %+v", o)
	}
	run(t, h, "ovs-vsctl", "del-port", o.Tunnels[0].Device)
	if o := s.inspect(); o.Tunnels[0].Fault == "" {
		t.Errorf("without the tunnel: got %+v", o)
	}
	if err := s.c.Central.SB().Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if o := s.inspect(); o.Unknown == nil || o.Bindings["to-n0"].ID == "" {
		t.Errorf("without the southbound database: got %+v", o)
	}
}
