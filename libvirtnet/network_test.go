// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/internal/golden"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/vnet"
)

var (
	linux = vnet.Switch{Name: "br0", Driver: vnet.DriverLinux}
	ovs   = vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS}
	ovn   = vnet.Switch{Name: "br-int", Driver: vnet.DriverOVN}
)

// networks has a network for everything that NetworkXML decides.
var networks = map[string]struct {
	network vnet.Network
	sw      vnet.Switch
}{
	"linux-plain":    {vnet.Network{Mode: vnet.ModeBridge, MTU: 9000}, linux},
	"linux-access":   {vnet.Network{Mode: vnet.ModeBridge, Policy: access(20)}, linux},
	"linux-trunk":    {vnet.Network{Mode: vnet.ModeBridge, Policy: trunk("10,20-22", 0, false)}, linux},
	"linux-native":   {vnet.Network{Mode: vnet.ModeBridge, Policy: trunk("20-22", 10, false)}, linux},
	"linux-isolated": {vnet.Network{Mode: vnet.ModeBridge, Policy: vnet.Policy{Isolated: true, Learning: vnet.ToggleOff, Flood: vnet.ToggleOff}}, linux},
	"linux-portgroups": {vnet.Network{Mode: vnet.ModeBridge, Policy: access(20), Portgroups: []vnet.Portgroup{
		{Name: "db", Policy: access(30)}, {Name: "web", Policy: access(40)},
	}}, linux},
	"linux-portgroup-untagged": {vnet.Network{Mode: vnet.ModeBridge, Policy: access(20), Portgroups: []vnet.Portgroup{
		{Name: "db", Policy: access(30)}, {Name: "plain"},
	}}, linux},
	"linux-portgroup-isolated": {vnet.Network{Mode: vnet.ModeBridge, Portgroups: []vnet.Portgroup{
		{Name: "guests", Default: true, Policy: vnet.Policy{Isolated: true}}, {Name: "router"},
	}}, linux},
	"ovs-plain":    {vnet.Network{Mode: vnet.ModeBridge}, ovs},
	"ovs-access":   {vnet.Network{Mode: vnet.ModeBridge, Policy: access(20), MTU: 1450}, ovs},
	"ovs-trunk":    {vnet.Network{Mode: vnet.ModeBridge, Policy: trunk("10,20-22", 0, false)}, ovs},
	"ovs-native":   {vnet.Network{Mode: vnet.ModeBridge, Policy: trunk("10,20-22", 10, false)}, ovs},
	"ovs-tagged":   {vnet.Network{Mode: vnet.ModeBridge, Policy: trunk("20-22", 10, true)}, ovs},
	"ovs-isolated": {vnet.Network{Mode: vnet.ModeBridge, Policy: vnet.Policy{Isolated: true, BPDUGuard: vnet.ToggleOn}}, ovs},
	"ovs-portgroups": {vnet.Network{Mode: vnet.ModeBridge, Policy: access(20), Portgroups: []vnet.Portgroup{
		{Name: "plain", Default: true}, {Name: "red", Policy: access(30)}, {Name: "trunk", Policy: trunk("20,30", 20, false)},
	}}, ovs},
	"ovn-plain":           {vnet.Network{Mode: vnet.ModeBridge, MTU: 1400}, ovn},
	"ovn-guarded":         {vnet.Network{Mode: vnet.ModeBridge, Policy: vnet.Policy{AntiSpoof: true}}, ovn},
	"macvtap-bridge":      {vnet.Network{Mode: vnet.ModeMacvtap, Device: "eno1", MTU: 9000}, vnet.Switch{}},
	"macvtap-vepa":        {vnet.Network{Mode: vnet.ModeMacvtap, Device: "eno1", Macvtap: vnet.MacvtapVEPA}, vnet.Switch{}},
	"macvtap-private":     {vnet.Network{Mode: vnet.ModeMacvtap, Device: "eno1", Macvtap: vnet.MacvtapPrivate}, vnet.Switch{}},
	"macvtap-passthrough": {vnet.Network{Mode: vnet.ModeMacvtap, Device: "eno1.20", Macvtap: vnet.MacvtapPassthrough}, vnet.Switch{}},
	"nat":                 {vnet.Network{Mode: vnet.ModeNAT, Subnet: prefix("192.168.150.0/24"), MTU: 1400}, vnet.Switch{}},
	"nat-gateway":         {vnet.Network{Mode: vnet.ModeNAT, Subnet: prefix("192.168.151.0/24"), Gateway: addr("192.168.151.100")}, vnet.Switch{}},
	"nat-wide":            {vnet.Network{Mode: vnet.ModeNAT, Subnet: prefix("10.64.0.0/10"), Gateway: addr("10.127.255.254")}, vnet.Switch{}},
	"nat-small":           {vnet.Network{Mode: vnet.ModeNAT, Subnet: prefix("192.168.152.0/30"), Gateway: addr("192.168.152.2")}, vnet.Switch{}},
	"nat-pair":            {vnet.Network{Mode: vnet.ModeNAT, Subnet: prefix("192.168.153.0/31")}, vnet.Switch{}},
	"nat-ipv6":            {vnet.Network{Mode: vnet.ModeNAT, Subnet: prefix("fd00:150::/64")}, vnet.Switch{}},
	"isolated":            {vnet.Network{Mode: vnet.ModeIsolated, MTU: 9000, Policy: vnet.Policy{Isolated: true, Flood: vnet.ToggleOff}}, vnet.Switch{}},
	"isolated-ipv4":       {vnet.Network{Mode: vnet.ModeIsolated, Subnet: prefix("172.16.0.0/16")}, vnet.Switch{}},
	"isolated-ipv6":       {vnet.Network{Mode: vnet.ModeIsolated, Subnet: prefix("fd00:151::/56")}, vnet.Switch{}},
	"isolated-ipv6-tiny":  {vnet.Network{Mode: vnet.ModeIsolated, Subnet: prefix("fd00:152::/126")}, vnet.Switch{}},
}

