// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// What a switch itself is asked for besides the settings of its bridge.

type rawBond struct {
	Members  []string              `yaml:"members,omitempty" json:"members" jsonschema:"two or more devices of the host that are on no switch"`
	Mode     scalar[vnet.BondMode] `yaml:"mode,omitempty" json:"mode,omitempty" jsonschema:"active-backup (default), balance-slb, which spreads by source, or balance-tcp, which spreads by connections and needs lacp"`
	LACP     scalar[vnet.LACP]     `yaml:"lacp,omitempty" json:"lacp,omitempty" jsonschema:"off (default); active; or passive, if the other end asks"`
	Time     scalar[lacpTime]      `yaml:"lacp_time,omitempty" json:"lacp_time,omitempty" jsonschema:"how often the other end is to tell that it is there: slow, every 30 seconds (default), or fast, every second"`
	Fallback scalar[bool]          `yaml:"lacp_fallback,omitempty" json:"lacp_fallback,omitempty" jsonschema:"be active-backup as long as LACP finds nobody"`
	Primary  string                `yaml:"primary,omitempty" json:"primary,omitempty" jsonschema:"the member that active-backup uses if it can"`
}

// lacpTime is whether it is fast.
type lacpTime bool

// UnmarshalText implements [encoding.TextUnmarshaler].
func (l *lacpTime) UnmarshalText(text []byte) error {
	*l = string(text) == "fast"
	if !*l && string(text) != "slow" {
		return fmt.Errorf("%q is no LACP time: want slow or fast", text)
	}
	return nil
}

// MarshalText implements [encoding.TextMarshaler].
func (l lacpTime) MarshalText() ([]byte, error) {
	if l {
		return []byte("fast"), nil
	}
	return []byte("slow"), nil
}

func toBond(r *rawBond) vnet.Bond {
	if r == nil {
		return vnet.Bond{}
	}
	return vnet.Bond{
		Members: r.Members, Mode: r.Mode.value, LACP: r.LACP.value, Fast: bool(r.Time.value),
		Fallback: r.Fallback.value, Primary: r.Primary,
	}
}

func fromBond(b vnet.Bond) *rawBond {
	if b.IsZero() {
		return nil
	}
	return &rawBond{
		Members: b.Members, Mode: given(b.Mode), LACP: given(b.LACP), Time: given(lacpTime(b.Fast)),
		Fallback: given(b.Fallback), Primary: b.Primary,
	}
}

type rawTreePort struct {
	STP      scalar[bool] `yaml:"stp,omitempty" json:"stp,omitempty" jsonschema:"take part (default); without, it forwards whatever it hears"`
	PathCost scalar[int]  `yaml:"path_cost,omitempty" json:"path_cost,omitempty" jsonschema:"what the way over it costs, 1 to 200000000; default by its speed"`
	Priority scalar[int]  `yaml:"priority,omitempty" json:"priority,omitempty" jsonschema:"0 to 240 in steps of 16, the lowest is preferred; default 128"`
	Edge     scalar[bool] `yaml:"edge,omitempty" json:"edge,omitempty" jsonschema:"there is no bridge behind it (rstp); default false"`
	AutoEdge scalar[bool] `yaml:"auto_edge,omitempty" json:"auto_edge,omitempty" jsonschema:"find out whether there is a bridge behind it (rstp); default true"`
}

func toTreePorts(all map[string]rawTreePort) []vnet.TreePort {
	var ports []vnet.TreePort
	for _, device := range slices.Sorted(maps.Keys(all)) {
		r := all[device]
		ports = append(ports, vnet.TreePort{
			Device: device, Out: r.STP.given && !r.STP.value, PathCost: r.PathCost.value, Priority: optional(r.Priority),
			Edge: r.Edge.value, AutoEdge: toToggle(r.AutoEdge),
		})
	}
	return ports
}

func fromTreePorts(all []vnet.TreePort) map[string]rawTreePort {
	raw := map[string]rawTreePort{}
	for _, p := range all {
		raw[p.Device] = rawTreePort{
			STP: scalarOf(false, p.Out), PathCost: given(p.PathCost), Priority: scalarOf(p.Priority.Value, p.Priority.Given),
			Edge: given(p.Edge), AutoEdge: fromToggle(p.AutoEdge),
		}
	}
	return raw
}

