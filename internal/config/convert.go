// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package config

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// merge makes one topology of all files. A name that two files declare is an
// error.
func (s *Spec) merge() error {
	t := &s.Topology
	err := errors.Join(
		mergeInto(&t.Hosts, s.files, "hosts", func(f file) map[string]rawHost { return f.raw.Hosts }, toHost),
		mergeInto(&t.Switches, s.files, "switches", func(f file) map[string]rawSwitch { return f.raw.Switches }, toSwitch),
		mergeInto(&t.Networks, s.files, "networks", func(f file) map[string]rawNetwork { return f.raw.Networks }, toNetwork),
		mergeInto(&t.Routers, s.files, "routers", func(f file) map[string]rawRouter { return f.raw.Routers }, toRouter),
		mergeInto(&t.AddressSets, s.files, "address_sets", func(f file) map[string]rawPrefixes { return f.raw.AddressSets }, toAddressSet),
		mergeInto(&t.Guests, s.files, "guests", func(f file) map[string]rawGuest { return f.raw.Guests }, toGuest),
	)
	for _, f := range s.files {
		for i, r := range f.raw.Expect {
			t.Expect = append(t.Expect, toExpectation(t, r, f.where("expect", i)))
		}
		for i, r := range f.raw.Waivers {
			t.Waivers = append(t.Waivers, vnet.Waiver{
				Code: r.Code, Guest: r.Guest, Network: r.Network,
				Owner: r.Owner, Until: r.Until.value.Time, Reason: r.Reason, Where: f.where("waivers", i),
			})
		}
	}
	return err
}

// toExpectation reads who is meant, for which it takes the guests of t.
func toExpectation(t *vnet.Topology, r rawExpectation, where string) vnet.Expectation {
	return vnet.Expectation{
		From: t.Party(r.From), Reach: t.Party(r.Reach), Deny: t.Party(r.Deny),
		TCP: vnet.Service{Party: t.Party(r.TCP.value.party), Port: r.TCP.value.port},
		DNS: r.DNS, Server: t.Party(r.Server),
		To: t.Party(r.To), Latency: time.Duration(r.Latency.value), Loss: float64(r.Loss.value),
		Where: where,
	}
}

// mergeInto appends the objects of one kind from all files.
func mergeInto[R, M any](out *[]M, files []file, what string, list func(file) map[string]R, convert func(string, R) M) error {
	declared := map[string]file{}
	var errs []error
	for _, f := range files {
		for _, name := range slices.Sorted(maps.Keys(list(f))) {
			if first, ok := declared[name]; ok {
				errs = append(errs, twice(what, name, first, f))
				continue
			}
			declared[name] = f
			*out = append(*out, convert(name, list(f)[name]))
		}
	}
	return errors.Join(errs...)
}

func toHost(name string, r rawHost) vnet.Host {
	return vnet.Host{Name: name, URI: r.URI, Chassis: r.Chassis}
}

func toSwitch(name string, r rawSwitch) vnet.Switch {
	s := vnet.Switch{Name: name, Driver: r.Driver.value, Uplink: r.Uplink, Database: r.Database.value}
	s.Overlay = vnet.Overlay{Encap: r.Encap.value, UnderlayMTU: r.UnderlayMTU.value, UnderlayIPv6: r.UnderlayIPv6.value}
	s.Bond, s.TreePorts = toBond(r.Bond), toTreePorts(r.TreePorts)
	s.Mirrors, s.Exports = toMirrors(r.Mirrors), toExports(r)
	if r.TLS != nil {
		s.TLS = vnet.TLS(*r.TLS)
	}
	if b := r.Bridge; b != nil {
		s.Bridge = vnet.Bridge{
			Owned:         true,
			VLANFiltering: toToggle(b.VLANFiltering),
			DefaultPVID:   vnet.Optional[vnet.VLANID]{Given: b.DefaultPVID.given, Value: vnet.VLANID(b.DefaultPVID.value)},
			STP:           toToggle(b.STP),
			Priority:      optional(b.STPPriority),
			ForwardDelay:  seconds(b.ForwardDelay).Value,
			HelloTime:     seconds(b.HelloTime).Value,
			MaxAge:        seconds(b.MaxAge).Value,
			RSTP:          toToggle(b.RSTP),
			RSTPPriority:  optional(b.RSTPPriority),
			RSTPMaxAge:    seconds(b.RSTPMaxAge).Value,
			ForwardBPDU:   toToggle(b.ForwardBPDU),

			RSTPForwardDelay: seconds(b.RSTPForwardDelay).Value,
		}
	}
	return s
}

