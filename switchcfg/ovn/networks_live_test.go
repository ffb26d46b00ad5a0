// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/ovn"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// central is an OVN central, and the networks of it.
type central struct {
	*lab.Central

	t        *testing.T
	networks *ovn.Networks
	cluster  *lab.Cluster
}

func startCentral(t *testing.T, opts lab.OVNOptions) central {
	t.Helper()
	lab.Need(t, lab.OVN)
	cluster := labtest.StartCluster(t, lab.ClusterOptions{Hosts: 1, OVN: &opts})
	c := cluster.Central
	sw := vnet.Switch{Name: lab.IntegrationBridge, Driver: vnet.DriverOVN}
	endpoints := c.NBTCP()
	if opts.SSL {
		endpoints = c.NBSSL()
		certs := c.Certificates()
		sw.TLS = vnet.TLS{Key: certs.ClientKey, Certificate: certs.Client, CA: certs.CA}
	}
	if err := sw.Database.UnmarshalText([]byte(endpoints)); err != nil {
		t.Fatal(err)
	}
	networks, err := ovn.OpenNetworks(t.Context(), sw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = networks.Close() })
	return central{c, t, networks, cluster}
}

func (c central) nbctl(args ...string) string {
	c.t.Helper()
	out, err := c.Nbctl(c.t.Context(), args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// apply makes the networks so, and wants nothing left to do.
func (c central) apply(t *vnet.Topology, names ...string) (lines []string, undo func(context.Context) error) {
	c.t.Helper()
	lines, undo, err := c.networks.ApplyNetworks(c.t.Context(), t, names)
	if err != nil {
		c.t.Fatal(err)
	}
	again, err := c.networks.PlanNetworks(c.t.Context(), t, names)
	if err != nil || len(again) > 0 {
		c.t.Errorf("after apply there is more to do: %q, %v", again, err)
	}
	return lines, undo
}

// topology is two networks and their router, with everything.
func topology() *vnet.Topology {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	t := &vnet.Topology{
		Switches: []vnet.Switch{{Name: lab.IntegrationBridge, Driver: vnet.DriverOVN}},
		Networks: []vnet.Network{
			{
				Name: "app-net", Mode: vnet.ModeBridge, Switch: lab.IntegrationBridge, Subnet: prefix("10.0.20.0/24"), Gateway: addr("10.0.20.1"),
				Logical: vnet.Logical{
					Router: "r1", DHCP: vnet.DHCP{Serve: true, DNS: []netip.Addr{addr("9.9.9.9")}, Domain: "example.org"},
					ACLs: []vnet.ACL{
						{Direction: vnet.DirectionIn, Action: vnet.ActionAllow, Protocol: vnet.ProtocolTCP, Ports: vnet.PortRanges{{First: 22, Last: 22}, {First: 80, Last: 89}}, From: vnet.Peer{Set: "admins"}},
						{Direction: vnet.DirectionIn, Action: vnet.ActionDrop, Log: true},
						{Direction: vnet.DirectionOut, Action: vnet.ActionReject, To: vnet.Peer{Network: "db"}},
					},
				},
			},
			{
				Name: "db", Mode: vnet.ModeBridge, Switch: lab.IntegrationBridge, Subnet: prefix("10.0.30.0/24"), Gateway: addr("10.0.30.1"),
				Logical: vnet.Logical{Router: "r1"},
			},
			{
				Name: "ext", Mode: vnet.ModeBridge, Switch: lab.IntegrationBridge,
				Logical: vnet.Logical{Localnet: vnet.Localnet{Physical: "physnet1", VLAN: 20}},
			},
		},
		Routers: []vnet.Router{{
			Name: "r1", Switch: lab.IntegrationBridge, SNAT: []netip.Prefix{prefix("10.0.20.0/24")},
			DNAT:   []vnet.DNAT{{External: addr("203.0.113.20"), To: addr("10.0.20.11")}},
			Routes: []vnet.Route{{To: prefix("10.8.0.0/16"), Via: addr("10.0.30.8")}},
			Uplink: vnet.Uplink{Network: "ext", Address: prefix("203.0.113.10/24"), Gateway: addr("203.0.113.1"), Chassis: []string{"host1"}},
		}},
		AddressSets: []vnet.AddressSet{{Name: "admins", Addresses: []netip.Prefix{prefix("10.7.0.0/16"), prefix("2001:db8::/64")}}},
	}
	t.Complete()
	return t
}

func TestNetworks(t *testing.T) {
	c := startCentral(t, lab.OVNOptions{})
	c.nbctl("ls-add", "foreign", "--", "acl-add", "foreign", "to-lport", "5", "ip4", "drop")
	before := c.rows()
	site := topology()
	plan, err := c.networks.PlanNetworks(t.Context(), site, []string{"app-net", "db", "ext"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, c.rows()); diff != "" {
		t.Fatalf("the plan changed something (-before +after):\n%s", diff)
	}
	done, undo := c.apply(site, "app-net", "db", "ext")
	if diff := cmp.Diff(plan, done); diff != "" || len(done) == 0 {
		t.Errorf("planned and done (-planned +done):\n%s", diff)
	}
	c.independent()
	if err := undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, c.rows()); diff != "" {
		t.Errorf("undone (-before +after):\n%s", diff)
	}
}

// independent looks with OVN's own tools, also at what ovn-northd made of it.
func (c central) independent() {
	c.t.Helper()
	for _, look := range []struct {
		args []string
		want []string
	}{
		{[]string{"acl-list", "pg_app_net"}, []string{
			`from-lport  1998 (inport == @pg_app_net && ip4.dst == 10.0.30.0/24) reject`,
			`to-lport  2000 (outport == @pg_app_net && (ip4.src == $admins_ip4 || ip6.src == $admins_ip6) && tcp && (tcp.dst == 22 || 80 <= tcp.dst <= 89)) allow-related`,
			`to-lport  1999 (outport == @pg_app_net && ip && !nd && !nd_rs && !nd_ra) drop log(name=in drop,severity=info)`,
		}},
		{[]string{"lr-nat-list", "r1"}, []string{"dnat", "203.0.113.20", "10.0.20.11", "snat", "203.0.113.10", "10.0.20.0/24"}},
		{[]string{"lr-route-list", "r1"}, []string{"10.8.0.0/16", "10.0.30.8", "0.0.0.0/0", "203.0.113.1"}},
		{[]string{"lrp-get-gateway-chassis", "r1-to-ext"}, []string{"host1", "1000"}},
		{[]string{"--bare", "--columns=options", "find", "DHCP_Options", "external_ids:virt-vnet-network=app-net"}, []string{
			"lease_time=3600", "mtu=1442", "dns_server={9.9.9.9}", `domain_name="example.org"`, "router=10.0.20.1", "server_id=10.0.20.1",
		}},
		{[]string{"--bare", "--columns=type,options,tag", "find", "Logical_Switch_Port", "name=ext-localnet"}, []string{"localnet", "network_name=physnet1", "20"}},
		{[]string{"--bare", "--columns=addresses", "find", "Address_Set", "name=admins_ip6"}, []string{"2001:db8::/64"}},
	} {
		out := c.nbctl(look.args...)
		for _, want := range look.want {
			if !strings.Contains(strings.Join(strings.Fields(out), " "), strings.Join(strings.Fields(want), " ")) {
				c.t.Errorf("%v: got\n%s\nwant %s", look.args, out, want)
			}
		}
	}
	c.nbctl("--wait=sb", "lsp-add", "app-net", "guest", "--", "pg-set-ports", "pg_app_net", "guest")
	flows, err := c.Sbctl(c.t.Context(), "lflow-list", "app-net")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, want := range []string{"priority=3000", "@pg_app_net && ip4.dst == 10.0.30.0/24", "outport == @pg_app_net"} {
		if !strings.Contains(flows, want) {
			c.t.Errorf("ovn-northd made no flow with %q of it", want)
		}
	}
	c.nbctl("lsp-del", "guest")
	if strings.Contains(c.Northd().Log(), "|ERR|") {
		c.t.Errorf("ovn-northd: %s", c.Northd().Log())
	}
}

// rows is what is in the northbound database.
func (c central) rows() map[string]string {
	all := map[string]string{}
	for _, table := range []string{
		"Logical_Switch", "Logical_Switch_Port", "Port_Group", "Address_Set", "ACL", "DHCP_Options",
		"Logical_Router", "Logical_Router_Port", "NAT", "Logical_Router_Static_Route", "Gateway_Chassis",
	} {
		all[table] = c.nbctl("--columns=external_ids", "--bare", "list", table)
	}
	return all
}

func TestNetworksChange(t *testing.T) {
	c := startCentral(t, lab.OVNOptions{})
	site := topology()
	c.apply(site, "app-net", "db", "ext")
	// What others put there stays, and drift goes.
	c.nbctl("set", "Logical_Switch", "app-net", "other_config:mcast_snoop=true", "--", "acl-add", "app-net", "to-lport", "7", "ip4", "drop",
		"--", "set", "Logical_Switch_Port", "ext-localnet", "tag=21", "--", "clear", "Port_Group", "pg_app_net", "acls")
	site.Networks[0].Logical.DHCP.LeaseTime = 2 * time.Hour
	site.Networks[0].Subnet = netip.MustParsePrefix("10.0.0.0/16")
	site.Routers[0].SNAT = append(site.Routers[0].SNAT, netip.MustParsePrefix("10.0.30.0/24"))
	lines, undo := c.apply(site, "app-net", "db", "ext")
	if diff := cmp.Diff([]string{
		"logical switch app-net: subnet 10.0.20.0/24 -> 10.0.0.0/16",
		"network app-net, dhcp: cidr 10.0.20.0/24 -> 10.0.0.0/16",
		"network app-net, dhcp: lease_time 3600 -> 7200",
		"network ext, port ext-localnet: tag 21 -> 20",
		"router r1, router port r1-to-app-net: networks 10.0.20.1/24 -> 10.0.20.1/16",
		"network app-net, acl in allow tcp ports 22,80-89 from set admins: create",
		"network app-net, acl in drop: create",
		"network app-net, acl out reject to network db: create",
		"router r1, snat 203.0.113.10 10.0.30.0/24: create",
	}, lines); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if err := undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.nbctl("get", "Logical_Switch_Port", "ext-localnet", "tag"); got != "21" {
		t.Errorf("after undo the tag is %s, want 21", got)
	}
	c.apply(site, "app-net", "db", "ext")
	if got := c.nbctl("get", "Logical_Switch", "app-net", "other_config:mcast_snoop"); got != `"true"` && got != "true" {
		t.Errorf("other_config:mcast_snoop of others is %s", got)
	}
	if got := c.nbctl("acl-list", "app-net"); !strings.Contains(got, " 7 (ip4)") {
		t.Errorf("the ACL of others is gone: %q", got)
	}
	// One network goes, and the rest stays.
	less := *site
	less.Networks = site.Networks[1:]
	c.apply(&less, "app-net")
	if got := c.nbctl("--bare", "--columns=name", "list", "Logical_Switch"); !cmp.Equal(unordered(got), []string{"db", "ext"}) {
		t.Errorf("switches: %q", got)
	}
	c.apply(&vnet.Topology{Switches: site.Switches}, "db", "ext")
	for table, rows := range c.rows() {
		if rows != "" {
			t.Errorf("left in %s: %s", table, rows)
		}
	}
}

func unordered(text string) []string {
	words := strings.Fields(text)
	if len(words) > 1 && words[0] > words[1] {
		words[0], words[1] = words[1], words[0]
	}
	return words
}

// TestNetworksOfOthers wants nothing touched that is somebody else's, and
// nothing removed that guests or others are on.
func TestNetworksOfOthers(t *testing.T) {
	c := startCentral(t, lab.OVNOptions{})
	site := topology()
	for _, make := range [][]string{
		{"ls-add", "db"},
		{"lr-add", "r1"},
		{"pg-add", "pg_db"},
		{"ls-add", "x", "--", "lsp-add", "x", "db-to-r1"},
	} {
		c.nbctl(make...)
		before := c.rows()
		_, _, err := c.networks.ApplyNetworks(t.Context(), site, []string{"db"})
		if !errors.Is(err, switchcfg.ErrNotOwned) {
			t.Errorf("%v: got error %v, want one that is %q", make, err, switchcfg.ErrNotOwned)
		}
		if diff := cmp.Diff(before, c.rows()); diff != "" {
			t.Errorf("%v: something is changed:\n%s", make, diff)
		}
		kind, _, _ := strings.Cut(make[0], "-")
		c.nbctl(kind+"-del", make[1])
	}
	c.apply(site, "db")
	c.nbctl("lsp-add", "db", "7d3f6a0e-0000-4000-8000-000000000001")
	gone := &vnet.Topology{Switches: site.Switches}
	_, _, err := c.networks.ApplyNetworks(t.Context(), gone, []string{"db"})
	if !errors.Is(err, switchcfg.ErrNotOwned) || !strings.Contains(err.Error(), "logical switch db") || !strings.Contains(err.Error(), "on it: 1") {
		t.Errorf("a port is on it: got error %v", err)
	}
	c.nbctl("lsp-del", "7d3f6a0e-0000-4000-8000-000000000001")
	c.apply(gone, "db")
}

// TestNetworksWithoutServer takes the server away, before and in the middle.
func TestNetworksWithoutServer(t *testing.T) {
	c := startCentral(t, lab.OVNOptions{})
	site := topology()
	if err := c.NB()[0].Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.networks.ApplyNetworks(t.Context(), site, []string{"db"}); !errors.Is(err, switchcfg.ErrUnreachable) {
		t.Errorf("no server: got error %v", err)
	}
	if err := c.NB()[0].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.apply(site, "db")
	if err := c.NB()[0].Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, _, err := c.networks.ApplyNetworks(ctx, site, []string{"db", "app-net"})
	if !errors.Is(err, switchcfg.ErrUnreachable) {
		t.Errorf("a server that says nothing: got error %v", err)
	}
	if err := c.NB()[0].Resume(); err != nil {
		t.Fatal(err)
	}
	c.apply(site, "db", "app-net", "ext")
}

// withPort is a host of the cluster with a port in the network db.
func (c central) withPort() (*site, vnet.Port) {
	c.t.Helper()
	s := &site{T: c.t, c: c.cluster, sw: brInt(c.t, c.cluster)}
	d, err := open(c.t.Context(), c.cluster.Hosts[0], s.sw)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = d.Close() })
	s.drivers = []onHost{d}
	p := port("ct0", guest, mac)
	p.Network = "db"
	addTap(c.t, d.h, p.Device)
	plug(c.t, d.h, p.Switch, p.Device)
	s.mustWire(0, p)
	return s, p
}

