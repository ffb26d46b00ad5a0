// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package config

import (
	"bytes"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"go.yaml.in/yaml/v3"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Encode writes the topology as a spec that [Parse] reads back to the same
// topology.
func Encode(t vnet.Topology) ([]byte, error) {
	raw := rawSpec{
		Hosts:    map[string]rawHost{},
		Switches: map[string]rawSwitch{},
		Networks: map[string]rawNetwork{},
		Guests:   map[string]rawGuest{},
	}
	for _, h := range t.Hosts {
		raw.Hosts[h.Name] = rawHost{URI: h.URI, Chassis: h.Chassis}
	}
	for _, s := range t.Switches {
		raw.Switches[s.Name] = fromSwitch(s)
	}
	for _, n := range t.Networks {
		if sw, ok := t.Switch(n.Switch); ok && n.MTU == sw.MTUFor(n) {
			n.MTU = 0 // it follows from the switch
		}
		raw.Networks[n.Name] = fromNetwork(n)
	}
	raw.Routers, raw.AddressSets = fromRouters(t.Routers), fromAddressSets(t.AddressSets)
	for _, g := range t.Guests {
		raw.Guests[g.Name] = fromGuest(g)
	}
	for _, e := range t.Expect {
		raw.Expect = append(raw.Expect, fromExpectation(e))
	}
	for _, w := range t.Waivers {
		raw.Waivers = append(raw.Waivers, rawWaiver{
			Code: w.Code, Guest: w.Guest, Network: w.Network,
			Owner: w.Owner, Until: scalarOf(day{w.Until}, true), Reason: w.Reason,
		})
	}
	var buf bytes.Buffer
	encoder := yaml.NewEncoder(&buf)
	encoder.SetIndent(2)
	if err := encoder.Encode(raw); err != nil {
		return nil, err
	}
	return buf.Bytes(), encoder.Close()
}

// Write puts the topology into the file name, in one step: a reader finds the
// old text or the new one. It makes the directory when that is missing.
func Write(name string, t vnet.Topology) error {
	data, err := Encode(t)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return renameio.WriteFile(name, data, 0o644)
}

// given is a scalar that is written unless it is the zero value.
func given[T comparable](v T) scalar[T] {
	var zero T
	return scalarOf(v, v != zero)
}

func fromSwitch(s vnet.Switch) rawSwitch {
	raw := rawSwitch{
		Driver: given(s.Driver), Uplink: s.Uplink, Database: scalarOf(s.Database, len(s.Database) > 0), Bridge: fromBridge(s.Bridge),
		Encap: given(s.Overlay.Encap), UnderlayMTU: given(s.Overlay.UnderlayMTU), UnderlayIPv6: given(s.Overlay.UnderlayIPv6),
	}
	raw.Bond, raw.Mirrors, raw.TreePorts = fromBond(s.Bond), fromMirrors(s.Mirrors), fromTreePorts(s.TreePorts)
	raw.addExports(s.Exports)
	if s.TLS != (vnet.TLS{}) {
		tls := rawTLS(s.TLS)
		raw.TLS = &tls
	}
	return raw
}

func fromBridge(b vnet.Bridge) *rawBridge {
	if !b.Owned {
		return nil
	}
	return &rawBridge{
		VLANFiltering: fromToggle(b.VLANFiltering),
		DefaultPVID:   scalarOf(defaultPVID(b.DefaultPVID.Value), b.DefaultPVID.Given),
		STP:           fromToggle(b.STP),
		STPPriority:   scalarOf(b.Priority.Value, b.Priority.Given),
		ForwardDelay:  given(int(b.ForwardDelay / time.Second)),
		HelloTime:     given(int(b.HelloTime / time.Second)),
		MaxAge:        given(int(b.MaxAge / time.Second)),
		RSTP:          fromToggle(b.RSTP),
		RSTPPriority:  scalarOf(b.RSTPPriority.Value, b.RSTPPriority.Given),
		RSTPMaxAge:    given(int(b.RSTPMaxAge / time.Second)),
		ForwardBPDU:   fromToggle(b.ForwardBPDU),

		RSTPForwardDelay: given(int(b.RSTPForwardDelay / time.Second)),
	}
}

func fromNetwork(n vnet.Network) rawNetwork {
	raw := rawNetwork{
		Mode: given(n.Mode), Switch: n.Switch, Device: n.Device, Macvtap: given(n.Macvtap),
		MTU: given(n.MTU), rawPolicy: fromPolicy(n.Policy),
		Subnet: given(n.Subnet), Gateway: given(n.Gateway), OnFailure: given(n.OnFailure),
	}
	raw.addLogical(n.Logical)
	if n.Mode == vnet.ModeBridge {
		raw.Mode = scalar[vnet.Mode]{} // switch implies it
	}
	if len(n.Portgroups) > 0 {
		raw.Portgroups = map[string]rawPortgroup{}
	}
	for _, g := range n.Portgroups {
		raw.Portgroups[g.Name] = rawPortgroup{Default: given(g.Default), rawPolicy: fromPolicy(g.Policy)}
	}
	return raw
}

func fromPolicy(p vnet.Policy) rawPolicy {
	return rawPolicy{
		VLAN:           given(p.VLAN.Access),
		Trunk:          scalarOf(p.VLAN.Trunk, len(p.VLAN.Trunk) > 0),
		Native:         given(p.VLAN.Native),
		NativeTagged:   given(p.VLAN.NativeTagged),
		Service:        given(p.VLAN.Service),
		Customer:       scalarOf(p.VLAN.Customer, len(p.VLAN.Customer) > 0),
		Isolated:       given(p.Isolated),
		Learning:       fromToggle(p.Learning),
		Flood:          fromToggle(p.Flood),
		MulticastFlood: fromToggle(p.MulticastFlood),
		BroadcastFlood: fromToggle(p.BroadcastFlood),
		FastLeave:      fromToggle(p.FastLeave),
		NeighSuppress:  fromToggle(p.NeighSuppress),
		BPDUGuard:      fromToggle(p.BPDUGuard),
		RootBlock:      fromToggle(p.RootBlock),
		Profile:        given(p.Profile),
		AntiSpoof:      given(p.AntiSpoof),
		DHCPGuard:      fromToggle(p.DHCPGuard),
		RAGuard:        fromToggle(p.RAGuard),
		Allow:          scalarOf(p.Allow, !p.Allow.IsZero()),
		QoS: rawQoS{
			Inbound: given(p.QoS.Inbound.Bits), InboundBurst: given(p.QoS.Inbound.Burst),
			Outbound: given(p.QoS.Outbound.Bits), OutboundBurst: given(p.QoS.Outbound.Burst),
			Priority: given(p.QoS.Priority),
		},
	}
}

func fromToggle(t vnet.Toggle) scalar[bool] {
	return scalarOf(t == vnet.ToggleOn, t != vnet.ToggleLeave)
}

func fromGuest(g vnet.Guest) rawGuest {
	raw := rawGuest{Down: given(g.Down)}
	for _, nic := range g.NICs {
		raw.NICs = append(raw.NICs, rawNIC{
			Network: nic.Network, Portgroup: nic.Portgroup, MAC: given(nic.MAC), Address: given(nic.Address), Allow: scalarOf(nic.Allow, !nic.Allow.IsZero()),
			Model: given(nic.Model), Queues: given(nic.Queues), RXRing: given(nic.RXRing), TXRing: given(nic.TXRing),
		})
	}
	return raw
}

func fromExpectation(e vnet.Expectation) rawExpectation {
	return rawExpectation{
		From: fromParty(e.From), Reach: fromParty(e.Reach), Deny: fromParty(e.Deny),
		TCP: scalarOf(service{fromParty(e.TCP.Party), e.TCP.Port}, !e.TCP.IsZero()),
		DNS: e.DNS, Server: fromParty(e.Server),
		To: fromParty(e.To), Latency: given(below(e.Latency)), Loss: given(share(e.Loss)),
	}
}

func fromParty(p vnet.Party) string {
	if p.IsZero() {
		return ""
	}
	return p.String()
}
