// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/vnet"
)

const ourMark = `<vnet:network xmlns:vnet="https://virt-vnet.org/xmlns/1" format="1"/>`

func network(inner string) string { return "<network><name>red</name>" + inner + "</network>" }

func TestNetworkDiff(t *testing.T) {
	marked := "<metadata>" + ourMark + "</metadata>"
	tests := map[string]struct {
		have, want string
		diff       []string
	}{
		"no mark": {
			"<bridge name='br0'/>", marked + "<bridge name='br0'/>",
			[]string{"+ metadata", `+ metadata/https://virt-vnet.org/xmlns/1 network format="1"`},
		},
		"another VLAN": {
			"<vlan><tag id='20'/></vlan>", "<vlan><tag id='30'/></vlan>",
			[]string{`- vlan/tag[20]`, `+ vlan/tag[30]`},
		},
		"a portgroup's VLAN": {
			"<portgroup name='a'><vlan><tag id='20'/></vlan></portgroup><portgroup name='b'/>",
			"<portgroup name='a'/><portgroup name='b'><vlan><tag id='20'/></vlan></portgroup>",
			[]string{
				"- portgroup[a]/vlan", "- portgroup[a]/vlan/tag[20]",
				"+ portgroup[b]/vlan", "+ portgroup[b]/vlan/tag[20]",
			},
		},
		"edited by hand": {
			"<portgroup name='a'><bandwidth><inbound average='1'/></bandwidth></portgroup><dns enable='no'/>", "<portgroup name='a'/>",
			[]string{`- dns enable="no"`, `- portgroup[a]/bandwidth`, `- portgroup[a]/bandwidth/inbound average="1"`},
		},
		"spanning tree off": {
			"<bridge name='virbr0' stp='off' delay='0'/><mac address='52:54:00:00:00:01'/>", "",
			[]string{`- bridge stp="off"`},
		},
		"NAT ports": {
			"<forward mode='nat'><nat><port start='2000' end='3000'/></nat></forward>", "<forward mode='nat'/>",
			[]string{"- forward/nat", `- forward/nat/port end="3000" start="2000"`},
		},
		"another device": {
			"<forward dev='eno1' mode='bridge'><interface dev='eno1'/></forward>", "<forward mode='bridge'><interface dev='eno2'/></forward>",
			[]string{`- forward/interface[eno1]`, `+ forward/interface[eno2]`},
		},
		"what libvirt adds to NAT": {
			marked + "<uuid>6d4a44fc-8f50-44ad-b9ce-1e1b3fd25c20</uuid><forward mode='nat'><nat><port start='1024' end='65535'/></nat></forward>" +
				"<bridge name='virbr0' stp='on' delay='0'/><mac address='52:54:00:00:00:01'/>",
			"<forward mode='nat'/>" + marked, nil,
		},
		"what libvirt adds to macvtap": {
			"<forward dev='eno1' mode='bridge'><interface dev='eno1' connections='1'/></forward>",
			"<forward mode='bridge'><interface dev='eno1'/></forward>", nil,
		},
		"title and metadata of others": {
			"<title>x</title><description>y</description><metadata><o:o xmlns:o='https://other/'><o:deep/></o:o></metadata>", "", nil,
		},
		"another order": {
			"<vlan trunk='yes'><tag id='2'/><tag id='1'/></vlan><bridge name='b'/>",
			"<bridge name='b'/><vlan trunk='yes'><tag id='1'/><tag id='2'/></vlan>", nil,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			have, want := strings.Replace(network(tt.have), "<network>", "<network connections='1'>", 1), network(tt.want)
			got, err := libvirtnet.NetworkDiff(have, want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.diff, got); diff != "" {
				t.Errorf("difference (-want +got):\n%s", diff)
			}
			if got := libvirtnet.SameNetwork(have, want); got != (tt.diff == nil) {
				t.Errorf("same = %v", got)
			}
		})
	}
}

func TestNetworkDiffRefuses(t *testing.T) {
	deep := network(strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100))
	for _, bad := range []string{"", "<network>", "<domain/>", deep} {
		if lines, err := libvirtnet.NetworkDiff(bad, network("")); err == nil {
			t.Errorf("%.40q was compared: %q", bad, lines)
		}
		if lines, err := libvirtnet.NetworkDiff(network(""), bad); err == nil {
			t.Errorf("%.40q was compared: %q", bad, lines)
		}
		if libvirtnet.SameNetwork(bad, bad) {
			t.Errorf("%.40q is the same", bad)
		}
		if text, err := libvirtnet.KeepIdentity(bad, network("")); err == nil {
			t.Errorf("%.40q was kept: %s", bad, text)
		}
	}
}