// toNetwork also fills in the mode that switch and device imply.
func toNetwork(name string, r rawNetwork) vnet.Network {
	n := vnet.Network{
		Name: name, Mode: r.Mode.value, Switch: r.Switch, Device: r.Device, Macvtap: r.Macvtap.value,
		MTU: r.MTU.value, Policy: toPolicy(r.rawPolicy),
		Subnet: r.Subnet.value, Gateway: r.Gateway.value, OnFailure: r.OnFailure.value,
		Logical: toLogical(r),
	}
	switch {
	case n.Mode == 0 && n.Switch != "":
		n.Mode = vnet.ModeBridge
	case n.Mode == 0 && n.Device != "":
		n.Mode = vnet.ModeMacvtap
	}
	for name, g := range r.Portgroups {
		n.Portgroups = append(n.Portgroups, vnet.Portgroup{Name: name, Default: g.Default.value, Policy: toPolicy(g.rawPolicy)})
	}
	return n
}

func toPolicy(r rawPolicy) vnet.Policy {
	return vnet.Policy{
		VLAN: vnet.VLANSet{
			Access: r.VLAN.value, Trunk: r.Trunk.value, Native: r.Native.value, NativeTagged: r.NativeTagged.value,
			Service: r.Service.value, Customer: r.Customer.value,
		},
		Isolated:       r.Isolated.value,
		Learning:       toToggle(r.Learning),
		Flood:          toToggle(r.Flood),
		MulticastFlood: toToggle(r.MulticastFlood),
		BroadcastFlood: toToggle(r.BroadcastFlood),
		FastLeave:      toToggle(r.FastLeave),
		NeighSuppress:  toToggle(r.NeighSuppress),
		BPDUGuard:      toToggle(r.BPDUGuard),
		RootBlock:      toToggle(r.RootBlock),
		Profile:        r.Profile.value,
		AntiSpoof:      r.AntiSpoof.value,
		DHCPGuard:      toToggle(r.DHCPGuard),
		RAGuard:        toToggle(r.RAGuard),
		Allow:          r.Allow.value,
		QoS: vnet.QoS{
			Inbound:  vnet.Rate{Bits: r.QoS.Inbound.value, Burst: r.QoS.InboundBurst.value},
			Outbound: vnet.Rate{Bits: r.QoS.Outbound.value, Burst: r.QoS.OutboundBurst.value},
			Priority: r.QoS.Priority.value,
		},
	}
}

func toToggle(s scalar[bool]) vnet.Toggle {
	if !s.given {
		return vnet.ToggleLeave
	}
	return vnet.ToggleOf(s.value)
}

func toGuest(name string, r rawGuest) vnet.Guest {
	g := vnet.Guest{Name: name, Down: r.Down.value}
	for _, nic := range r.NICs {
		g.NICs = append(g.NICs, vnet.NIC{
			Network: nic.Network, Portgroup: nic.Portgroup, MAC: nic.MAC.value, Address: nic.Address.value, Allow: nic.Allow.value,
			Model: nic.Model.value, Queues: nic.Queues.value, RXRing: nic.RXRing.value, TXRing: nic.TXRing.value,
		})
	}
	return g
}
