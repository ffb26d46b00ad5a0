// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// site is two networks and their router, with everything.
func site() *vnet.Topology {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	t := &vnet.Topology{
		Switches: []vnet.Switch{{Name: "br-int", Driver: vnet.DriverOVN}},
		Networks: []vnet.Network{
			{
				Name: "app", Mode: vnet.ModeBridge, Switch: "br-int", Subnet: prefix("10.0.20.0/24"), Gateway: addr("10.0.20.1"),
				Logical: vnet.Logical{
					Router: "r1",
					DHCP: vnet.DHCP{
						Serve: true, LeaseTime: 2 * time.Hour, DNS: []netip.Addr{addr("9.9.9.9"), addr("1.1.1.1")}, Domain: "example.org",
						Routes: []vnet.Route{{To: prefix("10.9.0.0/16"), Via: addr("10.0.20.9")}},
					},
					ACLs: []vnet.ACL{
						{Direction: vnet.DirectionIn, Action: vnet.ActionAllow, Protocol: vnet.ProtocolTCP, Ports: vnet.PortRanges{{First: 22, Last: 22}, {First: 80, Last: 89}}, From: vnet.Peer{Set: "admins"}},
						{Direction: vnet.DirectionIn, Action: vnet.ActionDrop, Log: true},
						{Direction: vnet.DirectionOut, Action: vnet.ActionReject, From: vnet.Peer{Guest: "web1"}, To: vnet.Peer{Network: "db-net"}},
					},
				},
			},
			{
				Name: "db-net", Mode: vnet.ModeBridge, Switch: "br-int", Subnet: prefix("10.0.30.0/24"), Gateway: addr("10.0.30.1"),
				Logical: vnet.Logical{Router: "r1"},
			},
			{
				Name: "ext", Mode: vnet.ModeBridge, Switch: "br-int",
				Logical: vnet.Logical{Localnet: vnet.Localnet{Physical: "physnet1", VLAN: 20}},
			},
			{Name: "lan", Mode: vnet.ModeBridge, Switch: "br0"},
		},
		Routers: []vnet.Router{{
			Name: "r1", Switch: "br-int", SNAT: []netip.Prefix{prefix("10.0.20.0/24")},
			DNAT:   []vnet.DNAT{{External: addr("203.0.113.20"), To: addr("10.0.20.11")}},
			Routes: []vnet.Route{{To: prefix("10.8.0.0/16"), Via: addr("10.0.30.8")}},
			Uplink: vnet.Uplink{Network: "ext", Address: prefix("203.0.113.10/24"), Gateway: addr("203.0.113.1"), Chassis: []string{"host1", "host2"}},
		}},
		AddressSets: []vnet.AddressSet{{Name: "admins", Addresses: []netip.Prefix{prefix("10.7.0.0/16"), prefix("10.0.20.5/32"), prefix("2001:db8::/64")}}},
		Guests:      []vnet.Guest{{Name: "web1", NICs: []vnet.NIC{{Network: "app", Address: addr("10.0.20.11")}}}},
	}
	t.Complete()
	return t
}

var everything = set([]string{"app", "db-net", "ext"})

func wanted(t *vnet.Topology, scope map[string]bool) objects { return desired(t, t.Switches[0], scope) }

// observed is the objects as they would be observed.
func observed(want objects) objects {
	have := objects{}
	for _, o := range want {
		o := *o
		o.uuid = ovsdb.UUID(o.table + o.key)
		o.row = ovsdb.Row{"external_ids": o.marks()}
		maps.Copy(o.row, o.columns)
		have[o.id()] = &o
	}
	return have
}

