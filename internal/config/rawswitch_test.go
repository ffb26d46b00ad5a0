// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package config_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/vnet"
)

const openVSwitch = `switches:
  br0:
    driver: ovs
    uplink: bond0
    bond: {members: [eth0, eth1], mode: balance-tcp, lacp: active, lacp_time: fast, lacp_fallback: true}
    bridge:
      stp: false
      stp_hello_time: 1
      stp_max_age: 10
      stp_forward_delay: 6
      rstp: true
      rstp_priority: 4096
      rstp_max_age: 8
      rstp_forward_delay: 5
      forward_bpdu: false
    stp_ports:
      eth2: {path_cost: 2000, priority: 0, edge: true, auto_edge: false}
      eth3: {stp: false}
    mirrors:
      all: {all: true, to_vlan: 99}
      far: {vlans: "10", to_address: 192.0.2.9, erspan_session: 7, erspan_version: 2}
      ids: {ports: [bond1], guests: [web1, db1/red], networks: [red], direction: in, vlans: "10,20-29", to_port: span0, snaplen: 128}
      watch: {guests: [web1], direction: out, to_guest: ids1}
    sflow: {targets: ["192.0.2.9:6343"], agent: eth0, header: 64, sampling: 100, polling: 5}
    netflow: {targets: ["192.0.2.9:2055", "[2001:db8::9]:2055"], active_timeout: 60, engine_type: 0, engine_id: 9, add_id_to_interface: true}
    ipfix: {targets: ["192.0.2.9:4739"], sampling: 1, domain: 0, point: 7, active_timeout: 0, max_flows: 100}
networks:
  red: {switch: br0, vlan: 20}
`

func TestOpenVSwitch(t *testing.T) {
	want := vnet.Switch{
		Name: "br0", Driver: vnet.DriverOVS, Uplink: "bond0",
		Bond: vnet.Bond{Members: []string{"eth0", "eth1"}, Mode: vnet.BondTCP, LACP: vnet.LACPActive, Fast: true, Fallback: true},
		Bridge: vnet.Bridge{
			Owned: true, STP: vnet.ToggleOff, HelloTime: time.Second, MaxAge: 10 * time.Second, ForwardDelay: 6 * time.Second,
			RSTP: vnet.ToggleOn, RSTPPriority: vnet.Given(4096), RSTPMaxAge: 8 * time.Second, RSTPForwardDelay: 5 * time.Second,
			ForwardBPDU: vnet.ToggleOff,
		},
		TreePorts: []vnet.TreePort{
			{Device: "eth2", PathCost: 2000, Priority: vnet.Given(0), Edge: true, AutoEdge: vnet.ToggleOff}, {Device: "eth3", Out: true},
		},
		Mirrors: []vnet.Mirror{
			{Name: "all", All: true, ToVLAN: 99},
			{Name: "far", VLANs: vnet.VLANRanges{{First: 10, Last: 10}}, ToAddress: netip.MustParseAddr("192.0.2.9"), Session: 7, Version: 2},
			{
				Name: "ids", Ports: []string{"bond1"}, Guests: []string{"web1", "db1/red"}, Networks: []string{"red"}, Direction: vnet.DirectionIn,
				VLANs: vnet.VLANRanges{{First: 10, Last: 10}, {First: 20, Last: 29}}, ToPort: "span0", Snaplen: 128,
			},
			{Name: "watch", Guests: []string{"web1"}, Direction: vnet.DirectionOut, ToGuest: "ids1"},
		},
		Exports: vnet.FlowExports{
			SFlow: vnet.SFlow{
				Targets: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:6343")}, Agent: "eth0", Header: 64, Sampling: 100,
				Polling: 5 * time.Second,
			},
			NetFlow: vnet.NetFlow{
				Targets:       []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:2055"), netip.MustParseAddrPort("[2001:db8::9]:2055")},
				ActiveTimeout: time.Minute, EngineType: vnet.Given(0), EngineID: vnet.Given(9), AddID: true,
			},
			IPFIX: vnet.IPFIX{
				Targets: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:4739")}, Sampling: 1, Domain: vnet.Given(0), Point: vnet.Given(7),
				ActiveTimeout: vnet.Given(time.Duration(0)), MaxFlows: vnet.Given(100),
			},
		},
	}
	text := []byte(openVSwitch)
	for _, what := range []string{"parsed", "written and parsed"} {
		spec, err := config.Parse("spec.yaml", text)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got, _ := spec.Topology.Switch("br0")
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		if text, err = config.Encode(spec.Topology); err != nil {
			t.Fatal(err)
		}
	}
}
