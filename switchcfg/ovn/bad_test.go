// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/ovn"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// deadline is what the hook may have left.
const deadline = time.Second

// TestBadServers takes away what a port needs to be bound, a thing at a time, and
// wants an error that says which, in time; and all well once it is back.
func TestBadServers(t *testing.T) {
	s := startSite(t, 1)
	h, nb := s.c.Hosts[0], s.c.Central.NB()[0]
	first, second := port("ct0", guest, mac), port("ct1", other, vnet.MAC{0x52, 0x54, 0, 1, 2, 3})
	for _, p := range []vnet.Port{first, second} {
		addTap(t, h, p.Device)
		plug(t, h, p.Switch, p.Device)
	}
	s.mustWire(0, first)
	fails := func(what, want string, ports ...vnet.Port) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		begun := time.Now()
		err := s.wire(ctx, 0, ports...)
		if took := time.Since(begun); took > deadline+500*time.Millisecond {
			t.Errorf("%s: it took %v", what, took)
		}
		if !errors.Is(err, switchcfg.ErrUnreachable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", what, err, want)
		}
	}

	if err := nb.Pause(); err != nil {
		t.Fatal(err)
	}
	fails("a server that says nothing", "does not answer", second)
	if err := errors.Join(nb.Resume(), nb.Kill(t.Context())); err != nil {
		t.Fatal(err)
	}
	fails("no server", "does not answer", second)
	if err := nb.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.mustWire(0, first, second)

	// A chassis that is in no southbound database binds nothing.
	remote := s.c.Central.SBTCP()
	run(t, h, "ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:ovn-remote=tcp:10.88.0.1:1")
	second.Policy.Profile = vnet.ProfileAppliance
	fails("another southbound database", "to the southbound database: ovs-vsctl get Open_vSwitch . external_ids:ovn-remote", second)
	run(t, h, "ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:ovn-remote="+remote)
	s.mustWire(0, second)
	run(t, h, "ovs-vsctl", "remove", "Open_vSwitch", ".", "external_ids", "ovn-encap-ip")
	nameless, err := open(t.Context(), h, s.sw)
	if err != nil {
		t.Fatal(err)
	}
	if err := nameless.Examine(t.Context(), switchcfg.State{}); err == nil || !strings.Contains(err.Error(), "has no address for its tunnels: ovs-vsctl set") {
		t.Errorf("no address for tunnels: got error %v", err)
	}
	if err := nameless.Close(); err != nil {
		t.Error(err)
	}
	run(t, h, "ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:ovn-encap-ip="+h.Tunnel.String())

	// One that cannot be registered: its address is another's.
	if err := h.Controller().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.sbctl("chassis-del", "host1")
	s.sbctl("chassis-add", "ghost", "geneve", h.Tunnel.String())
	if err := h.Controller().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	second.Policy.Profile = vnet.ProfileGuest
	fails("a chassis that is not registered", "ovn-controller runs: is the chassis registered? ovn-sbctl show", second)
	s.sbctl("chassis-del", "ghost")
	s.mustWire(0, second)

	s.older("Logical_Switch/load_balancer", "QoS/bandwidth")
	s.withoutColumns(first)
}

func (s *site) sbctl(args ...string) {
	s.Helper()
	if _, err := s.c.Central.Sbctl(s.Context(), args...); err != nil {
		s.Fatal(err)
	}
}

// Schemas of databases that drivers write to, and where the databases are.
const (
	northSchema = "/usr/share/ovn/ovn-nb.ovsschema"
	northSocket = "unix:/run/ovn/ovnnb_db.sock"
	hostSchema  = "/usr/share/openvswitch/vswitch.ovsschema"
	hostSocket  = "unix:/run/openvswitch/db.sock"
)

// convert makes the northbound database one with the schema in file.
func (s *site) convert(file string) {
	s.Helper()
	if out, err := s.c.Lab.Run(s.Context(), "ovsdb-client", "--timeout=10", "convert", northSocket, file); err != nil {
		s.Fatal(err, out)
	}
}

// older makes the northbound database one of a version without these columns.
func (s *site) older(without ...string) {
	s.Helper()
	s.convert(switchtest.Schema(s.T, northSchema, "1.0.0", func(tables map[string]any) {
		for _, what := range without {
			table, column, _ := strings.Cut(what, "/")
			delete(tables[table].(map[string]any)["columns"].(map[string]any), column)
		}
	}))
}

// TestNewerServers does all with databases of versions that nobody has seen.
func TestNewerServers(t *testing.T) {
	s := &site{T: t, c: start(t, 1)}
	s.sw = brInt(t, s.c)
	h := s.c.Hosts[0]
	s.convert(switchtest.Newer(t, northSchema))
	run(t, h, "ovsdb-client", "--timeout=10", "convert", hostSocket, switchtest.Newer(t, hostSchema))
	s.openAll()
	addTap(t, h, "ct0")
	p := port("ct0", guest, mac)
	p.Policy = vnet.Policy{AntiSpoof: true, Isolated: true, QoS: vnet.QoS{Inbound: vnet.Rate{Bits: testRate}}}
	s.mustWire(0, p)
	s.bound("ct0", "host1")
	if plan := s.plan(p); !plan.Empty() {
		t.Errorf("left to do:\n%s", plan)
	}
	s.release(0)
	if got := s.requested(); got != "" {
		t.Errorf("the port is still there: %s", got)
	}
	networks, err := ovn.OpenNetworks(t.Context(), s.sw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = networks.Close() })
	central{s.c.Central, t, networks, s.c}.apply(topology(), "db", "app-net", "ext")
	if o := s.inspect(); o.Unknown != nil || o.Control != nil {
		t.Errorf("got %+v", o)
	}
}

// withoutColumns wants what needs the columns refused, and all else to work.
func (s *site) withoutColumns(p vnet.Port) {
	s.Helper()
	d, err := open(s.Context(), s.c.Hosts[0], s.sw)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = d.Close() })
	s.drivers[0] = d
	s.mustWire(0, p)
	p.Policy.QoS.Inbound.Bits = testRate
	const limits = "the northbound database of this OVN (schema 1.0.0) has no limits (QoS.bandwidth); network red needs qos inbound: 16mbit"
	if err := s.wire(s.Context(), 0, p); !errors.Is(err, switchcfg.ErrUnsupported) || !strings.Contains(err.Error(), limits) {
		s.Errorf("a limit: got error %v", err)
	}
	networks, err := ovn.OpenNetworks(s.Context(), s.sw)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = networks.Close() })
	site := balanced()
	_, err = networks.PlanNetworks(s.Context(), site, []string{"app"})
	const balancers = "logical switch app: not supported here: the northbound database of this OVN (schema 1.0.0) has no column load_balancer in the table Logical_Switch"
	if !errors.Is(err, switchcfg.ErrUnsupported) || !strings.Contains(err.Error(), balancers) {
		s.Errorf("a load balancer: got error %v", err)
	}
	site.Routers[0].LoadBalancers = nil
	central{s.c.Central, s.T, networks, s.c}.apply(site, "app")
}
