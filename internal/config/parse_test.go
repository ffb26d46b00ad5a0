// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package config_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestBadSpecs reads every testdata/bad-*.yaml. Its first lines, behind "# ",
// are the errors, without the file's name.
func TestBadSpecs(t *testing.T) {
	names, err := filepath.Glob("testdata/bad-*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no bad specs: %v", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(data)) {
				text, ok := strings.CutPrefix(line, "# ")
				if !ok {
					break
				}
				want = append(want, strings.TrimSpace(text))
			}
			_, err = config.Parse("spec.yaml", data)
			if err == nil {
				t.Fatal("no error")
			}
			got := strings.Split(strings.ReplaceAll(err.Error(), "spec.yaml:", ""), "\n")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

const full = `version: 1
hosts:
  kvm1: {uri: "qemu+ssh://kvm1/system"}
  kvm2: {uri: "qemu+ssh://kvm2/system", chassis: b7f1}
switches:
  br0:
    driver: linux
    uplink: bond0
    bridge:
      vlan_filtering: true
      default_pvid: 0
      stp: false
      stp_priority: 4096
      stp_forward_delay: 2
  br9:
    driver: linux
    bridge: {}
  ovs0:
    driver: ovs
    database: ssl:192.0.2.1:6640, unix:/run/openvswitch/db.sock
    tls: {key: /etc/ovs/key.pem, certificate: /etc/ovs/cert.pem, ca: /etc/ovs/ca.pem}
  br-int: {driver: ovn, database: "tcp:192.0.2.10:6641", encap: vxlan, underlay_mtu: 9000, underlay_ipv6: true}
routers:
  r1:
    switch: br-int
    uplink: {network: ext, address: 203.0.113.10/24, gateway: 203.0.113.1, chassis: [host1, host2]}
    snat: [10.0.30.0/24]
    dnat: [{external: 203.0.113.20, to: 10.0.30.11}]
    routes: [{to: 10.8.0.0/16, via: 10.0.30.8}]
    load_balancers:
      - {vip: "10.0.30.100:80", backends: ["web1:8080", "10.0.30.12:8080"]}
      - {vip: "203.0.113.21:53", protocol: udp, backends: ["10.0.30.12:53"]}
address_sets:
  admins: [10.7.0.0/16, 10.7.1.1, "2001:db8::/64"]
networks:
  app:
    switch: br-int
    subnet: 10.0.30.0/24
    gateway: 10.0.30.1
    router: r1
    dhcp:
      lease_time: 7200
      dns: [9.9.9.9]
      domain: example.org
      routes: [{to: 10.9.0.0/16, via: 10.0.30.9}]
    acls:
      - {direction: in, action: allow, from: set admins, protocol: tcp, ports: [22, 80-89]}
      - {direction: in, action: allow, from: web1, to: 10.0.30.11, protocol: icmp, priority: 5}
      - {direction: in, action: drop, log: true}
      - {direction: out, action: reject, to: network app}
  ext:
    switch: br-int
    localnet: {physical: physnet1, vlan: 20}
  plain:
    switch: br-int
    subnet: 10.0.31.0/24
    gateway: 10.0.31.1
    mtu: 1400
    dhcp:
  edge:
    mode: macvtap
    device: eno1
    macvtap: private
  lan:
    switch: br0
    isolated: true
    learning: false
    mcast_flood: false
    bcast_flood: false
    fast_leave: true
    neigh_suppress: true
    bpdu_guard: false
    root_block: true
    anti_spoof: true
    dhcp_guard: false
    ra_guard: true
    allow: ["00:00:5e:00:01:0a", 10.0.20.1, "2001:db8::1"]
    qos:
      inbound: 100mbit
      inbound_burst: 256kb
      outbound: 1500kbit
      priority: 5
    vlan: 30
  nat1:
    mode: nat
    subnet: 192.168.150.0/24
  trunk:
    switch: ovs0
    mtu: 9000
    trunk: [10, 20-29]
    native: 10
    portgroups:
      web:
        default: true
        vlan: 21
        profile: appliance
    subnet: 10.0.20.0/24
    gateway: 10.0.20.1
    on_failure: warn
guests:
  web1:
    nics:
      - network: trunk
        portgroup: web
        mac: 52:54:00:00:00:01
        address: 10.0.20.11
        allow: [10.0.20.1]
        queues: 4
        rx_ring: 1024
  web9.example.org:
    down: true
expect:
  - from: web1
    reach: web9.example.org
  - {from: network trunk, deny: network edge}
  - {from: web1/trunk, tcp: "web1:5432"}
  - {from: web1, tcp: "[2001:db8::1]:443"}
  - {from: web1, dns: www.example.org, server: 10.0.20.1}
  - {from: network trunk, to: gateway, latency: <5ms, loss: <1.5%}
  - {from: web1, reach: www.example.org}
waivers:
  - code: WRONG_VLAN
    guest: web1
    network: trunk
    owner: alice@example.org
    until: "2027-01-31"
    reason: moves next week
`

func wantFull() vnet.Topology {
	return vnet.Topology{
		Hosts: []vnet.Host{
			{Name: "kvm1", URI: "qemu+ssh://kvm1/system"},
			{Name: "kvm2", URI: "qemu+ssh://kvm2/system", Chassis: "b7f1"},
		},
		Switches: []vnet.Switch{
			{Name: "br-int", Driver: vnet.DriverOVN, Database: vnet.Endpoints{{Transport: vnet.TransportTCP, Address: "192.0.2.10:6641"}}, Overlay: vnet.Overlay{Encap: vnet.EncapVXLAN, UnderlayMTU: 9000, UnderlayIPv6: true}},
			{Name: "br0", Driver: vnet.DriverLinux, Uplink: "bond0", Bridge: vnet.Bridge{
				Owned: true, VLANFiltering: vnet.ToggleOn, DefaultPVID: vnet.Given[vnet.VLANID](0), STP: vnet.ToggleOff,
				Priority: vnet.Given(4096), ForwardDelay: 2 * time.Second,
			}},
			{Name: "br9", Driver: vnet.DriverLinux, Bridge: vnet.Bridge{Owned: true}},
			{
				Name: "ovs0", Driver: vnet.DriverOVS,
				Database: vnet.Endpoints{
					{Transport: vnet.TransportSSL, Address: "192.0.2.1:6640"},
					{Transport: vnet.TransportUnix, Address: "/run/openvswitch/db.sock"},
				},
				TLS: vnet.TLS{Key: "/etc/ovs/key.pem", Certificate: "/etc/ovs/cert.pem", CA: "/etc/ovs/ca.pem"},
			},
		},
		Routers: []vnet.Router{{
			Name: "r1", Switch: "br-int",
			Uplink: vnet.Uplink{
				Network: "ext", Address: netip.MustParsePrefix("203.0.113.10/24"), Gateway: netip.MustParseAddr("203.0.113.1"),
				Chassis: []string{"host1", "host2"},
			},
			SNAT:   []netip.Prefix{netip.MustParsePrefix("10.0.30.0/24")},
			DNAT:   []vnet.DNAT{{External: netip.MustParseAddr("203.0.113.20"), To: netip.MustParseAddr("10.0.30.11")}},
			Routes: []vnet.Route{{To: netip.MustParsePrefix("10.8.0.0/16"), Via: netip.MustParseAddr("10.0.30.8")}},
			LoadBalancers: []vnet.LoadBalancer{
				{VIP: netip.MustParseAddrPort("10.0.30.100:80"), Backends: []vnet.Backend{
					{Peer: vnet.Peer{Guest: "web1"}, Port: 8080},
					{Peer: vnet.Peer{Prefix: netip.MustParsePrefix("10.0.30.12/32")}, Port: 8080},
				}},
				{VIP: netip.MustParseAddrPort("203.0.113.21:53"), Protocol: vnet.ProtocolUDP, Backends: []vnet.Backend{
					{Peer: vnet.Peer{Prefix: netip.MustParsePrefix("10.0.30.12/32")}, Port: 53},
				}},
			},
		}},
		AddressSets: []vnet.AddressSet{{Name: "admins", Addresses: []netip.Prefix{
			netip.MustParsePrefix("10.7.0.0/16"), netip.MustParsePrefix("10.7.1.1/32"), netip.MustParsePrefix("2001:db8::/64"),
		}}},
		Networks: []vnet.Network{
			{
				Name: "app", Mode: vnet.ModeBridge, Switch: "br-int", MTU: 8930,
				Subnet: netip.MustParsePrefix("10.0.30.0/24"), Gateway: netip.MustParseAddr("10.0.30.1"), Logical: wantLogical(),
			},
			{Name: "edge", Mode: vnet.ModeMacvtap, Device: "eno1", Macvtap: vnet.MacvtapPrivate},
			{
				Name: "ext", Mode: vnet.ModeBridge, Switch: "br-int",
				Logical: vnet.Logical{Localnet: vnet.Localnet{Physical: "physnet1", VLAN: 20}},
			},
			{
				Name: "lan", Mode: vnet.ModeBridge, Switch: "br0",
				Policy: vnet.Policy{
					VLAN: vnet.VLANSet{Access: 30}, Isolated: true, Learning: vnet.ToggleOff,
					MulticastFlood: vnet.ToggleOff, BroadcastFlood: vnet.ToggleOff, FastLeave: vnet.ToggleOn, NeighSuppress: vnet.ToggleOn,
					BPDUGuard: vnet.ToggleOff, RootBlock: vnet.ToggleOn,
					AntiSpoof: true, DHCPGuard: vnet.ToggleOff, RAGuard: vnet.ToggleOn,
					Allow: vnet.Allow{
						MACs:      []vnet.MAC{{0, 0, 0x5e, 0, 1, 10}},
						Addresses: []netip.Addr{netip.MustParseAddr("10.0.20.1"), netip.MustParseAddr("2001:db8::1")},
					},
					QoS: vnet.QoS{
						Inbound:  vnet.Rate{Bits: 100e6, Burst: 256 << 10},
						Outbound: vnet.Rate{Bits: 1500e3}, Priority: 5,
					},
				},
			},
			{Name: "nat1", Mode: vnet.ModeNAT, Subnet: netip.MustParsePrefix("192.168.150.0/24")},
			{
				Name: "plain", Mode: vnet.ModeBridge, Switch: "br-int", MTU: 1400,
				Subnet: netip.MustParsePrefix("10.0.31.0/24"), Gateway: netip.MustParseAddr("10.0.31.1"),
				Logical: vnet.Logical{DHCP: vnet.DHCP{Serve: true}},
			},
			{
				Name: "trunk", Mode: vnet.ModeBridge, Switch: "ovs0", MTU: 9000,
				Policy: vnet.Policy{VLAN: vnet.VLANSet{Trunk: vnet.VLANRanges{{First: 10, Last: 10}, {First: 20, Last: 29}}, Native: 10}},
				Portgroups: []vnet.Portgroup{
					{Name: "web", Default: true, Policy: vnet.Policy{VLAN: vnet.VLANSet{Access: 21}, Profile: vnet.ProfileAppliance}},
				},
				Subnet: netip.MustParsePrefix("10.0.20.0/24"), Gateway: netip.MustParseAddr("10.0.20.1"),
				OnFailure: vnet.FailureWarn,
			},
		},
		Guests: []vnet.Guest{{Name: "web1", NICs: []vnet.NIC{{
			Network: "trunk", Portgroup: "web", MAC: vnet.MAC{0x52, 0x54, 0, 0, 0, 1},
			Address: netip.MustParseAddr("10.0.20.11"), Queues: 4, RXRing: 1024,
			Allow: vnet.Allow{Addresses: []netip.Addr{netip.MustParseAddr("10.0.20.1")}},
		}}}, {Name: "web9.example.org", Down: true}},
		Expect: wantExpect(),
		Waivers: []vnet.Waiver{{
			Code: "WRONG_VLAN", Guest: "web1", Network: "trunk", Owner: "alice@example.org",
			Until: time.Date(2027, 1, 31, 0, 0, 0, 0, time.Local), Reason: "moves next week",
		}},
	}
}

func wantLogical() vnet.Logical {
	return vnet.Logical{
		Router: "r1",
		DHCP: vnet.DHCP{
			Serve: true, LeaseTime: 2 * time.Hour, DNS: []netip.Addr{netip.MustParseAddr("9.9.9.9")}, Domain: "example.org",
			Routes: []vnet.Route{{To: netip.MustParsePrefix("10.9.0.0/16"), Via: netip.MustParseAddr("10.0.30.9")}},
		},
		ACLs: []vnet.ACL{
			{
				Direction: vnet.DirectionIn, Action: vnet.ActionAllow, From: vnet.Peer{Set: "admins"},
				Protocol: vnet.ProtocolTCP, Ports: vnet.PortRanges{{First: 22, Last: 22}, {First: 80, Last: 89}},
			},
			{
				Direction: vnet.DirectionIn, Action: vnet.ActionAllow, From: vnet.Peer{Guest: "web1"},
				To: vnet.Peer{Prefix: netip.MustParsePrefix("10.0.30.11/32")}, Protocol: vnet.ProtocolICMP, Priority: 5,
			},
			{Direction: vnet.DirectionIn, Action: vnet.ActionDrop, Log: true},
			{Direction: vnet.DirectionOut, Action: vnet.ActionReject, To: vnet.Peer{Network: "app"}},
		},
	}
}

func wantExpect() []vnet.Expectation {
	web1, trunk := vnet.Party{Guest: "web1"}, vnet.Party{Network: "trunk"}
	return []vnet.Expectation{
		{From: web1, Reach: vnet.Party{Guest: "web9.example.org"}},
		{From: trunk, Deny: vnet.Party{Network: "edge"}},
		{From: vnet.Party{Guest: "web1", Network: "trunk"}, TCP: vnet.Service{Party: web1, Port: 5432}},
		{From: web1, TCP: vnet.Service{Party: vnet.Party{Addr: netip.MustParseAddr("2001:db8::1")}, Port: 443}},
		{From: web1, DNS: "www.example.org", Server: vnet.Party{Addr: netip.MustParseAddr("10.0.20.1")}},
		{From: trunk, To: vnet.Party{Gateway: true}, Latency: 5 * time.Millisecond, Loss: 0.015},
		{From: web1, Reach: vnet.Party{Host: "www.example.org"}},
	}
}

// compare leaves out the places in files, which TestWhere is about.
func compare() cmp.Options {
	return cmp.Options{
		cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}),
		cmpopts.IgnoreFields(vnet.Expectation{}, "Where"), cmpopts.IgnoreFields(vnet.Waiver{}, "Where"),
	}
}