func TestDesired(t *testing.T) {
	want := wanted(site(), everything)
	got := lines(diff(want, objects{}, everything))
	expected := []string{
		"logical switch app: create", "logical switch db-net: create", "logical switch ext: create",
		"port group pg_app: create", "port group " + vnet.GroupName("db-net") + ": create", "port group pg_ext: create",
		"address set admins_ip4: create", "address set admins_ip6: create",
		"logical router r1: create",
		"network app, dhcp: create",
		"network app, port app-to-r1: create", "network db-net, port db-net-to-r1: create",
		"network ext, port ext-localnet: create", "network ext, port ext-to-r1: create",
		"router r1, router port r1-to-app: create", "router r1, router port r1-to-db-net: create", "router r1, router port r1-to-ext: create",
		"network ext, gateway chassis r1-to-ext-host1: create", "network ext, gateway chassis r1-to-ext-host2: create",
		"network app, acl in allow tcp ports 22,80-89 from set admins: create", "network app, acl in drop: create",
		"network app, acl out reject from web1 to network db-net: create",
		"router r1, dnat 203.0.113.20 10.0.20.11: create", "router r1, snat 203.0.113.10 10.0.20.0/24: create",
		"router r1, route 10.8.0.0/16 via 10.0.30.8: create", "router r1, route 0.0.0.0/0 via 203.0.113.1: create",
	}
	if diff := cmp.Diff(expected, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	options := want[id{tableDHCP, "app"}].columns["options"]
	if diff := cmp.Diff(ovsdb.Dict{
		"lease_time": "7200", "mtu": "1442", "router": "10.0.20.1", "server_id": "10.0.20.1", "server_mac": macFor("app", netip.MustParseAddr("10.0.20.1")),
		"dns_server": "{9.9.9.9, 1.1.1.1}", "domain_name": `"example.org"`, "classless_static_route": "{10.9.0.0/16,10.0.20.9, 0.0.0.0/0,10.0.20.1}",
	}, options); diff != "" {
		t.Errorf("DHCP options (-want +got):\n%s", diff)
	}
	if got := want[id{tableSwitch, "app"}].columns["other_config"]; !cmp.Equal(got, ovsdb.Dict{"subnet": "10.0.20.0/24", "exclude_ips": "10.0.20.1 10.0.20.11"}) {
		t.Errorf("other_config of the switch: %v", got)
	}
	var matches []string
	for _, o := range want.list() {
		if o.table == tableACL {
			matches = append(matches, o.columns["match"].(string))
		}
	}
	if diff := cmp.Diff([]string{
		"outport == @pg_app && (ip4.src == $admins_ip4 || ip6.src == $admins_ip6) && tcp && (tcp.dst == 22 || 80 <= tcp.dst <= 89)",
		"outport == @pg_app && ip && !nd && !nd_rs && !nd_ra",
		"inport == @pg_app && ip4.src == 10.0.20.11 && ip4.dst == 10.0.30.0/24",
	}, matches); diff != "" {
		t.Errorf("matches (-want +got):\n%s", diff)
	}
}

func TestDiff(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*vnet.Topology)
		scope  string
		want   []string
	}{
		"nothing": {func(*vnet.Topology) {}, "app db-net ext", nil},
		"lease": {func(t *vnet.Topology) { t.Networks[0].Logical.DHCP.LeaseTime = time.Hour }, "app", []string{
			"network app, dhcp: lease_time 7200 -> 3600",
		}},
		"ACL": {func(t *vnet.Topology) { t.Networks[0].Logical.ACLs = t.Networks[0].Logical.ACLs[1:] }, "app", []string{
			"network app, acl in drop: priority 1999 -> 2000",
			"network app, acl out reject from web1 to network db-net: priority 1998 -> 1999",
			"network app, acl in allow tcp ports 22,80-89 from set admins: remove",
			"address set admins_ip6: remove", "address set admins_ip4: remove",
		}},
		"VLAN": {func(t *vnet.Topology) { t.Networks[2].Logical.Localnet.VLAN = 0 }, "ext", []string{
			"network ext, port ext-localnet: tag 20 -> none",
		}},
		"one network less": {func(t *vnet.Topology) { t.Networks = t.Networks[1:] }, "app", []string{
			"network app, acl out reject from web1 to network db-net: remove", "network app, acl in drop: remove",
			"network app, acl in allow tcp ports 22,80-89 from set admins: remove",
			"router r1, router port r1-to-app: remove", "network app, port app-to-r1: remove", "network app, dhcp: remove",
			"address set admins_ip6: remove", "address set admins_ip4: remove",
			"port group pg_app: remove", "logical switch app: remove",
		}},
		"not in scope": {func(t *vnet.Topology) { t.Networks = t.Networks[2:] }, "ext", nil},
		"router's route": {func(t *vnet.Topology) { t.Routers[0].Routes = nil }, "db-net", []string{
			"router r1, route 10.8.0.0/16 via 10.0.30.8: remove",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			topology := site()
			have := observed(wanted(topology, everything))
			c.change(topology)
			scope := set(strings.Fields(c.scope))
			changes := diff(wanted(topology, scope), have, scope)
			if d := cmp.Diff(c.want, lines(changes)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestDiffBalancers gives a router a load balancer, changes and removes it.
func TestDiffBalancers(t *testing.T) {
	plain, balanced := site(), site()
	balanced.Routers[0].LoadBalancers = []vnet.LoadBalancer{{
		VIP: netip.MustParseAddrPort("10.0.20.100:80"), Backends: []vnet.Backend{
			{Peer: vnet.Peer{Guest: "web1"}, Port: 8080}, {Peer: vnet.Peer{Prefix: netip.MustParsePrefix("10.0.30.12/32")}, Port: 80},
		},
	}}
	want := wanted(balanced, everything)
	row := want[id{tableBalancer, "r1 tcp 10.0.20.100:80"}]
	if diff := cmp.Diff(map[string]any{
		"name": "r1 tcp 10.0.20.100:80", "protocol": "tcp", "vips": ovsdb.Dict{"10.0.20.100:80": "10.0.20.11:8080,10.0.30.12:80"},
	}, row.columns); diff != "" {
		t.Errorf("the row (-want +got):\n%s", diff)
	}
	have := observed(want)
	if left := lines(diff(want, have, everything)); len(left) > 0 {
		t.Errorf("still to do: %q", left)
	}
	const taken, free = "10.0.20.1 10.0.20.11 10.0.20.100", "10.0.20.1 10.0.20.11"
	const name = "load balancer r1 tcp 10.0.20.100:80: "
	if diff := cmp.Diff([]string{
		"logical switch app: exclude_ips " + free + " -> " + taken, "logical switch app: " + name + "add", "logical switch db-net: " + name + "add",
		"logical router r1: " + name + "add", name + "create",
	}, lines(diff(want, observed(wanted(plain, everything)), everything))); diff != "" {
		t.Errorf("add (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		"logical switch app: exclude_ips " + taken + " -> " + free, "logical switch app: " + name + "take away", "logical switch db-net: " + name + "take away",
		"logical router r1: " + name + "take away", name + "remove",
	}, lines(diff(wanted(plain, everything), have, everything))); diff != "" {
		t.Errorf("remove (-want +got):\n%s", diff)
	}
}

// TestDiffRemovesTheRouterLast wants a router gone with the last network on it.
func TestDiffRemovesTheRouterLast(t *testing.T) {
	have := observed(wanted(site(), everything))
	got := lines(diff(objects{}, have, everything))
	if len(got) != len(have) || !slices.Contains(got, "logical router r1: remove") {
		t.Errorf("%d of %d are removed: %q", len(got), len(have), got)
	}
}

// TestCheck wants a version of OVN that lacks something named before anything is
// asked of it, and only where it is needed.
func TestCheck(t *testing.T) {
	schema := ovsdb.Schema{}
	for table, k := range kinds {
		schema[table] = map[string]bool{}
		for _, column := range k.columns {
			schema[table][column] = true
		}
	}
	n := &Networks{nb: northbound(site().Switches[0]), schema: schema}
	if err := n.check(wanted(site(), everything)); err != nil {
		t.Error(err)
	}
	delete(schema[tableACL], "severity")
	err := n.check(wanted(site(), everything))
	if !errors.Is(err, switchcfg.ErrUnsupported) || !strings.Contains(err.Error(), "network app, acl ") ||
		!strings.Contains(err.Error(), "no column severity in the table ACL") {
		t.Errorf("got error %v", err)
	}
	if err := n.check(wanted(site(), set([]string{"db-net"}))); err != nil {
		t.Errorf("a network without ACLs: %v", err)
	}
	if slices.Contains(n.columns(tableACL), "severity") {
		t.Error("a column is asked for that is not there")
	}
}