func access(id vnet.VLANID) vnet.Policy { return vnet.Policy{VLAN: vnet.VLANSet{Access: id}} }

func trunk(list string, native vnet.VLANID, tagged bool) vnet.Policy {
	return vnet.Policy{VLAN: vnet.VLANSet{Trunk: ranges(list), Native: native, NativeTagged: tagged}}
}

func ranges(list string) vnet.VLANRanges {
	parsed, err := vnet.ParseVLANRanges(list)
	if err != nil {
		panic(err)
	}
	return parsed
}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }
func addr(text string) netip.Addr     { return netip.MustParseAddr(text) }

// TestNetworkXML holds what is written, and who does what, against golden files
// with a section for every libvirt that differs. The tests of virtapi hold the
// golden files against libvirt itself.
func TestNetworkXML(t *testing.T) {
	for name, tt := range networks {
		t.Run(name, func(t *testing.T) {
			tt.network.Name, tt.network.Switch = name, tt.sw.Name
			topology := vnet.Topology{Networks: []vnet.Network{tt.network}}
			if tt.sw.Name != "" {
				topology.Switches = []vnet.Switch{tt.sw}
			}
			if problems := topology.Validate(); problems != nil {
				t.Fatalf("no valid network: %v", problems)
			}
			golden.Check(t, filepath.Join("testdata", "networks", name+".txt"), sections(t, tt.network, tt.sw))
		})
	}
	files, err := filepath.Glob(filepath.Join("testdata", "networks", "*.txt"))
	if err != nil || len(files) != len(networks) {
		t.Errorf("%d golden files for %d networks: %v", len(files), len(networks), err)
	}
}

