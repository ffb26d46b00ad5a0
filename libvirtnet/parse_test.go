// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// domain wraps interfaces in a domain.
func domain(interfaces string) string {
	return "<domain type='kvm'>\n<name>web1</name>\n<uuid>4DEA22B31D52D8F32516782E98AB3FA0</uuid>\n" +
		"<devices><disk type='file'/>\n" + interfaces + "</devices>\n</domain>\n"
}

func TestParseDomainRefuses(t *testing.T) {
	whole := domain("<interface type='bridge'><mac address='52:54:00:00:00:01'/></interface>")
	tests := map[string]struct{ in, want string }{
		"nothing":       {"", "domain XML: empty input: want a <domain> element as libvirt writes it"},
		"blank":         {" \n\t", "domain XML: empty input: want a <domain> element as libvirt writes it"},
		"a comment":     {"<!-- gone -->", "domain XML: line 1: the document ends here: want the whole <domain> element, in UTF-8"},
		"no XML":        {"start begin -", "domain XML: line 1: the document ends here: want the whole <domain> element, in UTF-8"},
		"another root":  {"\n<network><name>red</name></network>", "domain XML: line 2: the document is a <network>: want a <domain>"},
		"truncated":     {whole[:strings.Index(whole, "<mac")+8], "domain XML: line 5: in /domain/devices/interface: the document ends here: want the whole <domain> element, in UTF-8"},
		"half a tag":    {"<domain><name>a</name><devi", "domain XML: line 1: in /domain: the document ends here: want the whole <domain> element, in UTF-8"},
		"crossed tags":  {"<domain>\n<name>a</domain></name>", "domain XML: line 2: in /domain/name: element <name> closed by </domain>: want the whole <domain> element, in UTF-8"},
		"two documents": {whole + whole, "domain XML: line 7: <domain> after the end of the document: want one <domain>"},
		"text behind":   {whole + "<", "domain XML: line 7: the document ends here: want the whole <domain> element, in UTF-8"},
		"not UTF-8":     {"<?xml version='1.0' encoding='latin1'?><domain/>", `domain XML: line 1: xml: encoding "latin1" declared but Decoder.CharsetReader is nil: want the whole <domain> element, in UTF-8`},
		"no name":       {"<domain/>", "domain XML: /domain/name: missing: want the name of the guest"},
		"UUID": {
			"<domain><name>a</name><uuid>../../x</uuid></domain>",
			`domain XML: /domain/uuid: "../../x" is no UUID: want one such as 4dea22b3-1d52-d8f3-2516-782e98ab3fa0`,
		},
		"interfaceid": {
			domain("<interface type='bridge'><virtualport type='openvswitch'><parameters interfaceid='web-1'/></virtualport></interface>"),
			`domain XML: /domain/devices/interface[1]/virtualport/parameters/@interfaceid: "web-1" is no UUID: want one such as 4dea22b3-1d52-d8f3-2516-782e98ab3fa0`,
		},
		"no type": {
			domain("<interface type='user'/><interface/>"),
			"domain XML: /domain/devices/interface[2]/@type: missing: want network, bridge, direct or another of libvirt's",
		},
		"MAC": {
			domain("<interface type='user'><mac address='52:54:00:00:01'/></interface>"),
			`domain XML: /domain/devices/interface[1]/mac/@address: "52:54:00:00:01" is no MAC address: want one such as 52:54:00:12:34:56`,
		},
		"MTU": {
			domain("<interface type='user'><mtu size='-1'/></interface>"),
			`domain XML: /domain/devices/interface[1]/mtu/@size: "-1": want a number from 0 to 65535`,
		},
		"queues": {
			domain("<interface type='user'><driver queues='many'/></interface>"),
			`domain XML: /domain/devices/interface[1]/driver/@queues: "many": want a number from 0 to 65536`,
		},
		"VLAN": {
			domain("<interface type='user'><vlan><tag id='1'/><tag id='4096'/></vlan></interface>"),
			`domain XML: /domain/devices/interface[1]/vlan/tag[2]/@id: "4096": want a number from 0 to 4095`,
		},
		"VLAN without ID": {
			domain("<interface type='user'><vlan><tag/></vlan></interface>"),
			`domain XML: /domain/devices/interface[1]/vlan/tag[1]/@id: missing: want a number from 0 to 4095`,
		},
		"deep":     {strings.Repeat("<domain>", 20000), "domain XML: line 1: in " + strings.Repeat("/domain", 16) + "/...: the document ends here: want the whole <domain> element, in UTF-8"},
		"too much": {strings.Repeat(" ", libvirtnet.MaxXML+1), "domain XML: 10485761 bytes are too many: want at most 10485760"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := libvirtnet.ParseDomain([]byte(tt.in))
			if err == nil {
				t.Fatalf("read as %+v", got)
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseDomain(t *testing.T) {
	mac := vnet.MAC{0x52, 0x54, 0, 0, 0, 1}
	vlan := func(set vnet.VLANSet) *vnet.VLANSet { return &set }
	tests := map[string]struct {
		in   string
		want libvirtnet.DomainNIC
	}{
		"network, guest off": {
			`<interface type='network'><mac address='52:54:00:00:00:01'/><source network='red' portgroup='web'/><model type='virtio'/><driver queues='4'/></interface>`,
			libvirtnet.DomainNIC{Type: "network", MAC: mac, Network: "red", Portgroup: "web", Model: "virtio", Queues: 4},
		},
		"network, guest on": {
			`<interface type='bridge'><mac address='52:54:00:00:00:01'/><source network='lan' portgroup='red' portid='6d4a44fc-8f50-44ad-b9ce-1e1b3fd25c20' bridge='br0'/>` +
				`<target dev='vnet0'/><mtu size='9000'/><link state='down'/><port isolated='yes'/><alias name='net0'/></interface>`,
			libvirtnet.DomainNIC{
				Type: "bridge", MAC: mac, Network: "lan", Portgroup: "red", Bridge: "br0", Device: "vnet0",
				MTU: 9000, LinkDown: true, Isolated: true, Alias: "net0",
			},
		},
		"limited by libvirt, in one direction": {
			`<interface type='bridge'><source bridge='br0'/><bandwidth><outbound average='128'/></bandwidth></interface>`,
			libvirtnet.DomainNIC{Type: "bridge", Bridge: "br0", Limited: true},
		},
		"MAC table of libvirt": {
			`<interface type='bridge'><source network='lan' bridge='br0' macTableManager='libvirt'/></interface>`,
			libvirtnet.DomainNIC{Type: "bridge", Network: "lan", Bridge: "br0", MACTable: true},
		},
		"Open vSwitch": {
			`<interface type='bridge'><source bridge='ovs0'/><vlan><tag id='20'/></vlan><virtualport type='openvswitch'><parameters interfaceid='7e9a4c3b-5a1d-4a55-9d0e-0b6f0f4f1b2c'/></virtualport></interface>`,
			libvirtnet.DomainNIC{Type: "bridge", Bridge: "ovs0", VLAN: vlan(vnet.VLANSet{Access: 20}), VirtualPort: "openvswitch", InterfaceID: "7e9a4c3b-5a1d-4a55-9d0e-0b6f0f4f1b2c"},
		},
		"macvtap": {
			`<interface type='direct'><source dev='eno1' mode='vepa'/><target dev='macvtap0'/></interface>`,
			libvirtnet.DomainNIC{Type: "direct", SourceDev: "eno1", SourceMode: "vepa", Device: "macvtap0"},
		},
		"untagged": {
			`<interface type='bridge'><vlan><tag id='0'/></vlan></interface>`,
			libvirtnet.DomainNIC{Type: "bridge", VLAN: vlan(vnet.VLANSet{})},
		},
		"empty vlan": {`<interface type='bridge'><vlan/></interface>`, libvirtnet.DomainNIC{Type: "bridge"}},
		"trunk of one": {
			`<interface type='bridge'><vlan trunk='yes'><tag id='20'/></vlan></interface>`,
			libvirtnet.DomainNIC{Type: "bridge", VLAN: vlan(vnet.VLANSet{Trunk: ranges("20")})},
		},
		"trunk not said": {
			`<interface type='bridge'><vlan><tag id='30'/><tag id='20'/><tag id='21'/></vlan></interface>`,
			libvirtnet.DomainNIC{Type: "bridge", VLAN: vlan(vnet.VLANSet{Trunk: ranges("20-21,30")})},
		},
		"native": {
			`<interface type='bridge'><vlan trunk='yes'><tag id='10' nativeMode='untagged'/><tag id='20'/></vlan></interface>`,
			libvirtnet.DomainNIC{Type: "bridge", VLAN: vlan(vnet.VLANSet{Native: 10, Trunk: ranges("10,20")})},
		},
		"native tagged": {
			`<interface type='bridge'><vlan trunk='yes'><tag id='10' nativeMode='tagged'/></vlan></interface>`,
			libvirtnet.DomainNIC{Type: "bridge", VLAN: vlan(vnet.VLANSet{Native: 10, NativeTagged: true, Trunk: ranges("10")})},
		},
		"reserved VLAN, which libvirt takes": {
			`<interface type='bridge'><vlan><tag id='4095'/></vlan></interface>`,
			libvirtnet.DomainNIC{Type: "bridge", VLAN: vlan(vnet.VLANSet{Access: 4095})},
		},
		"none of ours": {`<interface type='hostdev' managed='yes'/>`, libvirtnet.DomainNIC{Type: "hostdev"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := libvirtnet.ParseDomain([]byte(domain(tt.in)))
			if err != nil {
				t.Fatal(err)
			}
			want := libvirtnet.Domain{
				Name: "web1", UUID: "4dea22b3-1d52-d8f3-2516-782e98ab3fa0", NICs: []libvirtnet.DomainNIC{tt.want},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("domain (-want +got):\n%s", diff)
			}
		})
	}
}

// TestParseDomainFromLibvirt reads what a libvirtd 9.0.0 gave to its hook.
func TestParseDomainFromLibvirt(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "domains", "start.xml"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := libvirtnet.ParseDomain(data)
	if err != nil {
		t.Fatal(err)
	}
	mac := func(n byte) vnet.MAC { return vnet.MAC{0x52, 0x54, 0, 0, 0, n} }
	want := libvirtnet.Domain{Name: "web1", UUID: "4dea22b3-1d52-d8f3-2516-782e98ab3fa0", NICs: []libvirtnet.DomainNIC{
		{
			Index: 0, Type: "bridge", MAC: mac(1), Model: "virtio", Network: "red", Portgroup: "web", Bridge: "ovs0", Device: "vnet0",
			VirtualPort: "openvswitch", InterfaceID: "80ea1873-848d-4bee-87bb-91b6306d803e", VLAN: &vnet.VLANSet{Access: 20}, MTU: 1450, Alias: "net0",
		},
		{Index: 1, Type: "bridge", MAC: mac(2), Model: "e1000e", Network: "lan", Bridge: "br0", Device: "vnet1", Isolated: true, Alias: "net1"},
		{Index: 2, Type: "direct", MAC: mac(3), Model: "virtio", Network: "edge", SourceDev: "eno1", SourceMode: "private", Device: "macvtap0", Alias: "net2"},
		{Index: 3, Type: "network", MAC: mac(4), Model: "virtio", Network: "out", Bridge: "virbr0", Device: "vnet2", Alias: "net3"},
		{
			Index: 4, Type: "bridge", MAC: mac(5), Model: "virtio", Network: "red", Bridge: "ovs0", Device: "vnet3",
			VirtualPort: "openvswitch", InterfaceID: "ef5fc358-6bdc-41f3-a540-ede6b5ee1112", VLAN: &vnet.VLANSet{}, MTU: 1450, Alias: "net4",
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("domain (-want +got):\n%s", diff)
	}
	if nic, ok := got.NIC(vnet.MAC{0x52, 0x54, 0, 0, 0, 3}); !ok || nic.Index != 2 {
		t.Errorf("NIC by MAC = %+v, %v", nic, ok)
	}
	for cut := 0; cut < len(bytes.TrimSpace(data)); cut += 37 {
		if d, err := libvirtnet.ParseDomain(data[:cut]); err == nil {
			t.Fatalf("the first %d bytes were read as %+v", cut, d)
		}
	}
}

func TestParseHookNetwork(t *testing.T) {
	const net = "<network><name>red</name><uuid>6d4a44fc-8f50-44ad-b9ce-1e1b3fd25c20</uuid>" +
		"<metadata><other:network xmlns:other='https://other/'/><vnet:network xmlns:vnet='https://virt-vnet.org/xmlns/1' format='1'/></metadata>" +
		"<bridge name='br0'/></network>"
	const port = "<networkport><uuid>5d744f21-ba4a-4d6e-bdb2-30a35ff3207d</uuid>" +
		"<owner><name>web1</name><uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid></owner>" +
		"<group>web</group><mac address='52:54:00:00:00:01'/><plug type='bridge' bridge='br0'/></networkport>"
	bare := libvirtnet.HookNetwork{Name: "red", UUID: "6d4a44fc-8f50-44ad-b9ce-1e1b3fd25c20", Bridge: "br0", Owned: true}
	full := bare
	full.Port = &libvirtnet.HookPort{
		UUID: "5d744f21-ba4a-4d6e-bdb2-30a35ff3207d", MAC: vnet.MAC{0x52, 0x54, 0, 0, 0, 1}, Portgroup: "web", Bridge: "br0",
		Owner: vnet.GuestRef{Name: "web1", UUID: "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"},
	}
	tests := map[string]struct {
		in   string
		want libvirtnet.HookNetwork
		err  string
	}{
		"nothing":    {"", libvirtnet.HookNetwork{}, "hookData XML: empty input: want a <hookData> element as libvirt writes it"},
		"a domain":   {domain(""), libvirtnet.HookNetwork{}, "hookData XML: line 1: the document is a <domain>: want a <hookData>"},
		"no network": {"<hookData/>", libvirtnet.HookNetwork{}, "hookData XML: /hookData/network/name: missing: want the name of the network"},
		"network UUID": {
			"<hookData><network><name>a</name><uuid>a</uuid></network></hookData>",
			libvirtnet.HookNetwork{},
			`hookData XML: /hookData/network/uuid: "a" is no UUID: want one such as 4dea22b3-1d52-d8f3-2516-782e98ab3fa0`,
		},
		"port without UUID": {
			"<hookData>" + net + "<networkport/></hookData>",
			libvirtnet.HookNetwork{},
			`hookData XML: /hookData/networkport/uuid: "" is no UUID: want one such as 4dea22b3-1d52-d8f3-2516-782e98ab3fa0`,
		},
		"owner without UUID": {
			"<hookData>" + net + strings.Replace(port, "<uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid>", "", 1) + "</hookData>",
			libvirtnet.HookNetwork{},
			`hookData XML: /hookData/networkport/owner/uuid: "" is no UUID: want one such as 4dea22b3-1d52-d8f3-2516-782e98ab3fa0`,
		},
		"port without MAC": {
			"<hookData>" + net + strings.Replace(port, "52:54:00:00:00:01", "", 1) + "</hookData>",
			libvirtnet.HookNetwork{},
			`hookData XML: /hookData/networkport/mac/@address: "" is no MAC address: want one such as 52:54:00:12:34:56`,
		},
		"network alone": {"<hookData>" + net + "</hookData>", bare, ""},
		"port":          {"<hookData>" + net + port + "</hookData>", full, ""},
		"somebody else's": {
			"<hookData><network><name>a</name><metadata><vnet:network xmlns:vnet='https://other/'/></metadata></network></hookData>",
			libvirtnet.HookNetwork{Name: "a"},
			"",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := libvirtnet.ParseHookNetwork([]byte(tt.in))
			text := ""
			if err != nil {
				text = err.Error()
			}
			if diff := cmp.Diff(tt.err, text); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("network (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseDomain(f *testing.F) {
	f.Add([]byte(domain(`<interface type='network'><mac address='52:54:00:00:00:01'/><vlan trunk='yes'><tag id='10' nativeMode='tagged'/></vlan></interface>`)))
	real, err := os.ReadFile(filepath.Join("testdata", "domains", "start.xml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(real)
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := libvirtnet.ParseDomain(data)
		if err != nil {
			return
		}
		if d.Name == "" || strings.ContainsAny(d.UUID, "/.") {
			t.Errorf("accepted %+v", d)
		}
		for i, nic := range d.NICs {
			if nic.Index != i || nic.Type == "" {
				t.Errorf("NIC %d: %+v", i, nic)
			}
		}
	})
}

func FuzzParseHookNetwork(f *testing.F) {
	f.Add([]byte("<hookData><network><name>a</name></network><networkport><uuid/><owner/><mac address=''/></networkport></hookData>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := libvirtnet.ParseHookNetwork(data)
		if err == nil && (n.Name == "" || n.Port != nil && (n.Port.UUID == "" || n.Port.Owner.UUID == "")) {
			t.Errorf("accepted %+v", n)
		}
	})
}

// An agent counts while it listens, and nothing else that looks like one.
func TestParseDomainAgent(t *testing.T) {
	for xml, want := range map[string]bool{
		"<channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>":    true,
		"<channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0' state='disconnected'/></channel>": false,
		"<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>":                                           false,
		"<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0' state='connected'/></channel>":                         false,
		"<interface type='user'><target name='org.qemu.guest_agent.0' state='connected'/></interface>":                                   false,
	} {
		d, err := libvirtnet.ParseDomain([]byte(domain(xml)))
		if err != nil || d.Agent != want {
			t.Errorf("%s: agent %v, %v, want %v", xml, d.Agent, err, want)
		}
	}
}
