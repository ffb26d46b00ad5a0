// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"crypto/sha256"
	_ "embed"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/vishvananda/netlink"
)

// Guest is a virtual machine of the lab: one CPU, 128 MiB, Debian's kernel,
// busybox. It answers ARP, ND and ping by itself, and runs commands (see
// [Lab.Exec]).
type Guest struct {
	Name string

	// UUID of the domain. Empty means one that is derived from the name.
	UUID string

	// Metadata goes into the domain's <metadata>, as it is.
	Metadata string

	// Agent gives it a QEMU guest agent, which needs the program qemu-ga on this
	// machine. Its /agent.sh starts the agent anew, with the options it is given.
	Agent bool

	NICs []NIC
}

// NIC is one network card of a guest: what libvirt plugs in where, and what
// the guest configures on it. The zero value of every field of the first half
// leaves it out; set Network, Bridge or Uplink, or XML.
type NIC struct {
	// XML is a whole <interface> element with a <mac>. It stands in for the
	// fields down to Model.
	XML string

	Network   string // a libvirt network
	Portgroup string // of Network
	Bridge    string // an OVS or Linux bridge
	Uplink    string // a link that a macvtap in bridge mode is made on
	VLAN      uint16 // tag in the XML; 0 means none

	// InterfaceID is a UUID that libvirt gives to the port of an OVS bridge, or of
	// a network on one, as iface-id: it is how OVN finds the logical port of that
	// name.
	InterfaceID string

	Model string // virtio (if empty), e1000, e1000e or rtl8139

	// MAC nil means the one in XML, or one derived from the guest's name and
	// the card's position.
	MAC net.HardwareAddr

	Addresses []netip.Prefix // what the guest sets, IPv4 and IPv6
	Gateway   netip.Addr     // its default route; the zero value means none
	DHCP      bool           // it asks for an IPv4 address, ten seconds at most
	MTU       int            // 0 means what the device has
	VLANs     []SubInterface // tagged interfaces inside the guest
}

// SubInterface is a tagged interface inside the guest, on top of a NIC.
type SubInterface struct {
	ID      uint16
	Address netip.Prefix // the zero value means none
}

// MACFor returns the address that [Lab.DefineGuest] gives to a guest's n-th
// card, counted from 0, when it has none.
func MACFor(guest string, n int) net.HardwareAddr {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", guest, n))
	return net.HardwareAddr{0x52, 0x54, 0x00, sum[0], sum[1], sum[2]}
}