// sections writes n for several libvirts; what equals the one before is named
// only.
func sections(t *testing.T, n vnet.Network, sw vnet.Switch) string {
	t.Helper()
	var out strings.Builder
	var last string
	for _, v := range []libvirtnet.Version{8_000_000, 9_000_000, 11_000_000} {
		text, err := libvirtnet.NetworkXML(n, sw, v)
		if err != nil {
			t.Fatal(err)
		}
		section := text + "\n"
		for _, duty := range libvirtnet.Division(n, sw, v) {
			section += "# " + strings.ReplaceAll(duty.String(), "libvirt "+v.String(), "libvirt VERSION") + "\n"
		}
		if section != last {
			fmt.Fprintf(&out, "== libvirt %s\n%s", v, section)
		} else {
			fmt.Fprintf(&out, "== libvirt %s: the same\n", v)
		}
		last = section
		if got, err := libvirtnet.ParseNetwork(text); err != nil || !got.Owned || got.Name != n.Name {
			t.Errorf("libvirt %s: read back %+v, %v", v, got, err)
		}
		if !libvirtnet.SameNetwork(text, text) {
			t.Errorf("libvirt %s: the definition differs from itself", v)
		}
	}
	return out.String()
}

func TestNetworkXMLRefuses(t *testing.T) {
	tests := map[string]struct {
		network vnet.Network
		want    string
	}{
		"no mode": {vnet.Network{Name: "red"}, "network red: mode invalid(0): want one of [bridge macvtap nat isolated]"},
		"NAT for IPv6 before 6.5.0": {
			vnet.Network{Name: "red", Mode: vnet.ModeNAT, Subnet: prefix("fd00::/64")},
			"network red: subnet fd00::/64: libvirt 6.4.0 has no NAT for IPv6: want libvirt 6.5.0, or an IPv4 subnet",
		},
		"portgroup": {
			vnet.Network{Name: "red", Mode: vnet.ModeBridge, Portgroups: []vnet.Portgroup{{Name: "web servers"}}},
			`network red: portgroup "web servers": want a name of letters, digits, and . _ : / -`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := libvirtnet.NetworkXML(tt.network, linux, 6_004_000)
			if err == nil || err.Error() != tt.want {
				t.Errorf("error = %v, want %s", err, tt.want)
			}
		})
	}
}

// TestNetworkXMLOld has what libvirts before 6.1.0 cannot say.
func TestNetworkXMLOld(t *testing.T) {
	isolated := vnet.Policy{Isolated: true}
	n := vnet.Network{Name: "red", Mode: vnet.ModeBridge, Switch: "br0", Policy: isolated}
	text, err := libvirtnet.NetworkXML(n, linux, 6_000_000)
	if err != nil || strings.Contains(text, "isolated") {
		t.Errorf("libvirt 6.0.0 got %s, %v", text, err)
	}
	n.Mode = vnet.ModeIsolated
	for _, tt := range []struct {
		mode vnet.Mode
		want string
	}{
		{vnet.ModeBridge, "isolated ports: the hook (libvirt 6.0.0 cannot isolate ports, 6.1.0 can)"},
		{vnet.ModeIsolated, "isolated ports: nobody (libvirt 6.0.0 cannot isolate ports, 6.1.0 can)"},
	} {
		n.Mode = tt.mode
		if got := libvirtnet.Division(n, linux, 6_000_000)[1].String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.mode, got, tt.want)
		}
	}
}