func TestParse(t *testing.T) {
	spec, err := config.Parse("spec.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantFull(), spec.Topology, compare()); diff != "" {
		t.Errorf("topology (-want +got):\n%s", diff)
	}
}

func TestEncodeRoundTrip(t *testing.T) {
	data, err := config.Encode(wantFull())
	if err != nil {
		t.Fatal(err)
	}
	spec, err := config.Parse("encoded.yaml", data)
	if err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	if diff := cmp.Diff(wantFull(), spec.Topology, compare()); diff != "" {
		t.Errorf("topology (-want +got):\n%s\n%s", diff, data)
	}
}

func TestLoadNamesBothFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), "networks:\n  red: {mode: isolated}\n")
	write(t, filepath.Join(dir, "b.yaml"), "switches:\n  br0: {driver: linux}\nnetworks:\n  red: {mode: isolated}\n")
	_, err := config.Load(dir)
	want := filepath.Join(dir, "b.yaml") + ":4: networks red is declared in " + filepath.Join(dir, "a.yaml") + ":2 already"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestLoadJoinsFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "switches.yaml"), "switches:\n  br0: {driver: linux}\n")
	write(t, filepath.Join(dir, "red.yml"), "networks:\n  red: {switch: br0, vlan: 20}\n")
	write(t, filepath.Join(dir, "notes.txt"), "not yaml: [")
	spec, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := spec.Topology.Network("red"); !ok || n.Policy.VLAN.Access != 20 || n.Mode != vnet.ModeBridge {
		t.Errorf("network red is %+v", n)
	}
}