// UUIDFor returns the UUID that belongs to a text: the same for the same text.
// Guests and hosts have that of their name.
func UUIDFor(text string) string {
	sum := sha256.Sum256([]byte(text))
	sum[6], sum[8] = sum[6]&0x0f|0x50, sum[8]&0x3f|0x80 // RFC 9562, section 5.8 in the shape of version 5
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// complete fills in what was left to the lab.
func (g *Guest) complete() error {
	if g.Name == "" {
		return errors.New("lab: guest without a name")
	}
	if g.UUID == "" {
		g.UUID = UUIDFor(g.Name)
	}
	for i := range g.NICs {
		if err := g.NICs[i].complete(g.Name, i); err != nil {
			return fmt.Errorf("lab: guest %s: NIC %d: %w", g.Name, i, err)
		}
	}
	return nil
}

func (n *NIC) complete(guest string, i int) error {
	if n.Model == "" {
		n.Model = "virtio"
	}
	if n.XML == "" && n.Network == "" && n.Bridge == "" && n.Uplink == "" {
		return errors.New("set one of XML, Network, Bridge, Uplink")
	}
	if n.XML == "" {
		if n.MAC == nil {
			n.MAC = MACFor(guest, i)
		}
		return nil
	}
	var raw struct {
		MAC struct {
			Address string `xml:"address,attr"`
		} `xml:"mac"`
		Model struct {
			Type string `xml:"type,attr"`
		} `xml:"model"`
	}
	if err := xml.Unmarshal([]byte(n.XML), &raw); err != nil {
		return fmt.Errorf("read its XML: %w", err)
	}
	mac, err := net.ParseMAC(raw.MAC.Address)
	if err != nil {
		return fmt.Errorf("read its XML: <mac>: %w", err)
	}
	n.MAC, n.Model = mac, raw.Model.Type
	return nil
}

// Type is the interface's type in libvirt's words.
func (n NIC) Type() string {
	switch {
	case n.Network != "":
		return "network"
	case n.Uplink != "":
		return "direct"
	default:
		return "bridge"
	}
}

// OVS reports whether the NIC has a port of Open vSwitch, as far as its XML must
// say so: by its id, or as Bridge is one of Open vSwitch's.
func (n NIC) OVS() bool {
	if n.InterfaceID != "" {
		return true
	}
	if n.Bridge == "" || n.Network != "" || n.Uplink != "" {
		return false
	}
	link, err := netlink.LinkByName(n.Bridge)
	return err != nil || link.Type() != "bridge"
}

// kernelOptions leave out what a guest does not need: a fifth of what its kernel
// has to do, which shows where it is emulated.
const kernelOptions = "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable rodata=off noreplace-smp" +
	" cryptomgr.notests lsm=capability initcall_blacklist=ima_init,init_evm,load_system_certificate_list"

// cmdline is the guest's set-up, as files/init.sh reads it.
func (g *Guest) cmdline(modules []string) string {
	words := []string{
		kernelOptions, "vnet.name=" + g.Name, "vnet.modules=" + strings.Join(modules, ","),
	}
	var routes []string // after all addresses
	for _, n := range g.NICs {
		if n.MTU != 0 {
			words = append(words, fmt.Sprintf("vnet.mtu=%s,%d", n.MAC, n.MTU))
		}
		for _, p := range n.Addresses {
			words = append(words, fmt.Sprintf("vnet.addr=%s,%s", n.MAC, p))
		}
		for _, v := range n.VLANs {
			address := ""
			if v.Address.IsValid() {
				address = v.Address.String()
			}
			words = append(words, fmt.Sprintf("vnet.vlan=%s,%d,%s", n.MAC, v.ID, address))
		}
		if n.DHCP {
			words = append(words, "vnet.dhcp="+n.MAC.String())
		}
		if n.Gateway.IsValid() {
			routes = append(routes, "vnet.route="+n.Gateway.String())
		}
	}
	return strings.Join(append(words, routes...), " ")
}

// drivers are the kernel modules that the guest loads, without those that
// they need in turn.
func (g *Guest) drivers() []string {
	names := []string{"virtio_pci", "virtio_net"} // also for a card that is plugged in later
	if g.Agent {
		names = append(names, "virtio_console")
	}
	for _, n := range g.NICs {
		switch n.Model {
		case "e1000", "e1000e":
			names = append(names, n.Model)
		case "rtl8139":
			names = append(names, "8139cp")
		}
		if len(n.VLANs) > 0 {
			names = append(names, "8021q")
		}
	}
	slices.Sort(names[2:])
	return slices.Compact(names)
}

func consolePath(guest string) string { return filepath.Join(guestDir, guest+".console") }
func socketPath(guest string) string  { return filepath.Join(guestDir, guest+".sock") }

//go:embed files/domain.xml.tmpl
var domainTemplate string

//go:embed files/interface.xml.tmpl
var interfaceTemplate string

// domainXML is libvirt's description of the guest, which must be complete.
func (g *Guest) domainXML(k kernel) (string, error) {
	initrd := initrdPath
	if g.Agent {
		initrd = agentInitrdPath
	}
	return expand(domainTemplate, struct {
		*Guest
		Type, Kernel, Initrd, Cmdline, Console, Socket string
	}{g, virtType(), k.boot, initrd, g.cmdline(k.load(g.drivers())), consolePath(g.Name), socketPath(g.Name)})
}

// virtType is how libvirt runs guests: "kvm", or "qemu", which emulates.
func virtType() string {
	if os.Getenv(KVMEnv) == "1" {
		return "kvm"
	}
	return "qemu"
}

// InterfaceXML returns the <interface> element that the lab would define for
// the NIC, for use with attach-device. MAC must be set, unless XML is.
func (n NIC) InterfaceXML() (string, error) {
	if err := n.complete("", 0); err != nil {
		return "", fmt.Errorf("lab: NIC: %w", err)
	}
	return expand(interfaceTemplate, n)
}

func expand(text string, data any) (string, error) {
	t, err := template.New("xml").Funcs(template.FuncMap{
		"xml":       escape,
		"interface": NIC.InterfaceXML,
	}).Parse(text)
	if err != nil {
		return "", fmt.Errorf("lab: template: %w", err)
	}
	var out strings.Builder
	if err := t.Execute(&out, data); err != nil {
		return "", fmt.Errorf("lab: template: %w", err)
	}
	return out.String(), nil
}

func escape(text string) (string, error) {
	var out strings.Builder
	err := xml.EscapeText(&out, []byte(text))
	return out.String(), err
}
