// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package config

import (
	"net/netip"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// This file converts, both ways, what only OVN has.

func toLogical(r rawNetwork) vnet.Logical {
	l := vnet.Logical{Router: r.Router}
	if r.Localnet != nil {
		l.Localnet = vnet.Localnet{Physical: r.Localnet.Physical, VLAN: r.Localnet.VLAN.value}
	}
	if d := r.DHCP; d != nil {
		l.DHCP = vnet.DHCP{
			Serve: true, LeaseTime: time.Duration(d.LeaseTime.value) * time.Second, Server: d.Server.value,
			DNS: values(d.DNS), Domain: d.Domain, Routes: toRoutes(d.Routes),
		}
	}
	for _, a := range r.ACLs {
		l.ACLs = append(l.ACLs, vnet.ACL{
			Direction: a.Direction.value, Action: a.Action.value, From: a.From.value, To: a.To.value,
			Protocol: a.Protocol.value, Ports: a.Ports.value, Log: a.Log.value, Priority: a.Priority.value,
		})
	}
	return l
}

func (r *rawNetwork) addLogical(l vnet.Logical) {
	r.Router = l.Router
	if l.Localnet != (vnet.Localnet{}) {
		r.Localnet = &rawLocalnet{Physical: l.Localnet.Physical, VLAN: given(l.Localnet.VLAN)}
	}
	if d := l.DHCP; d.Serve {
		r.DHCP = &rawDHCP{
			LeaseTime: given(int(d.LeaseTime / time.Second)), Server: given(d.Server),
			DNS: scalars(d.DNS), Domain: d.Domain, Routes: fromRoutes(d.Routes),
		}
	}
	for _, a := range l.ACLs {
		r.ACLs = append(r.ACLs, rawACL{
			Direction: given(a.Direction), Action: given(a.Action), From: given(a.From), To: given(a.To),
			Protocol: given(a.Protocol), Ports: scalarOf(a.Ports, len(a.Ports) > 0), Log: given(a.Log), Priority: given(a.Priority),
		})
	}
}

func toRouter(name string, r rawRouter) vnet.Router {
	router := vnet.Router{Name: name, Switch: r.Switch, Routes: toRoutes(r.Routes), SNAT: toPrefixes(r.SNAT)}
	if u := r.Uplink; u != nil {
		router.Uplink = vnet.Uplink{Network: u.Network, Address: u.Address.value, Gateway: u.Gateway.value, Chassis: u.Chassis}
	}
	for _, d := range r.DNAT {
		router.DNAT = append(router.DNAT, vnet.DNAT{External: d.External.value, To: d.To.value})
	}
	for _, l := range r.LoadBalancers {
		router.LoadBalancers = append(router.LoadBalancers, vnet.LoadBalancer{
			VIP: l.VIP.value.AddrPort, Protocol: l.Protocol.value, Backends: values(l.Backends),
		})
	}
	return router
}

func fromRouters(routers []vnet.Router) map[string]rawRouter {
	all := map[string]rawRouter{}
	for _, router := range routers {
		r := rawRouter{Switch: router.Switch, Routes: fromRoutes(router.Routes), SNAT: fromPrefixes(router.SNAT)}
		if u := router.Uplink; !u.IsZero() {
			r.Uplink = &rawUplink{Network: u.Network, Address: given(u.Address), Gateway: given(u.Gateway), Chassis: u.Chassis}
		}
		for _, d := range router.DNAT {
			r.DNAT = append(r.DNAT, rawDNAT{External: given(d.External), To: given(d.To)})
		}
		for _, l := range router.LoadBalancers {
			r.LoadBalancers = append(r.LoadBalancers, rawBalancer{
				VIP: given(socket{l.VIP}), Protocol: given(l.Protocol), Backends: scalars(l.Backends),
			})
		}
		all[router.Name] = r
	}
	return all
}

func toAddressSet(name string, r rawPrefixes) vnet.AddressSet {
	return vnet.AddressSet{Name: name, Addresses: toPrefixes(r)}
}

func fromAddressSets(sets []vnet.AddressSet) map[string]rawPrefixes {
	all := map[string]rawPrefixes{}
	for _, s := range sets {
		all[s.Name] = fromPrefixes(s.Addresses)
	}
	return all
}

func toRoutes(raw []rawRoute) (routes []vnet.Route) {
	for _, r := range raw {
		routes = append(routes, vnet.Route{To: r.To.value.Prefix, Via: r.Via.value})
	}
	return routes
}

func fromRoutes(routes []vnet.Route) (raw []rawRoute) {
	for _, r := range routes {
		raw = append(raw, rawRoute{To: given(prefix{r.To}), Via: given(r.Via)})
	}
	return raw
}

func toPrefixes(raw rawPrefixes) (prefixes []netip.Prefix) {
	for _, p := range raw {
		prefixes = append(prefixes, p.value.Prefix)
	}
	return prefixes
}

func fromPrefixes(prefixes []netip.Prefix) (raw rawPrefixes) {
	for _, p := range prefixes {
		raw = append(raw, scalarOf(prefix{p}, true))
	}
	return raw
}

func values[T any](raw []scalar[T]) (list []T) {
	for _, s := range raw {
		list = append(list, s.value)
	}
	return list
}

func scalars[T any](list []T) (raw []scalar[T]) {
	for _, v := range list {
		raw = append(raw, scalarOf(v, true))
	}
	return raw
}
