// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package bundle_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/internal/bundle"
)

// canary is the secret that must not get into a bundle.
const canary = "canary-hunter2"

func TestTextKeepsNoSecret(t *testing.T) {
	for _, text := range []string{
		"password: " + canary,
		"# the root password is " + canary,
		"passwd=" + canary + " other=1",
		"PASSPHRASE " + canary,
		`{"secret": "` + canary + `"}`,
		`msg="login failed" token="` + canary + `"`,
		`options: {psk="` + canary + `", remote_ip="10.0.0.1"}`,
		"snmp_community = two words " + canary,
		"api-key: " + canary,
		"aws_secret_access_key = " + canary,
		"url: https://admin:" + canary + "@10.0.0.1/api",
		"Authorization: Bearer " + canary,
		"Authorization: Basic " + canary,
		"-----BEGIN OPENSSH PRIVATE KEY-----\n" + canary + "\n" + canary + "\n-----END OPENSSH PRIVATE KEY-----",
		"-----BEGIN PRIVATE KEY-----\n" + canary, // cut off
	} {
		clean, removed := bundle.Text("kept before\n" + text + "\nkept behind\n")
		if strings.Contains(clean, canary) || removed == 0 {
			t.Errorf("%q became %q, with %d places removed", text, clean, removed)
		}
		if !strings.HasPrefix(clean, "kept before\n") {
			t.Errorf("%q became %q: too much is gone", text, clean)
		}
	}
}

func TestTextKeepsTheRest(t *testing.T) {
	const text = "networks:\n  red: {switch: ovs0, vlan: 20, subnet: 10.0.20.0/24}\n" +
		"guest secret-1, NIC vnet0: learned on vnet0\nhttps://virt-vnet.org/xmlns/1\nuser@10.0.0.1:/srv\nsshkeys/x.pub\n"
	clean, removed := bundle.Text(text)
	if diff := cmp.Diff(text, clean); diff != "" || removed != 0 {
		t.Errorf("%d places removed (-want +got):\n%s", removed, diff)
	}
}

func TestJSONStaysJSON(t *testing.T) {
	in := `{"b": 10000000000000000001, "a": [{"comment": "password ` + canary + `", "token": "` + canary + `"}], "tokens": 5, "psk": "` + canary + `",
		"url": "http://u:` + canary + `@h/", "text": "first\npassword is ` + canary + `\nlast", "html": "<a&b>"}`
	clean, removed, err := bundle.JSON([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
  "a": [
    {
      "comment": "password [removed]",
      "token": "[removed]"
    }
  ],
  "b": 10000000000000000001,
  "html": "<a&b>",
  "psk": "[removed]",
  "text": "first\npassword is [removed]\nlast",
  "tokens": 5,
  "url": "http://u:[removed]@h/"
}
`
	if diff := cmp.Diff(want, string(clean)); diff != "" || removed != 5 {
		t.Errorf("%d places removed, want 5 (-want +got):\n%s", removed, diff)
	}
	if !json.Valid(clean) {
		t.Error("it is no JSON any more")
	}
	if _, _, err := bundle.JSON([]byte("password: x")); err == nil {
		t.Error("taken for JSON")
	}
}

// The XML of a guest with a secret in every place that has room for one.
const domainXML = `<!-- ` + canary + ` -->
<domain type='qemu' id='3' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web1</name>
  <uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid>
  <title>` + canary + `</title>
  <description>root / ` + canary + `</description>
  <metadata>
    <vnet:network xmlns:vnet='https://virt-vnet.org/xmlns/1' format='1'></vnet:network>
    <other:thing xmlns:other='https://example.org/'><other:login>` + canary + `</other:login></other:thing>
  </metadata>
  <sysinfo type='smbios'><system><entry name='serial'>ds=nocloud;p=` + canary + `</entry></system></sysinfo>
  <sysinfo type='fwcfg'><entry name='opt/x'>` + canary + `</entry></sysinfo>
  <os><type arch='x86_64' machine='q35'>hvm</type><cmdline>x=` + canary + `</cmdline></os>
  <launchSecurity type='sev'><session>` + canary + `</session></launchSecurity>
  <devices>
    <!-- ` + canary + ` -->
    <emulator>/usr/bin/qemu</emulator>
    <disk type='network'><auth username='` + canary + `'><secret type='ceph' uuid='` + canary + `'/></auth>
      <source protocol='https' name='d' query='` + canary + `'><cookies><cookie name='a'>` + canary + `</cookie></cookies></source></disk>
    <interface type='bridge'>
      <mac address='52:54:00:00:20:11'/>
      <source network='red' bridge='ovs0'/>
      <target dev='vnet0'/>
    </interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>
    <graphics type='vnc' passwd='` + canary + `'/>
    <hostdev><source protocol='iscsi'><auth username='` + canary + `'/></source></hostdev>
  </devices>
  <qemu:commandline><qemu:arg value='` + canary + `'/><qemu:env name='X' value='` + canary + `'/></qemu:commandline>
</domain>`

const networkXML = `<network connections='1' xmlns:dnsmasq='http://libvirt.org/schemas/network/dnsmasq/1.0'>
  <name>red</name>
  <metadata><x:y xmlns:x='z' a='` + canary + `'/></metadata>
  <forward mode='bridge'/>
  <bridge name='ovs0'/>
  <dns><txt name='a' value='` + canary + `'/><host ip='10.0.0.1'><hostname>h</hostname></host></dns>
  <portgroup name='web'><vlan><tag id='20'/></vlan></portgroup>
  <dnsmasq:options><dnsmasq:option value='` + canary + `'/></dnsmasq:options>
</network>`

func TestXMLKeepsTheNetwork(t *testing.T) {
	for _, tt := range []struct {
		in   string
		kept []string
	}{
		{domainXML, []string{
			"<name>web1</name>", "<vnet:network xmlns:vnet='https://virt-vnet.org/xmlns/1' format='1'></vnet:network>",
			"<type arch='x86_64' machine='q35'>hvm</type>", "<source network='red' bridge='ovs0'></source>", "<target dev='vnet0'></target>",
			"state='connected'", "<emulator>/usr/bin/qemu</emulator>",
		}},
		{networkXML, []string{"<name>red</name>", "<forward mode='bridge'></forward>", "<tag id='20'></tag>", "<hostname>h</hostname>"}},
	} {
		clean, removed, err := bundle.XML([]byte(tt.in))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(clean, canary) || removed == 0 {
			t.Errorf("the secret is still in it, %d elements removed:\n%s", removed, clean)
		}
		for _, want := range tt.kept {
			if !strings.Contains(clean, want) {
				t.Errorf("%s is gone:\n%s", want, clean)
			}
		}
	}
	for _, bad := range []string{"", "<domain>", "</domain>", "no XML <", "<domain><devices><disk>"} {
		if clean, _, err := bundle.XML([]byte(bad)); err == nil {
			t.Errorf("%q was taken: %q", bad, clean)
		}
	}
}
