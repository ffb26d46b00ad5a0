// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Limits of ovs-vswitchd.conf.db(5).
const (
	minSnaplen    = 14
	maxSnaplen    = 65535
	maxSession    = 1023
	maxIPFIXCache = 4200 * time.Second
)

// mirrorName is what fits into a list in external_ids.
var mirrorName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,32}$`)

func (o object) mirrors(s Switch, t *Topology) {
	if len(s.Mirrors) > 0 && s.Driver != DriverOVS && s.Driver != 0 {
		o.conflict("mirrors", "mirrors with driver: "+s.Driver.String(), "driver: ovs")
	}
	to := map[string]string{}
	for _, m := range s.Mirrors {
		mirror := object{o.v, o.subject + ", mirror " + m.Name, o.path + ".mirrors." + m.Name}
		if !mirrorName.MatchString(m.Name) {
			mirror.value("name", fmt.Sprintf("the name %q", m.Name), "1 to 32 letters, digits, dots, - and _")
		}
		mirror.taken(m, s, t)
		mirror.sent(m, s, t)
		for key, value := range map[string]string{"to_port": m.ToPort, "to_guest": m.ToGuest} {
			if first, twice := to[key+value]; twice && value != "" {
				mirror.duplicate(key, fmt.Sprintf("%s, which mirror %s sends to, too", value, first), "one mirror for each")
			}
			to[key+value] = m.Name
		}
	}
}

// taken checks what a mirror takes.
func (o object) taken(m Mirror, s Switch, t *Topology) {
	some := len(m.Ports)+len(m.Guests)+len(m.Networks) > 0
	switch {
	case m.All && some:
		o.conflict("all", "all: true and ports, guests or networks", "one of them")
	case !m.All && !some && len(m.VLANs) == 0:
		o.missing("frames to take", "all: true, ports, guests, networks or vlans")
	case !some && m.Direction != 0:
		o.conflict("direction", "direction without ports, guests or networks", "no direction: Open vSwitch takes frames of all ports both ways")
	}
	for i, port := range m.Ports {
		o.device(fmt.Sprintf("ports.%d", i), port)
	}
	for i, who := range m.Guests {
		o.nicOn(fmt.Sprintf("guests.%d", i), who, s, t)
	}
	for i, name := range m.Networks {
		n, ok := t.Network(name)
		switch field := fmt.Sprintf("networks.%d", i); {
		case !ok:
			o.unknown(field, "network "+name, "one of the spec's networks: "+listOr(networkNames(t), "none is declared"))
		case n.Switch != s.Name:
			o.conflict(field, "network "+name+", which is not on this switch", "a network with switch: "+s.Name)
		}
	}
}

// nicOn checks a guest, which need not be in the spec, or GUEST/NETWORK.
func (o object) nicOn(field, who string, s Switch, t *Topology) {
	name, network, one := strings.Cut(who, "/")
	if name == "" || one && network == "" {
		o.value(field, fmt.Sprintf("%q", who), "a guest, or GUEST/NETWORK")
		return
	}
	if n, ok := t.Network(network); one && (!ok || n.Switch != s.Name) {
		o.unknown(field, "network "+network, "a network on this switch")
	}
}

// sent checks where a mirror sends.
func (o object) sent(m Mirror, s Switch, t *Topology) {
	var given []string
	for _, key := range []struct {
		name  string
		given bool
	}{{"to_port", m.ToPort != ""}, {"to_guest", m.ToGuest != ""}, {"to_vlan", m.ToVLAN != 0}, {"to_address", m.ToAddress.IsValid()}} {
		if key.given {
			given = append(given, key.name)
		}
	}
	switch len(given) {
	case 0:
		o.missing("place to send to", "to_port, to_guest, to_vlan or to_address")
	case 1:
	default:
		o.conflict(given[1], strings.Join(given, " and "), "one of them: a mirror sends to one place")
	}
	o.outputs(m, s, t)
	o.erspan(m)
	if m.Snaplen != 0 && (m.Snaplen < minSnaplen || m.Snaplen > maxSnaplen) {
		o.value("snaplen", fmt.Sprintf("snaplen: %d", m.Snaplen), fmt.Sprintf("%d to %d bytes", minSnaplen, maxSnaplen))
	}
}

// outputs checks that nothing else needs the place that a mirror sends to.
func (o object) outputs(m Mirror, s Switch, t *Topology) {
	if m.ToPort != "" {
		o.device("to_port", m.ToPort)
	}
	if m.ToPort != "" && (slices.Contains(m.Ports, m.ToPort) || m.ToPort == s.Uplink || m.ToPort == s.Name) {
		o.conflict("to_port", m.ToPort+", whose own frames are needed", "a port that is for nothing else: Open vSwitch drops what arrives there")
	}
	if m.ToGuest != "" {
		o.nicOn("to_guest", m.ToGuest, s, t)
		o.oneNIC(m.ToGuest, s, t)
	}
	if m.VLANs.Contains(m.ToVLAN) && m.ToVLAN != 0 {
		o.conflict("to_vlan", fmt.Sprintf("VLAN %d, which it takes, too", m.ToVLAN), "a VLAN that is for nothing else")
	}
}

// oneNIC checks that it is clear which NIC of a guest of the spec is meant.
func (o object) oneNIC(who string, s Switch, t *Topology) {
	guest, ok := t.Guest(who)
	if !ok {
		return // GUEST/NETWORK, or not in the spec
	}
	var here []string
	for _, nic := range guest.NICs {
		if n, _ := t.Network(nic.Network); n.Switch == s.Name {
			here = append(here, who+"/"+nic.Network)
		}
	}
	if len(here) > 1 {
		o.conflict("to_guest", who+", which has several NICs on this switch", "one of "+strings.Join(here, ", "))
	}
}

func (o object) erspan(m Mirror) {
	a := m.ToAddress
	if a.IsValid() && (a.IsMulticast() || a.IsUnspecified() || a.Zone() != "") {
		o.value("to_address", a.String(), "the address of a machine")
	}
	if !a.IsValid() && (m.Session != 0 || m.Version != 0) {
		o.conflict("erspan_session", "an ERSPAN session without to_address", "to_address: where the frames go")
	}
	if m.Session < 0 || m.Session > maxSession {
		o.value("erspan_session", fmt.Sprintf("erspan_session: %d", m.Session), fmt.Sprintf("0 to %d", maxSession))
	}
	if m.Version < 0 || m.Version > 2 {
		o.value("erspan_version", fmt.Sprintf("erspan_version: %d", m.Version), "1 or 2")
	}
}

// exports checks what a bridge tells collectors.
func (o object) exports(s Switch) {
	x := s.Exports
	o.export(s, "sflow", x.SFlow.Targets, x.SFlow.Agent != "" || x.SFlow.Header != 0 || x.SFlow.Sampling != 0 || x.SFlow.Polling != 0)
	o.export(s, "netflow", x.NetFlow.Targets, x.NetFlow.ActiveTimeout != 0 || x.NetFlow.EngineType.Given || x.NetFlow.EngineID.Given || x.NetFlow.AddID)
	o.export(s, "ipfix", x.IPFIX.Targets,
		x.IPFIX.Sampling != 0 || x.IPFIX.Domain.Given || x.IPFIX.Point.Given || x.IPFIX.ActiveTimeout.Given || x.IPFIX.MaxFlows.Given)
	atMost := func(field string, value, most int) {
		if value < 0 || value > most {
			o.value(field, fmt.Sprintf("%s: %d", field, value), fmt.Sprintf("0 to %d", most))
		}
	}
	const most = 1<<31 - 1
	atMost("sflow.header", x.SFlow.Header, most)
	atMost("sflow.sampling", x.SFlow.Sampling, most)
	atMost("sflow.polling", int(x.SFlow.Polling/time.Second), most)
	atMost("netflow.active_timeout", int(x.NetFlow.ActiveTimeout/time.Second), most)
	atMost("netflow.engine_type", x.NetFlow.EngineType.Value, 255)
	atMost("netflow.engine_id", x.NetFlow.EngineID.Value, 255)
	atMost("ipfix.sampling", x.IPFIX.Sampling, 1<<32-1)
	atMost("ipfix.domain", x.IPFIX.Domain.Value, 1<<32-1)
	atMost("ipfix.point", x.IPFIX.Point.Value, 1<<32-1)
	atMost("ipfix.active_timeout", int(x.IPFIX.ActiveTimeout.Value/time.Second), int(maxIPFIXCache/time.Second))
	atMost("ipfix.max_flows", x.IPFIX.MaxFlows.Value, 1<<32-1)
}

// export checks one kind; more says that it has settings.
func (o object) export(s Switch, field string, targets []netip.AddrPort, more bool) {
	if (more || len(targets) > 0) && s.Driver != DriverOVS && s.Driver != 0 {
		o.conflict(field, field+" with driver: "+s.Driver.String(), "driver: ovs")
	}
	if more && len(targets) == 0 {
		o.missing(field+".targets", field+".targets: the collectors, such as 192.0.2.9:6343")
	}
	for i, target := range targets {
		if a := target.Addr(); a.IsUnspecified() || a.Zone() != "" || target.Port() == 0 {
			o.value(fmt.Sprintf("%s.targets.%d", field, i), target.String(), "a collector's address and port, such as 192.0.2.9:6343")
		}
	}
}
