// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

const (
	guest = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
	other = "7bd80b2c-7a4e-4b0f-9f1e-3d3a2c0f6d11"
)

var mac = vnet.MAC{0x52, 0x54, 0, 0x12, 0x34, 0x56}

// port is a guest port in the network red.
func port(device, uuid string, mac vnet.MAC) vnet.Port {
	return vnet.Port{
		Device: device, Switch: lab.IntegrationBridge, Network: "red", InterfaceID: switchtest.InterfaceID(device),
		Guest: vnet.GuestRef{Name: "g-" + device, UUID: uuid}, MAC: mac,
	}
}

// site is drivers of all hosts of a cluster.
type site struct {
	*testing.T

	c       *lab.Cluster
	sw      vnet.Switch
	drivers []onHost
}

func startSite(t *testing.T, hosts int) *site {
	t.Helper()
	c := start(t, hosts)
	s := &site{T: t, c: c, sw: brInt(t, c)}
	s.openAll()
	return s
}

func (s *site) openAll() {
	s.Helper()
	for _, h := range s.c.Hosts {
		d, err := open(s.Context(), h, s.sw)
		if err != nil {
			s.Fatal(err)
		}
		s.Cleanup(func() {
			if err := d.Close(); err != nil {
				s.Error(err)
			}
		})
		s.drivers = append(s.drivers, d)
	}
}

// plan is what leads to the state that ports of the first host are to have.
func (s *site) plan(ports ...vnet.Port) switchcfg.Plan {
	s.Helper()
	plan, err := s.planFor(s.Context(), 0, ports...)
	if err != nil {
		s.Fatal(err)
	}
	return plan
}

func (s *site) planFor(ctx context.Context, host int, ports ...vnet.Port) (switchcfg.Plan, error) {
	return switchtest.Plan(ctx, s.drivers[host], s.sw, ports...)
}

// wire brings ports to their state, as the hook does.
func (s *site) wire(ctx context.Context, host int, ports ...vnet.Port) error {
	s.Helper()
	plan, err := s.planFor(ctx, host, ports...)
	if err != nil {
		return err
	}
	_, err = s.drivers[host].Apply(ctx, plan)
	return err
}

func (s *site) mustWire(host int, ports ...vnet.Port) {
	s.Helper()
	if err := s.wire(s.Context(), host, ports...); err != nil {
		s.Fatal(err)
	}
}

// release does what the hook does when the guest on ct0 has stopped.
func (s *site) release(host int) {
	s.Helper()
	if err := s.drivers[host].Release(s.Context(), guest, []string{switchtest.InterfaceID("ct0")}); err != nil {
		s.Fatal(err)
	}
}

// requested is which chassis the port of ct0 asks for, with its activation strategy; or
// nothing when there is no such port.
func (s *site) requested() string {
	s.Helper()
	id := switchtest.InterfaceID("ct0")
	if nbctl(s.T, s.c, "--bare", "--columns=name", "find", "Logical_Switch_Port", "name="+id) == "" {
		return ""
	}
	options := nbctl(s.T, s.c, "get", "Logical_Switch_Port", id, "options")
	return strings.NewReplacer(`"`, "", "{", "", "}", "").Replace(options)
}

