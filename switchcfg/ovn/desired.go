// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// objects is what networks are made of.
type objects map[id]*object

// add takes o unless there is one that does the same, which then goes before.
func (all objects) add(o *object) {
	o.key = o.keyFrom()
	if all[o.id()] == nil {
		all[o.id()] = o
	}
}

// desired is what the networks that scope names are to be made of: those of them
// that t has on sw.
func desired(t *vnet.Topology, sw vnet.Switch, scope map[string]bool) objects {
	all := objects{}
	routers := map[string]bool{}
	for _, n := range t.Networks {
		if n.Switch != sw.Name || !scope[n.Name] {
			continue
		}
		all.network(t, sw, n)
		if n.Logical.Router != "" {
			routers[n.Logical.Router] = true
		}
	}
	for _, r := range t.Routers {
		_, out := t.Network(r.Uplink.Network)
		out = out && scope[r.Uplink.Network]
		if r.Switch == sw.Name && (routers[r.Name] || out) {
			all.router(t, r, out)
		}
	}
	return all
}

func (all objects) network(t *vnet.Topology, sw vnet.Switch, n vnet.Network) {
	l := n.Logical
	all.add(&object{table: tableSwitch, network: n.Name, columns: map[string]any{
		"name": n.Name, "other_config": switchConfig(t, n),
	}})
	all.add(&object{table: tablePortGroup, network: n.Name, columns: map[string]any{"name": vnet.GroupName(n.Name)}})
	if l.Localnet.Physical != "" {
		tag := ovsdb.Set[int]{}
		if l.Localnet.VLAN != 0 {
			tag = append(tag, int(l.Localnet.VLAN))
		}
		all.add(&object{table: tablePort, network: n.Name, columns: map[string]any{
			"name": localnetPort(n.Name), "type": "localnet", "addresses": unordered("unknown"),
			"options": ovsdb.Dict{"network_name": l.Localnet.Physical}, "tag": tag,
		}})
	}
	if l.DHCP.Serve {
		all.add(&object{table: tableDHCP, network: n.Name, columns: map[string]any{
			"cidr": n.Subnet.String(), "options": dhcpOptions(n, sw),
		}})
	}
	if l.Router != "" {
		all.leg(l.Router, n.Name, netip.PrefixFrom(n.Gateway, n.Subnet.Bits()), ovsdb.Dict{})
		router, _ := t.Router(l.Router)
		all[id{tableSwitch, n.Name}].balancers = balancerNames(router)
	}
	for i, acl := range l.ACLs {
		all.acl(t, n, acl, l.Priorities()[i])
	}
}

// leg joins a router and a network.
func (all objects) leg(router, network string, address netip.Prefix, options ovsdb.Dict) {
	options["router-port"] = routerPort(router, network)
	all.add(&object{table: tablePort, network: network, router: router, columns: map[string]any{
		"name": switchPort(network, router), "type": "router", "addresses": unordered("router"),
		"options": options, "tag": ovsdb.Set[int]{},
	}})
	all.add(&object{table: tableRouterPort, network: network, router: router, columns: map[string]any{
		"name": routerPort(router, network), "mac": macFor(network, address.Addr()), "networks": unordered(address.String()),
	}})
}

// switchConfig lets OVN choose addresses of guests for which the spec has none,
// and none that somebody has.
func switchConfig(t *vnet.Topology, n vnet.Network) ovsdb.Dict {
	if !n.Subnet.IsValid() || !n.Subnet.Addr().Is4() {
		return ovsdb.Dict{}
	}
	taken := []netip.Addr{n.Gateway, n.Logical.DHCP.Server}
	r, _ := t.Router(n.Logical.Router)
	for _, l := range r.LoadBalancers {
		if n.Subnet.Contains(l.VIP.Addr()) {
			taken = append(taken, l.VIP.Addr())
		}
	}
	for _, g := range t.Guests {
		for _, nic := range g.NICs {
			if nic.Network == n.Name {
				taken = append(taken, nic.Address)
			}
		}
	}
	taken = slices.DeleteFunc(taken, func(a netip.Addr) bool { return !a.Is4() })
	slices.SortFunc(taken, netip.Addr.Compare)
	config := ovsdb.Dict{"subnet": n.Subnet.String()}
	if words := texts(slices.Compact(taken)); len(words) > 0 {
		config["exclude_ips"] = strings.Join(words, " ")
	}
	return config
}