func TestKeepIdentity(t *testing.T) {
	const identity = "<uuid>6d4a44fc-8f50-44ad-b9ce-1e1b3fd25c20</uuid><title>a &amp; b</title>"
	const others = `<o:o xmlns:o="https://other/"><o:deep a="1">x</o:deep></o:o>`
	tests := map[string]struct{ have, want, kept string }{
		"bridge that libvirt made": {
			identity + "<metadata>" + ourMark + others + "</metadata><forward mode='nat'/><bridge name='virbr7' stp='on' delay='0'/><mac address='52:54:00:00:00:01'/>",
			"<metadata>" + ourMark + "</metadata><forward mode='nat'/>",
			"<metadata>" + ourMark + others + "</metadata><forward mode='nat'/>" + identity + `<mac address='52:54:00:00:00:01'/><bridge name="virbr7"/>`,
		},
		"to another switch": {
			identity + "<forward mode='bridge'/><bridge name='br0'/>", "<forward mode='bridge'/><bridge name='br1'/>",
			"<forward mode='bridge'/><bridge name='br1'/>" + identity,
		},
		"from a bridge to a macvtap": {
			identity + "<forward mode='bridge'/><bridge name='br0'/>", "<forward mode='vepa'><interface dev='eno1'/></forward>",
			"<forward mode='vepa'><interface dev='eno1'/></forward>" + identity,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := libvirtnet.KeepIdentity(network(tt.have), network(tt.want))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(network(tt.kept), got); diff != "" {
				t.Errorf("definition (-want +got):\n%s", diff)
			}
			if diff, err := libvirtnet.NetworkDiff(got, network(tt.want)); err != nil || diff != nil {
				t.Errorf("what was kept is a difference: %q, %v", diff, err)
			}
		})
	}
}

func TestParseNetwork(t *testing.T) {
	for _, bad := range []string{
		"", "<network><name>red", "<network/>",
		network(`<metadata><v:network xmlns:v="https://virt-vnet.org/xmlns/1" format="2"/></metadata>`),
		network(`<metadata><v:network xmlns:v="https://virt-vnet.org/xmlns/1"/></metadata>`),
		strings.Replace(network(""), "<network>", "<network connections='-1'>", 1),
	} {
		if n, err := libvirtnet.ParseNetwork(bad); err == nil {
			t.Errorf("%q: read as %+v", bad, n)
		}
	}
	for text, want := range map[string]bool{
		network(""): false,
		network(`<metadata><v:network xmlns:v="https://other/" format="1"/></metadata>`):            false,
		network(`<metadata><a:b xmlns:a="https://other/">` + ourMark + `</a:b></metadata>`):         false,
		network(`<metadata><v:network xmlns:v="https://other/"/>` + ourMark + `</metadata>`):        true,
		network(`<metadata><network xmlns="https://virt-vnet.org/xmlns/1" format="1"/></metadata>`): true,
	} {
		if n, err := libvirtnet.ParseNetwork(text); err != nil || n.Owned != want {
			t.Errorf("%s: owned = %v, %v, want %v", text, n.Owned, err, want)
		}
	}
}

func TestParseNetworkFields(t *testing.T) {
	got, err := libvirtnet.ParseNetwork("<network connections='2'><name>red</name><uuid>6d4a44fc-8f50-44ad-b9ce-1e1b3fd25c20</uuid><bridge name='br0'/></network>")
	want := libvirtnet.DefinedNetwork{Name: "red", UUID: "6d4a44fc-8f50-44ad-b9ce-1e1b3fd25c20", Bridge: "br0", Guests: 2}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("network (-want +got):\n%s%v", diff, err)
	}
}

func TestInterfaceElement(t *testing.T) {
	const first = "<interface type='user'><mac address='52:54:00:00:00:01'/></interface>"
	const second = "<interface type='bridge'>\n<source bridge='br0'/><mac address='52:54:00:00:00:02'/></interface>"
	for mac, want := range map[vnet.MAC]string{
		{0x52, 0x54, 0, 0, 0, 1}: first,
		{0x52, 0x54, 0, 0, 0, 2}: second,
		{0x52, 0x54, 0, 0, 0, 3}: "",
	} {
		got, err := libvirtnet.InterfaceElement([]byte(domain(first+second)), mac)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", mac, got, err, want)
		}
	}
	for _, bad := range []string{"", "<domain><devices>", "<network/>"} {
		if got, err := libvirtnet.InterfaceElement([]byte(bad), vnet.MAC{}); err == nil {
			t.Errorf("%q: found %q", bad, got)
		}
	}
}

func FuzzNetworkDiff(f *testing.F) {
	f.Add(network("<metadata>"+ourMark+"</metadata><forward mode='nat'/>"), network("<bridge name='b'/>"))
	f.Fuzz(func(t *testing.T, have, want string) {
		if _, err := libvirtnet.NetworkDiff(have, want); err != nil {
			return
		}
		kept, err := libvirtnet.KeepIdentity(have, want)
		if err == nil && !strings.Contains(kept, "<network") {
			t.Errorf("kept %q", kept)
		}
		if _, err := libvirtnet.ParseNetwork(have); err == nil && !libvirtnet.SameNetwork(have, have) {
			t.Errorf("%q differs from itself", have)
		}
	})
}