// Items of the lists of two files are numbered through, and found again.
func TestWhere(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), "guests: {web1: {}}\nexpect:\n  - {from: web1, reach: 10.0.0.1}\n")
	write(t, filepath.Join(dir, "b.yaml"), "expect:\n  - {from: web1, reach: 10.0.0.2}\n  - from: web1\n    reach: 10.0.0.3\n"+
		"waivers:\n  - {guest: web1, owner: me, until: 2027-01-31}\n")
	spec, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{spec.Topology.Waivers[0].Where}
	for _, e := range spec.Topology.Expect {
		got = append(got, e.Where)
	}
	want := []string{
		filepath.Join(dir, "b.yaml") + ":6", filepath.Join(dir, "a.yaml") + ":3",
		filepath.Join(dir, "b.yaml") + ":2", filepath.Join(dir, "b.yaml") + ":3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}

	write(t, filepath.Join(dir, "c.yaml"), "expect:\n  - {from: web1, reach: 10.0.0.2}\n  - from: web1\n    reach: nobody\n")
	_, err = config.Load(dir)
	text := filepath.Join(dir, "c.yaml") + ":4: expectation 5: got guest nobody, want one of the spec's guests: web1"
	if err == nil || err.Error() != text {
		t.Errorf("got %v, want %s", err, text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("networks: {red: {vlan: 0}}"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := config.Parse("fuzz.yaml", data)
		if err != nil {
			return
		}
		again, err := config.Encode(spec.Topology)
		if err != nil {
			t.Fatalf("encode: %v", err)
		}
		if _, err := config.Parse("again.yaml", again); err != nil {
			t.Fatalf("parse what encode wrote: %v\n%s", err, again)
		}
	})
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