type rawMirror struct {
	All       scalar[bool]            `yaml:"all,omitempty" json:"all,omitempty" jsonschema:"take the frames of every port"`
	Ports     []string                `yaml:"ports,omitempty" json:"ports,omitempty" jsonschema:"take those of these devices on the bridge, such as the uplink"`
	Guests    []string                `yaml:"guests,omitempty" json:"guests,omitempty" jsonschema:"take those of these guests, or with GUEST/NETWORK of their NICs in one network; they are found as they start and stop"`
	Networks  []string                `yaml:"networks,omitempty" json:"networks,omitempty" jsonschema:"take those of all guests of these networks"`
	Direction scalar[vnet.Direction]  `yaml:"direction,omitempty" json:"direction,omitempty" jsonschema:"in, to what is behind the port (select_dst_port), or out, from it (select_src_port); default both"`
	VLANs     scalar[vnet.VLANRanges] `yaml:"vlans,omitempty" json:"vlans,omitempty" jsonschema:"take only frames in these VLANs, such as 10,20-29; alone, of every port (select_vlan)"`
	ToPort    string                  `yaml:"to_port,omitempty" json:"to_port,omitempty" jsonschema:"send them out of this device on the bridge, which is then for nothing else (SPAN, output_port)"`
	ToGuest   string                  `yaml:"to_guest,omitempty" json:"to_guest,omitempty" jsonschema:"send them to this guest, or GUEST/NETWORK, whose port is then for nothing else"`
	ToVLAN    scalar[vnet.VLANID]     `yaml:"to_vlan,omitempty" json:"to_vlan,omitempty" jsonschema:"send them in this VLAN, in which the bridge then learns no addresses (RSPAN, output_vlan)"`
	ToAddress scalar[netip.Addr]      `yaml:"to_address,omitempty" json:"to_address,omitempty" jsonschema:"send them to this address, in GRE (ERSPAN)"`
	Session   scalar[int]             `yaml:"erspan_session,omitempty" json:"erspan_session,omitempty" jsonschema:"session ID that they are sent with, 0 to 1023; default 0"`
	Version   scalar[int]             `yaml:"erspan_version,omitempty" json:"erspan_version,omitempty" jsonschema:"version of ERSPAN, 1 (default, type II) or 2 (type III)"`
	Snaplen   scalar[int]             `yaml:"snaplen,omitempty" json:"snaplen,omitempty" jsonschema:"bytes of a frame that are sent, 14 to 65535; default all"`
}

type rawTargets []scalar[collector]

type rawSFlow struct {
	Targets  rawTargets  `yaml:"targets,omitempty" json:"targets" jsonschema:"collectors, such as 192.0.2.9:6343"`
	Agent    string      `yaml:"agent,omitempty" json:"agent,omitempty" jsonschema:"address that samples come from, or a device with it; default by the route to the first collector"`
	Header   scalar[int] `yaml:"header,omitempty" json:"header,omitempty" jsonschema:"bytes of a frame that are told; default 128"`
	Sampling scalar[int] `yaml:"sampling,omitempty" json:"sampling,omitempty" jsonschema:"of how many frames one is told; default 400"`
	Polling  scalar[int] `yaml:"polling,omitempty" json:"polling,omitempty" jsonschema:"seconds between counters of ports; default 30"`
}

type rawNetFlow struct {
	Targets       rawTargets   `yaml:"targets,omitempty" json:"targets" jsonschema:"collectors, such as 192.0.2.9:2055"`
	ActiveTimeout scalar[int]  `yaml:"active_timeout,omitempty" json:"active_timeout,omitempty" jsonschema:"seconds between records of a flow that goes on; default 600"`
	EngineType    scalar[int]  `yaml:"engine_type,omitempty" json:"engine_type,omitempty" jsonschema:"engine type in records, 0 to 255; default the datapath's"`
	EngineID      scalar[int]  `yaml:"engine_id,omitempty" json:"engine_id,omitempty" jsonschema:"engine ID in records, 0 to 255; default the datapath's"`
	AddID         scalar[bool] `yaml:"add_id_to_interface,omitempty" json:"add_id_to_interface,omitempty" jsonschema:"put the engine's ID into the numbers of interfaces"`
}

type rawIPFIX struct {
	Targets       rawTargets  `yaml:"targets,omitempty" json:"targets" jsonschema:"collectors, such as 192.0.2.9:4739"`
	Sampling      scalar[int] `yaml:"sampling,omitempty" json:"sampling,omitempty" jsonschema:"of how many frames one is told; default 400"`
	Domain        scalar[int] `yaml:"domain,omitempty" json:"domain,omitempty" jsonschema:"observation domain; default 0"`
	Point         scalar[int] `yaml:"point,omitempty" json:"point,omitempty" jsonschema:"observation point; default 0"`
	ActiveTimeout scalar[int] `yaml:"active_timeout,omitempty" json:"active_timeout,omitempty" jsonschema:"seconds that records of a flow are gathered, 0 to 4200; default 0, for none"`
	MaxFlows      scalar[int] `yaml:"max_flows,omitempty" json:"max_flows,omitempty" jsonschema:"flows that records are gathered of at once; default 0, for none"`
}