func TestInterfaceXML(t *testing.T) {
	mac := vnet.MAC{0x52, 0x54, 0, 0, 0, 1}
	red := vnet.Network{Name: "red", Mode: vnet.ModeBridge, MTU: 9000, Portgroups: []vnet.Portgroup{{Name: "web"}}}
	nat := vnet.Network{Name: "out", Mode: vnet.ModeNAT, MTU: 1400}
	tests := map[string]struct {
		nic       vnet.NIC
		network   vnet.Network
		want, err string
	}{
		"unknown portgroup": {
			nic: vnet.NIC{Portgroup: "db"}, network: red,
			err: "network red: portgroup db: not there: want one of the network's, or none",
		},
		"plain": {network: nat, want: "<interface type='network'> <source network='out'/> <model type='virtio'/> </interface>"},
		"everything": {
			nic:     vnet.NIC{Portgroup: "web", MAC: mac, Queues: 4, RXRing: 1024, TXRing: 256},
			network: red,
			want: "<interface type='network'> <mac address='52:54:00:00:00:01'/> <source network='red' portgroup='web'/> " +
				"<model type='virtio'/> <driver queues='4' rx_queue_size='1024' tx_queue_size='256'/> <mtu size='9000'/> </interface>",
		},
		"another model": {
			nic: vnet.NIC{Model: vnet.ModelRTL8139}, network: vnet.Network{Name: "theirs"},
			want: "<interface type='network'> <source network='theirs'/> <model type='rtl8139'/> </interface>",
		},
		"portgroup of a network that no spec has": {
			nic: vnet.NIC{Portgroup: "a"}, network: vnet.Network{Name: "theirs"},
			want: "<interface type='network'> <source network='theirs' portgroup='a'/> <model type='virtio'/> </interface>",
		},
		"OVN": {
			nic:     vnet.NIC{Network: "red", InterfaceID: "7e9a4c3b-5a1d-4a55-9d0e-0b6f0f4f1b2c"},
			network: vnet.Network{Name: "red", Mode: vnet.ModeBridge},
			want: "<interface type='network'> <source network='red'/> <virtualport type='openvswitch'> " +
				"<parameters interfaceid='7e9a4c3b-5a1d-4a55-9d0e-0b6f0f4f1b2c'/> </virtualport> <model type='virtio'/> </interface>",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := libvirtnet.InterfaceXML(tt.nic, tt.network)
			if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("error = %v, want %q", err, tt.err)
			}
			got = strings.ReplaceAll(strings.Join(strings.Fields(got), " "), `"`, "'")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("interface (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	for _, bad := range []string{"", "9", "9.x", "9.0.0.1", "9.1000", "v9.0.0", "-1.0", "9.0."} {
		if v, err := libvirtnet.ParseVersion(bad); err == nil {
			t.Errorf("%q was read as %s", bad, v)
		}
	}
	for text, want := range map[string]libvirtnet.Version{"9.0.0": 9_000_000, "11.10": 11_010_000, "0.10.2": 10_002} {
		if got, err := libvirtnet.ParseVersion(text); err != nil || got != want {
			t.Errorf("%s = %d, %v, want %d", text, got, err, want)
		}
	}
	if got := libvirtnet.Version(11_010_002).String(); got != "11.10.2" {
		t.Errorf("String = %s", got)
	}
}

// TestTrunkOfAll is the largest membership there is: libvirt wants each tag.
func TestTrunkOfAll(t *testing.T) {
	all := vnet.VLANSet{Trunk: vnet.AllVLANs(), Native: 10}
	text, err := libvirtnet.NetworkXML(vnet.Network{Name: "all", Mode: vnet.ModeBridge, Policy: vnet.Policy{VLAN: all}}, ovs, 9_000_000)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(text, "<vlan")
	tags, _, _ := strings.Cut(rest, "</vlan>")
	got, err := libvirtnet.ParseDomain([]byte(domain("<interface type='bridge'><vlan" + tags + "</vlan></interface>")))
	if err != nil || !got.NICs[0].VLAN.Equal(all) {
		t.Errorf("read back %v, %v, want %v", got.NICs[0].VLAN, err, all)
	}
	if n := strings.Count(tags, "<tag"); n != 4094 {
		t.Errorf("%d tags, want 4094", n)
	}
}

func BenchmarkParseDomain(b *testing.B) {
	data, err := os.ReadFile(filepath.Join("testdata", "domains", "start.xml"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := libvirtnet.ParseDomain(data); err != nil {
			b.Fatal(err)
		}
	}
}