// dhcpOptions are in the notation of ovn-nb(5), "DHCP Options". Clients that
// are told routes take no notice of the router (RFC 3442), so it is among them.
func dhcpOptions(n vnet.Network, sw vnet.Switch) ovsdb.Dict {
	d := n.Logical.DHCP
	server := d.Server
	if !server.IsValid() {
		server = n.Gateway
	}
	lease := d.LeaseTime
	if lease == 0 {
		lease = vnet.DefaultLeaseTime
	}
	options := ovsdb.Dict{
		"lease_time": strconv.Itoa(int(lease.Seconds())), "server_id": server.String(), "server_mac": macFor(n.Name, server),
	}
	if mtu := cmp.Or(n.MTU, sw.MTUFor(n)); mtu != 0 {
		options["mtu"] = strconv.Itoa(mtu)
	}
	if n.Gateway.IsValid() {
		options["router"] = n.Gateway.String()
	}
	if len(d.DNS) > 0 {
		options["dns_server"] = braces(texts(d.DNS))
	}
	if d.Domain != "" {
		options["domain_name"] = strconv.Quote(d.Domain)
	}
	var routes []string
	for _, r := range d.Routes {
		routes = append(routes, fmt.Sprintf("%s,%s", r.To, r.Via))
	}
	if len(routes) > 0 {
		if n.Gateway.IsValid() {
			routes = append(routes, "0.0.0.0/0,"+n.Gateway.String())
		}
		options["classless_static_route"] = braces(routes)
	}
	return options
}

func braces(words []string) string { return "{" + strings.Join(words, ", ") + "}" }

func texts[T fmt.Stringer](list []T) []string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = v.String()
	}
	return words
}

// router adds the router, and its uplink if that is in scope.
func (all objects) router(t *vnet.Topology, r vnet.Router, withUplink bool) {
	all.add(&object{table: tableRouter, router: r.Name, columns: map[string]any{"name": r.Name}})
	all[id{tableRouter, r.Name}].balancers = balancerNames(r)
	for _, l := range r.LoadBalancers {
		all.balancer(t, r, l)
	}
	for _, route := range r.Routes {
		all.route(r.Name, "", route)
	}
	u := r.Uplink
	if u.IsZero() || !withUplink {
		return
	}
	// The network learns by gratuitous ARP where the addresses are that the
	// router answers for.
	all.leg(r.Name, u.Network, u.Address, ovsdb.Dict{"nat-addresses": "router"})
	for i, chassis := range u.Chassis {
		all.add(&object{table: tableChassis, network: u.Network, router: r.Name, columns: map[string]any{
			"name": routerPort(r.Name, u.Network) + "-" + chassis, "chassis_name": chassis, "priority": maxChassis - i,
		}})
	}
	if u.Gateway.IsValid() {
		everything := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if u.Gateway.Is6() {
			everything = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		all.route(r.Name, u.Network, vnet.Route{To: everything, Via: u.Gateway})
	}
	for _, p := range r.SNAT {
		all.nat(r, "snat", u.Address.Addr(), p.String())
	}
	for _, d := range r.DNAT {
		all.nat(r, "dnat", d.External, d.To.String())
	}
}

// maxChassis is the priority of the best chassis.
const maxChassis = 1000

func (all objects) route(router, network string, r vnet.Route) {
	all.add(&object{table: tableRoute, router: router, network: network, columns: map[string]any{
		"ip_prefix": r.To.String(), "nexthop": r.Via.String(),
	}})
}

func (all objects) nat(r vnet.Router, kind string, external netip.Addr, logical string) {
	all.add(&object{table: tableNAT, router: r.Name, network: r.Uplink.Network, columns: map[string]any{
		"type": kind, "external_ip": external.String(), "logical_ip": logical,
	}})
}
