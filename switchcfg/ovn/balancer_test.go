// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn_test

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg/ovn"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// balanced is a network with two servers behind one address.
func balanced() *vnet.Topology {
	backend := func(addr string) vnet.Backend {
		return vnet.Backend{Peer: vnet.Peer{Prefix: netip.MustParsePrefix(addr + "/32")}, Port: 8080}
	}
	t := &vnet.Topology{
		Switches: []vnet.Switch{{Name: lab.IntegrationBridge, Driver: vnet.DriverOVN}},
		Networks: []vnet.Network{{
			Name: "app", Mode: vnet.ModeBridge, Switch: lab.IntegrationBridge,
			Subnet: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1"),
			Logical: vnet.Logical{Router: "r1"},
		}},
		Routers: []vnet.Router{{
			Name: "r1", Switch: lab.IntegrationBridge,
			LoadBalancers: []vnet.LoadBalancer{
				{VIP: netip.MustParseAddrPort("10.0.0.100:80"), Backends: []vnet.Backend{backend("10.0.0.6"), backend("10.0.0.7")}},
			},
		}},
	}
	t.Complete()
	return t
}

// serve answers each connection with the name of the station.
func serve(t *testing.T, s *lab.Station) {
	t.Helper()
	var listener net.Listener
	err := s.Do(func() (err error) {
		listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "0.0.0.0:8080")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() }) // which ends the loop
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, s.Name) // the client tells
			_ = c.Close()
		}
	}()
}

// ask is who answers at the address, or nothing. A SYN may be lost while the router
// learns a backend's MAC: it is sent again after one and after three seconds.
func ask(t *testing.T, from *lab.Station, address string) (name string) {
	t.Helper()
	_ = from.Do(func() error {
		c, err := (&net.Dialer{Timeout: 4 * time.Second}).DialContext(t.Context(), "tcp4", address)
		if err != nil {
			return err
		}
		defer c.Close() //nolint:errcheck // it is only read from
		text, err := io.ReadAll(c)
		name = string(text)
		return err
	})
	return name
}

// answers counts who answers some connections.
func answers(t *testing.T, from *lab.Station, address string) map[string]int {
	t.Helper()
	count := map[string]int{}
	for range 24 { // with two that are as likely, one is left out once in eight million times
		name := ask(t, from, address)
		if count[name]++; name == "" {
			break
		}
	}
	return count
}

// TestBalancer connects to an address that two guests serve.
func TestBalancer(t *testing.T) {
	s := startSite(t, 1)
	networks, err := ovn.OpenNetworks(t.Context(), s.sw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = networks.Close() })
	c := central{s.c.Central, t, networks, s.c}
	site := balanced()
	c.apply(site, "app")
	var stations []*lab.Station
	for i, name := range []string{"ct0", "ct1", "ct2"} {
		station, port := s.station(0, name, byte(5+i))
		port.Network = "app"
		s.mustWire(0, port)
		stations = append(stations, station)
	}
	client := stations[0]
	for _, server := range stations[1:] {
		serve(t, server)
	}
	const vip = "10.0.0.100:80"
	if err := client.WaitPing(t.Context(), stations[1].Addresses[0].Addr(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	c.nbctl("--wait=hv", "sync")
	if got := answers(t, client, vip); got["ct1"] == 0 || got["ct2"] == 0 || got[""] > 0 {
		t.Errorf("connections to %s: answered by %v, want both ct1 and ct2", vip, got)
	}

	// Drift is found, one server less is none the worse, and without it nobody answers.
	c.nbctl("set", "Load_Balancer", "r1 tcp "+vip, `vips:"`+vip+`"="10.0.0.9:9"`)
	c.nbctl("ls-lb-del", "app")
	lines, err := networks.PlanNetworks(t.Context(), site, []string{"app"})
	if err != nil || len(lines) != 2 {
		t.Errorf("after meddling there is to do: %q, %v", lines, err)
	}
	site.Routers[0].LoadBalancers[0].Backends = site.Routers[0].LoadBalancers[0].Backends[1:]
	_, undo := c.apply(site, "app")
	c.nbctl("--wait=hv", "sync")
	if got := answers(t, client, vip); got["ct2"] == 0 || len(got) > 1 {
		t.Errorf("connections to %s with one server: answered by %v", vip, got)
	}
	if err := undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.nbctl("--bare", "--columns=vips", "list", "Load_Balancer"); got != vip+"=10.0.0.9:9" {
		t.Errorf("after the undo the load balancer is %q, want what was before", got)
	}

	c.apply(site, "app")
	c.nbctl("lb-add", "others", "10.9.9.9:9", "10.9.9.8:8", "--", "ls-lb-add", "app", "others")
	site.Routers[0].LoadBalancers = nil
	lines, undo = c.apply(site, "app")
	c.nbctl("--wait=hv", "sync")
	if got := answers(t, client, vip); len(got) > 1 || got[""] == 0 {
		t.Errorf("removed, and %s is answered by %v: %q", vip, got, lines)
	}
	if got := c.nbctl("--bare", "--columns=name", "list", "Load_Balancer"); got != "others" {
		t.Errorf("left of load balancers: %q, want that of others", got)
	}
	if err := undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]string{{"ls-lb-list", "app"}, {"lr-lb-list", "r1"}} {
		if got := c.nbctl(list...); !strings.Contains(got, vip) {
			t.Errorf("after the undo of the removal %q is %q, want %s among it", list, got, vip)
		}
	}
}