// bound waits until the southbound database has the port on the chassis.
func (s *site) bound(device, chassis string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	var got string
	for ctx.Err() == nil {
		id, err := s.c.Central.Sbctl(ctx, "--bare", "--columns=chassis", "find", "Port_Binding",
			"logical_port="+switchtest.InterfaceID(device))
		if err == nil && id != "" {
			got, err = s.c.Central.Sbctl(ctx, "--bare", "--columns=name", "list", "Chassis", id)
		}
		if err == nil && got == chassis {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.Fatalf("port of %s is bound to %q, want %s", device, got, chassis)
}

// TestMove takes a guest's port from one host to another, back when that fails,
// and away, and with it what the port had under another id.
func TestMove(t *testing.T) {
	const both = "activation-strategy=rarp, requested-chassis=host1,host2"
	startSite(t, 2).move(both)
}

// TestMoveOneByOne does that with an OVN in which a port has one chassis: the source
// has it as long as it wants to.
func TestMoveOneByOne(t *testing.T) {
	s := startSite(t, 2)
	for _, d := range s.drivers {
		d.OneChassis()
	}
	s.move("requested-chassis=host1, virt-vnet-next-chassis=host2")
}

// move takes the guest around. both is what its port asks for while it is on two
// hosts.
func (s *site) move(both string) {
	t := s.T
	p := port("ct0", guest, mac)
	p.Policy.Isolated = true
	starts := p
	starts.Starts = true
	for _, h := range s.c.Hosts {
		addTap(t, h, "ct0")
	}
	plug(t, s.c.Hosts[0], lab.IntegrationBridge, "ct0")
	s.mustWire(0, starts)
	s.bound("ct0", "host1")

	for _, step := range []struct {
		what, requested, bound string
		do                     func()
	}{
		{"a tap on the destination", "requested-chassis=host1", "host1", func() { plug(t, s.c.Hosts[1], lab.IntegrationBridge, "ct0") }},
		{"wired on the destination", both, "host1", func() { s.mustWire(1, p) }},
		{"wired again on the source", both, "host1", func() { s.mustWire(0, p) }},
		{"given up on the destination", "requested-chassis=host1", "host1", func() { s.release(1) }},
		{"wired on the destination again", both, "host1", func() { s.mustWire(1, p) }},
		{"stopped on the source", "requested-chassis=host2", "host2", func() { s.release(0) }},
		{"stopped on the source, again", "requested-chassis=host2", "host2", func() { s.release(0) }},
		{"started on the source", "requested-chassis=host1", "host1", func() { s.mustWire(0, starts) }},
		{"stopped on a host that lost it", "requested-chassis=host1", "host1", func() { s.release(1) }},
	} {
		begin := time.Now()
		step.do()
		t.Logf("%s: %v", step.what, time.Since(begin).Round(time.Millisecond))
		if got := s.requested(); got != step.requested {
			t.Fatalf("%s: got %q, want %q", step.what, got, step.requested)
		}
		s.bound("ct0", step.bound)
		if rules := strings.Fields(s.rulesOf(p)); len(rules) != 1 {
			t.Fatalf("%s: the isolated port has the rules %q, want one", step.what, rules)
		}
	}
	again := starts
	again.InterfaceID = switchtest.InterfaceID("ct9")
	run(t, s.c.Hosts[0], "ovs-vsctl", "set", "Interface", "ct0", "external_ids:iface-id="+again.InterfaceID)
	s.mustWire(0, again)
	if got := s.requested() + s.rulesOf(p); got != "" || s.rulesOf(again) == "" {
		t.Fatalf("what the guest had under the other id is still there: %s", got)
	}
	run(t, s.c.Hosts[0], "ovs-vsctl", "set", "Interface", "ct0", "external_ids:iface-id="+starts.InterfaceID)
	s.mustWire(0, starts)
	if rules := s.rulesOf(again); rules != "" {
		t.Fatalf("the port has its first id again, and the rules of the other are there: %s", rules)
	}
	s.release(0)
	if got := s.requested() + s.rulesOf(p); got != "" {
		t.Fatalf("the port, or its rule, is still there: %s", got)
	}
}

// twins wants two guests who have the same refused in one plan, as repair makes
// it: the second of them, so that the first can be wired.
func (s *site) twins(first vnet.Port) {
	s.Helper()
	second := port("ct1", other, first.MAC)
	second.Address = netip.MustParseAddr("10.0.0.6")
	for _, what := range []string{"the MAC address 52:54:00:12:34:56", "the address 10.0.0.5"} {
		nbctl(s.T, s.c, "lsp-del", first.InterfaceID)
		err := s.wire(s.Context(), 0, first, second)
		want := "network red: not ours to change: " + what + " is to be that of guest " + guest + ", port ct0, too: give one of them another"
		if got := switchcfg.PortErrors(err); !slices.Equal(got, []string{second.Device}) || !errors.Is(err, switchcfg.ErrNotOwned) || !strings.Contains(err.Error(), want) {
			s.Errorf("got error %v of ports %v, want %q of %s", err, got, want, second.Device)
		}
		if ports := nbctl(s.T, s.c, "lsp-list", "red"); ports != "" {
			s.Errorf("there are ports: %s", ports)
		}
		s.mustWire(0, first)
		second.MAC[5]++
		second.Address = first.Address
	}
}

// TestRefuse asks for what cannot be, and wants one line that says why.
func TestRefuse(t *testing.T) {
	s := startSite(t, 1)
	h, d := s.c.Hosts[0], s.drivers[0]
	for _, device := range []string{"ct0", "ct1"} {
		addTap(t, h, device)
		plug(t, h, lab.IntegrationBridge, device)
	}
	first := port("ct0", guest, mac)
	first.Address = netip.MustParseAddr("10.0.0.5")
	s.mustWire(0, first)

	sameMAC := port("ct1", other, mac)
	sameAddress := port("ct1", other, vnet.MAC{0x52, 0x54, 0, 1, 2, 3})
	sameAddress.Address = first.Address
	noNetwork := port("ct1", other, sameAddress.MAC)
	noNetwork.Network = "green"
	noID := noNetwork
	noID.Network, noID.InterfaceID = "red", ""
	for _, c := range []struct {
		port vnet.Port
		is   error
		want string
	}{
		{sameMAC, switchcfg.ErrNotOwned, "the MAC address 52:54:00:12:34:56 is that of guest " + guest},
		{sameAddress, switchcfg.ErrNotOwned, "the address 10.0.0.5 is that of guest " + guest},
		{noNetwork, switchcfg.ErrNoSwitch, "network green: no such switch: OVN has no logical switch of that name"},
		{noID, nil, "the NIC has no interfaceid"},
	} {
		err := s.wire(t.Context(), 0, c.port)
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got error %v, want %q", err, c.want)
		}
	}
	s.twins(first)
	want, err := switchcfg.Desired([]vnet.Port{first}, s.sw)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Examine(t.Context(), want); err != nil {
		t.Errorf("a healthy chassis: %v", err)
	}
	run(t, h, "ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:ovn-encap-ip=192.0.2.77")
	astray, err := open(t.Context(), h, s.sw)
	if err != nil {
		t.Fatal(err)
	}
	if err := astray.Examine(t.Context(), want); err == nil || !strings.Contains(err.Error(), "192.0.2.77, which is no address of this host") {
		t.Errorf("tunnels to elsewhere: got error %v", err)
	}
	if err := errors.Join(astray.Close(), h.Controller().Kill(t.Context())); err != nil {
		t.Fatal(err)
	}
	const dead = "ovn-controller does not run on this host"
	if err := d.Examine(t.Context(), want); err == nil || !strings.Contains(err.Error(), dead) {
		t.Errorf("without ovn-controller: got error %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err = s.wire(ctx, 0, port("ct1", other, sameAddress.MAC))
	if !errors.Is(err, switchcfg.ErrUnreachable) || !strings.Contains(err.Error(), dead) {
		t.Errorf("wired without ovn-controller: got error %v", err)
	}
}