// TestNetworksOfCluster wires a port, too, and asks a cluster, over TLS, and takes its leader away.
func TestNetworksOfCluster(t *testing.T) {
	c := startCentral(t, lab.OVNOptions{Servers: 3, SSL: true})
	site := topology()
	c.apply(site, "db")
	untrusting := c.networks.Switch()
	untrusting.TLS.CA = c.Certificates().WrongCA
	if _, err := ovn.OpenNetworks(t.Context(), untrusting); !errors.Is(err, switchcfg.ErrPermission) || !strings.Contains(err.Error(), "is not signed by") {
		t.Errorf("with a wrong CA: got error %v", err)
	}
	s, p := c.withPort()
	leader, err := c.Leader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := leader.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	p.Policy.AntiSpoof = true
	for {
		soon, cancel := context.WithTimeout(ctx, 2*time.Second) // ovn-northd takes its time to find the new leader
		err := s.wire(soon, 0, p)
		cancel()
		if err == nil {
			_, _, err = c.networks.ApplyNetworks(ctx, site, []string{"db", "app-net", "ext"})
		}
		if err == nil {
			break
		}
		if !errors.Is(err, switchcfg.ErrUnreachable) || ctx.Err() != nil {
			t.Fatalf("without its leader: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.apply(site, "db", "app-net", "ext")
}