func toMirrors(all map[string]rawMirror) []vnet.Mirror {
	var mirrors []vnet.Mirror
	for _, name := range slices.Sorted(maps.Keys(all)) {
		r := all[name]
		mirrors = append(mirrors, vnet.Mirror{
			Name: name, All: r.All.value, Ports: r.Ports, Guests: r.Guests, Networks: r.Networks,
			Direction: r.Direction.value, VLANs: r.VLANs.value,
			ToPort: r.ToPort, ToGuest: r.ToGuest, ToVLAN: r.ToVLAN.value, ToAddress: r.ToAddress.value,
			Session: r.Session.value, Version: r.Version.value, Snaplen: r.Snaplen.value,
		})
	}
	return mirrors
}

func fromMirrors(all []vnet.Mirror) map[string]rawMirror {
	raw := map[string]rawMirror{}
	for _, m := range all {
		raw[m.Name] = rawMirror{
			All: given(m.All), Ports: m.Ports, Guests: m.Guests, Networks: m.Networks,
			Direction: given(m.Direction), VLANs: scalarOf(m.VLANs, len(m.VLANs) > 0),
			ToPort: m.ToPort, ToGuest: m.ToGuest, ToVLAN: given(m.ToVLAN), ToAddress: given(m.ToAddress),
			Session: given(m.Session), Version: given(m.Version), Snaplen: given(m.Snaplen),
		}
	}
	return raw
}

func toExports(r rawSwitch) (x vnet.FlowExports) {
	if s := r.SFlow; s != nil {
		x.SFlow = vnet.SFlow{
			Targets: s.Targets.values(), Agent: s.Agent, Header: s.Header.value, Sampling: s.Sampling.value,
			Polling: seconds(s.Polling).Value,
		}
	}
	if n := r.NetFlow; n != nil {
		x.NetFlow = vnet.NetFlow{
			Targets: n.Targets.values(), ActiveTimeout: seconds(n.ActiveTimeout).Value,
			EngineType: optional(n.EngineType), EngineID: optional(n.EngineID), AddID: n.AddID.value,
		}
	}
	if i := r.IPFIX; i != nil {
		x.IPFIX = vnet.IPFIX{
			Targets: i.Targets.values(), Sampling: i.Sampling.value, Domain: optional(i.Domain), Point: optional(i.Point),
			ActiveTimeout: seconds(i.ActiveTimeout), MaxFlows: optional(i.MaxFlows),
		}
	}
	return x
}

func (r *rawSwitch) addExports(x vnet.FlowExports) {
	if s := x.SFlow; len(s.Targets) > 0 {
		r.SFlow = &rawSFlow{
			Targets: targetsOf(s.Targets), Agent: s.Agent, Header: given(s.Header), Sampling: given(s.Sampling),
			Polling: given(int(s.Polling / time.Second)),
		}
	}
	if n := x.NetFlow; len(n.Targets) > 0 {
		r.NetFlow = &rawNetFlow{
			Targets: targetsOf(n.Targets), ActiveTimeout: given(int(n.ActiveTimeout / time.Second)),
			EngineType: scalarOf(n.EngineType.Value, n.EngineType.Given), EngineID: scalarOf(n.EngineID.Value, n.EngineID.Given),
			AddID: given(n.AddID),
		}
	}
	if i := x.IPFIX; len(i.Targets) > 0 {
		r.IPFIX = &rawIPFIX{
			Targets: targetsOf(i.Targets), Sampling: given(i.Sampling),
			Domain: scalarOf(i.Domain.Value, i.Domain.Given), Point: scalarOf(i.Point.Value, i.Point.Given),
			ActiveTimeout: scalarOf(int(i.ActiveTimeout.Value/time.Second), i.ActiveTimeout.Given),
			MaxFlows:      scalarOf(i.MaxFlows.Value, i.MaxFlows.Given),
		}
	}
}

// collector is "192.0.2.9:6343": an address and a port.
type collector struct{ netip.AddrPort }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (c *collector) UnmarshalText(text []byte) error {
	if err := c.AddrPort.UnmarshalText(text); err != nil || len(text) == 0 {
		return fmt.Errorf("%q is no address with a port: want one such as 192.0.2.9:6343 or [2001:db8::9]:6343", text)
	}
	return nil
}

func (list rawTargets) values() []netip.AddrPort {
	var all []netip.AddrPort
	for _, s := range list {
		all = append(all, s.value.AddrPort)
	}
	return all
}

func targetsOf(all []netip.AddrPort) (list rawTargets) {
	for _, target := range all {
		list = append(list, given(collector{target}))
	}
	return list
}

func optional[T comparable](s scalar[T]) vnet.Optional[T] {
	return vnet.Optional[T]{Given: s.given, Value: s.value}
}

// seconds is a number of them, that may have been given.
func seconds(s scalar[int]) vnet.Optional[time.Duration] {
	return vnet.Optional[time.Duration]{Given: s.given, Value: time.Duration(s.value) * time.Second}
}
