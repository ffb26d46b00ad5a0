// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package config

import (
	"encoding"
	"fmt"
	"net/netip"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// The types of this file mirror the YAML. Field order is the order in which
// Encode writes them; the jsonschema tags are the schema's descriptions.

// rawPrefixes is addresses and prefixes.
type rawPrefixes []scalar[prefix]

type rawSpec struct {
	Version     int                    `yaml:"version,omitempty" json:"version,omitempty" jsonschema:"format of this file: 1"`
	Hosts       map[string]rawHost     `yaml:"hosts,omitempty" json:"hosts,omitempty" jsonschema:"machines with guests, by name; apply works on all of them, and without any on the one that it connects to"`
	Switches    map[string]rawSwitch   `yaml:"switches,omitempty" json:"switches,omitempty" jsonschema:"bridges of the host that guests plug into, by name"`
	Networks    map[string]rawNetwork  `yaml:"networks,omitempty" json:"networks,omitempty" jsonschema:"networks by name; each is one libvirt network"`
	Routers     map[string]rawRouter   `yaml:"routers,omitempty" json:"routers,omitempty" jsonschema:"logical routers between networks on an OVN switch, by name"`
	AddressSets map[string]rawPrefixes `yaml:"address_sets,omitempty" json:"address_sets,omitempty" jsonschema:"addresses and prefixes that acls name as set NAME, by name"`
	Guests      map[string]rawGuest    `yaml:"guests,omitempty" json:"guests,omitempty" jsonschema:"what is expected of guests, by libvirt domain name; guests not listed are wired all the same"`
	Expect      []rawExpectation       `yaml:"expect,omitempty" json:"expect,omitempty" jsonschema:"what verify is to find besides what follows from the networks; each item has from, and exactly one of reach, deny, tcp, dns, or to with latency or loss"`
	Waivers     []rawWaiver            `yaml:"waivers,omitempty" json:"waivers,omitempty" jsonschema:"problems that are known: verify still reports them, and does not fail because of them; each item has at least one of code, guest and network"`
}

type rawHost struct {
	URI     string `yaml:"uri,omitempty" json:"uri" jsonschema:"where its libvirt is reached, such as qemu+ssh://kvm1/system"`
	Chassis string `yaml:"chassis,omitempty" json:"chassis,omitempty" jsonschema:"what OVN calls it: external_ids:system-id of its Open vSwitch; default its name"`
}

type rawSwitch struct {
	Driver       scalar[vnet.Driver]    `yaml:"driver,omitempty" json:"driver" jsonschema:"linux for a Linux bridge, ovs for Open vSwitch, ovn for the integration bridge of OVN"`
	Uplink       string                 `yaml:"uplink,omitempty" json:"uplink,omitempty" jsonschema:"host device on this switch that leads to the fabric"`
	Database     scalar[vnet.Endpoints] `yaml:"database,omitempty" json:"database,omitempty" jsonschema:"servers of the database that configures the switch, with commas between those of a cluster: unix:PATH, tcp:IP:PORT or ssl:IP:PORT; default that of Open vSwitch on the host, or the northbound database of OVN on it; with OVN and hosts that are other machines it is needed"`
	TLS          *rawTLS                `yaml:"tls,omitempty" json:"tls,omitempty" jsonschema:"files for database servers at ssl"`
	Encap        scalar[vnet.Encap]     `yaml:"encap,omitempty" json:"encap,omitempty" jsonschema:"what tunnels between hosts are, as the hosts' ovn-encap-type (OVN, default geneve)"`
	UnderlayMTU  scalar[int]            `yaml:"underlay_mtu,omitempty" json:"underlay_mtu,omitempty" jsonschema:"MTU of the network between the hosts, from which the guests' follows (OVN, default 1500)"`
	UnderlayIPv6 scalar[bool]           `yaml:"underlay_ipv6,omitempty" json:"underlay_ipv6,omitempty" jsonschema:"tunnels are between IPv6 addresses (OVN)"`
	Bridge       *rawBridge             `yaml:"bridge,omitempty" json:"bridge,omitempty" jsonschema:"settings of the bridge itself; with this key, even without settings, virt-vnet looks after the bridge and, of a Linux bridge, the VLANs of its uplink; without it they are only used"`
	Bond         *rawBond               `yaml:"bond,omitempty" json:"bond,omitempty" jsonschema:"make the uplink, as a bond of several devices of the host (Open vSwitch)"`
	TreePorts    map[string]rawTreePort `yaml:"stp_ports,omitempty" json:"stp_ports,omitempty" jsonschema:"how devices on the bridge take part in its spanning tree, stp or rstp, by name (Open vSwitch)"`
	Mirrors      map[string]rawMirror   `yaml:"mirrors,omitempty" json:"mirrors,omitempty" jsonschema:"copies of frames that are sent somewhere else, by name (Open vSwitch)"`
	SFlow        *rawSFlow              `yaml:"sflow,omitempty" json:"sflow,omitempty" jsonschema:"tell collectors of frames and counters by sFlow (Open vSwitch)"`
	NetFlow      *rawNetFlow            `yaml:"netflow,omitempty" json:"netflow,omitempty" jsonschema:"tell collectors of flows by NetFlow (Open vSwitch)"`
	IPFIX        *rawIPFIX              `yaml:"ipfix,omitempty" json:"ipfix,omitempty" jsonschema:"tell collectors of frames by IPFIX (Open vSwitch)"`
}

type rawTLS struct {
	Key         string `yaml:"key,omitempty" json:"key" jsonschema:"private key, a PEM file that only its owner may read"`
	Certificate string `yaml:"certificate,omitempty" json:"certificate" jsonschema:"certificate of the key, a PEM file"`
	CA          string `yaml:"ca,omitempty" json:"ca" jsonschema:"certificate that the server's must be signed with, a PEM file"`
}

type rawBridge struct {
	VLANFiltering    scalar[bool]        `yaml:"vlan_filtering,omitempty" json:"vlan_filtering,omitempty" jsonschema:"tell VLANs apart (Linux bridge)"`
	DefaultPVID      scalar[defaultPVID] `yaml:"default_pvid,omitempty" json:"default_pvid,omitempty" jsonschema:"VLAN that new ports get, 0 for none; ports that are there, and the host, keep theirs (Linux bridge)"`
	STP              scalar[bool]        `yaml:"stp,omitempty" json:"stp,omitempty" jsonschema:"spanning tree"`
	STPPriority      scalar[int]         `yaml:"stp_priority,omitempty" json:"stp_priority,omitempty" jsonschema:"priority of the bridge in the spanning tree, 0 to 65535"`
	ForwardDelay     scalar[int]         `yaml:"stp_forward_delay,omitempty" json:"stp_forward_delay,omitempty" jsonschema:"seconds that a port listens, and then learns, before it forwards: 2 to 30, with Open vSwitch 4 to 30"`
	HelloTime        scalar[int]         `yaml:"stp_hello_time,omitempty" json:"stp_hello_time,omitempty" jsonschema:"seconds between BPDUs, 1 to 10; default 2 (Open vSwitch)"`
	MaxAge           scalar[int]         `yaml:"stp_max_age,omitempty" json:"stp_max_age,omitempty" jsonschema:"seconds that a BPDU counts, 6 to 40; default 20 (Open vSwitch)"`
	RSTP             scalar[bool]        `yaml:"rstp,omitempty" json:"rstp,omitempty" jsonschema:"rapid spanning tree, in place of stp (Open vSwitch)"`
	RSTPPriority     scalar[int]         `yaml:"rstp_priority,omitempty" json:"rstp_priority,omitempty" jsonschema:"priority of the bridge in the rapid spanning tree, 0 to 61440 in steps of 4096; default 32768 (Open vSwitch)"`
	RSTPMaxAge       scalar[int]         `yaml:"rstp_max_age,omitempty" json:"rstp_max_age,omitempty" jsonschema:"as stp_max_age, for rstp (Open vSwitch)"`
	RSTPForwardDelay scalar[int]         `yaml:"rstp_forward_delay,omitempty" json:"rstp_forward_delay,omitempty" jsonschema:"as stp_forward_delay, for rstp: 4 to 30; default 15 (Open vSwitch)"`
	ForwardBPDU      scalar[bool]        `yaml:"forward_bpdu,omitempty" json:"forward_bpdu,omitempty" jsonschema:"pass on what goes to reserved multicast addresses, such as BPDUs, if neither stp nor rstp is on (Open vSwitch)"`
}

// defaultPVID is a VLAN, or zero for none.
type defaultPVID vnet.VLANID

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *defaultPVID) UnmarshalText(text []byte) error {
	if strings.TrimSpace(string(text)) == "0" {
		*d = 0
		return nil
	}
	id, err := vnet.ParseVLANID(string(text))
	if err != nil {
		return fmt.Errorf("%q is no default PVID: want 0 for none, or 1 to 4094", text)
	}
	*d = defaultPVID(id)
	return nil
}

type rawPolicy struct {
	VLAN           scalar[vnet.VLANID]     `yaml:"vlan,omitempty" json:"vlan,omitempty" jsonschema:"access VLAN, 1 to 4094"`
	Trunk          scalar[vnet.VLANRanges] `yaml:"trunk,omitempty" json:"trunk,omitempty" jsonschema:"tagged VLANs of a trunk, such as 10,20-29, or all"`
	Native         scalar[vnet.VLANID]     `yaml:"native,omitempty" json:"native,omitempty" jsonschema:"VLAN of a trunk's untagged frames"`
	NativeTagged   scalar[bool]            `yaml:"native_tagged,omitempty" json:"native_tagged,omitempty" jsonschema:"send frames of the native VLAN with a tag, too"`
	Service        scalar[vnet.VLANID]     `yaml:"service_vlan,omitempty" json:"service_vlan,omitempty" jsonschema:"VLAN of a tunnel for the guest's own VLANs, in a service tag (802.1ad, QinQ; Open vSwitch)"`
	Customer       scalar[vnet.VLANRanges] `yaml:"customer_vlans,omitempty" json:"customer_vlans,omitempty" jsonschema:"VLANs of the guest's own that its tunnel takes, such as 10,20-29; default all, and untagged frames"`
	Isolated       scalar[bool]            `yaml:"isolated,omitempty" json:"isolated,omitempty" jsonschema:"keep the port from other isolated ports of the switch"`
	Learning       scalar[bool]            `yaml:"learning,omitempty" json:"learning,omitempty" jsonschema:"learn MAC addresses on the port (Linux bridge)"`
	Flood          scalar[bool]            `yaml:"flood,omitempty" json:"flood,omitempty" jsonschema:"send frames to unknown MAC addresses out of the port (Linux bridge)"`
	MulticastFlood scalar[bool]            `yaml:"mcast_flood,omitempty" json:"mcast_flood,omitempty" jsonschema:"send multicast frames that nobody asked for out of the port (Linux bridge)"`
	BroadcastFlood scalar[bool]            `yaml:"bcast_flood,omitempty" json:"bcast_flood,omitempty" jsonschema:"send broadcast frames out of the port (Linux bridge)"`
	FastLeave      scalar[bool]            `yaml:"fast_leave,omitempty" json:"fast_leave,omitempty" jsonschema:"stop a multicast group at once when the guest leaves it (Linux bridge)"`
	NeighSuppress  scalar[bool]            `yaml:"neigh_suppress,omitempty" json:"neigh_suppress,omitempty" jsonschema:"answer ARP and ND for the guest in its place, from the bridge's neighbour table (Linux bridge)"`
	BPDUGuard      scalar[bool]            `yaml:"bpdu_guard,omitempty" json:"bpdu_guard,omitempty" jsonschema:"take the port down when the guest sends spanning tree frames (Linux bridge, default true)"`
	RootBlock      scalar[bool]            `yaml:"root_block,omitempty" json:"root_block,omitempty" jsonschema:"keep the guest from becoming the root of the spanning tree (Linux bridge)"`
	Profile        scalar[vnet.Profile]    `yaml:"profile,omitempty" json:"profile,omitempty" jsonschema:"guest (default) speaks for itself only; appliance is a router or firewall, which forwards for others"`
	AntiSpoof      scalar[bool]            `yaml:"anti_spoof,omitempty" json:"anti_spoof,omitempty" jsonschema:"drop what guests send from a MAC address that is not theirs, and from an IP address that is not theirs where the spec has theirs"`
	DHCPGuard      scalar[bool]            `yaml:"dhcp_guard,omitempty" json:"dhcp_guard,omitempty" jsonschema:"drop what guests send as a DHCP server; default as anti_spoof"`
	RAGuard        scalar[bool]            `yaml:"ra_guard,omitempty" json:"ra_guard,omitempty" jsonschema:"drop router advertisements and redirects of guests; default as anti_spoof"`
	Allow          scalar[vnet.Allow]      `yaml:"allow,omitempty" json:"allow,omitempty" jsonschema:"MAC and IP addresses that all its guests may send from besides their own, such as those of VRRP"`
	QoS            rawQoS                  `yaml:"qos,omitempty" json:"qos,omitempty" jsonschema:"limits of each guest's port; libvirt's <bandwidth> in the guest goes before"`
}

type rawQoS struct {
	Inbound       scalar[vnet.BitRate]  `yaml:"inbound,omitempty" json:"inbound,omitempty" jsonschema:"rate towards the guest, such as 100mbit"`
	InboundBurst  scalar[vnet.ByteSize] `yaml:"inbound_burst,omitempty" json:"inbound_burst,omitempty" jsonschema:"what may pass at once, such as 256kb; default a tenth of a second's worth, on OVN half a second's"`
	Outbound      scalar[vnet.BitRate]  `yaml:"outbound,omitempty" json:"outbound,omitempty" jsonschema:"rate from the guest, such as 100mbit"`
	OutboundBurst scalar[vnet.ByteSize] `yaml:"outbound_burst,omitempty" json:"outbound_burst,omitempty" jsonschema:"what may pass at once, such as 256kb; default half a second's worth: with much less TCP does not come near the rate"`
	Priority      scalar[int]           `yaml:"priority,omitempty" json:"priority,omitempty" jsonschema:"priority of the guest's frames on the host, 1 to 7; queues of the uplink go by it"`
}

type rawNetwork struct {
	Mode       scalar[vnet.Mode]        `yaml:"mode,omitempty" json:"mode,omitempty" jsonschema:"bridge (default with switch), macvtap (default with device), nat or isolated"`
	Switch     string                   `yaml:"switch,omitempty" json:"switch,omitempty" jsonschema:"switch of a bridge network"`
	Device     string                   `yaml:"device,omitempty" json:"device,omitempty" jsonschema:"host device of a macvtap network"`
	Macvtap    scalar[vnet.MacvtapMode] `yaml:"macvtap,omitempty" json:"macvtap,omitempty" jsonschema:"how macvtaps on the device reach each other"`
	MTU        scalar[int]              `yaml:"mtu,omitempty" json:"mtu,omitempty" jsonschema:"MTU in bytes, 68 to 65535; default with OVN, unless with localnet, what tunnels leave of underlay_mtu"`
	rawPolicy  `yaml:",inline"`
	Portgroups map[string]rawPortgroup    `yaml:"portgroups,omitempty" json:"portgroups,omitempty" jsonschema:"variations for some guests, by name; each replaces the network's VLANs and flags as a whole"`
	Subnet     scalar[netip.Prefix]       `yaml:"subnet,omitempty" json:"subnet,omitempty" jsonschema:"addresses that live here, such as 10.0.20.0/24"`
	Gateway    scalar[netip.Addr]         `yaml:"gateway,omitempty" json:"gateway,omitempty" jsonschema:"router of the subnet"`
	OnFailure  scalar[vnet.FailurePolicy] `yaml:"on_failure,omitempty" json:"on_failure,omitempty" jsonschema:"when the hook cannot wire a guest: refuse its start (default) or warn"`

	Router   string       `yaml:"router,omitempty" json:"router,omitempty" jsonschema:"logical router that has the gateway's address (OVN)"`
	Localnet *rawLocalnet `yaml:"localnet,omitempty" json:"localnet,omitempty" jsonschema:"join the network to a physical one (OVN)"`
	DHCP     *rawDHCP     `yaml:"dhcp,omitempty" json:"dhcp,omitempty" jsonschema:"answer the guests' DHCP, also without any setting: with the address, the gateway and the MTU (OVN)"`
	ACLs     []rawACL     `yaml:"acls,omitempty" json:"acls,omitempty" jsonschema:"what may pass to and from the guests; the first that matches counts, and what none matches passes (OVN)"`
}

type rawLocalnet struct {
	Physical string              `yaml:"physical,omitempty" json:"physical" jsonschema:"the physical network's name in the hosts' ovn-bridge-mappings"`
	VLAN     scalar[vnet.VLANID] `yaml:"vlan,omitempty" json:"vlan,omitempty" jsonschema:"VLAN that the network is there, 1 to 4094; default untagged"`
}

type rawDHCP struct {
	LeaseTime scalar[int]          `yaml:"lease_time,omitempty" json:"lease_time,omitempty" jsonschema:"seconds that guests may use their address; default 3600"`
	Server    scalar[netip.Addr]   `yaml:"server,omitempty" json:"server,omitempty" jsonschema:"address that the answers come from; default gateway"`
	DNS       []scalar[netip.Addr] `yaml:"dns,omitempty" json:"dns,omitempty" jsonschema:"DNS servers"`
	Domain    string               `yaml:"domain,omitempty" json:"domain,omitempty" jsonschema:"DNS domain of the guests"`
	Routes    []rawRoute           `yaml:"routes,omitempty" json:"routes,omitempty" jsonschema:"routes besides the one to gateway"`
}

type rawRoute struct {
	To  scalar[prefix]     `yaml:"to,omitempty" json:"to" jsonschema:"a prefix, such as 10.0.0.0/8"`
	Via scalar[netip.Addr] `yaml:"via,omitempty" json:"via" jsonschema:"the next router's address"`
}

type rawACL struct {
	Direction scalar[vnet.Direction]  `yaml:"direction,omitempty" json:"direction" jsonschema:"in, to the guests, or out, from them"`
	Action    scalar[vnet.Action]     `yaml:"action,omitempty" json:"action" jsonschema:"allow, with the answers; drop; or reject, and say so"`
	From      scalar[vnet.Peer]       `yaml:"from,omitempty" json:"from,omitempty" jsonschema:"who sends: a guest, GUEST/NETWORK, network NAME, set NAME, an address or a prefix; default anybody"`
	To        scalar[vnet.Peer]       `yaml:"to,omitempty" json:"to,omitempty" jsonschema:"who it is for, as from; default anybody"`
	Protocol  scalar[vnet.Protocol]   `yaml:"protocol,omitempty" json:"protocol,omitempty" jsonschema:"default any of IP"`
	Ports     scalar[vnet.PortRanges] `yaml:"ports,omitempty" json:"ports,omitempty" jsonschema:"ports that it is sent to, such as 22,8000-8100"`
	Log       scalar[bool]            `yaml:"log,omitempty" json:"log,omitempty" jsonschema:"log each in ovn-controller's log"`
	Priority  scalar[int]             `yaml:"priority,omitempty" json:"priority,omitempty" jsonschema:"1 to 32767, the highest counts; default by the order, from 2000 down"`
}

type rawRouter struct {
	Switch string      `yaml:"switch,omitempty" json:"switch" jsonschema:"an OVN switch"`
	Uplink *rawUplink  `yaml:"uplink,omitempty" json:"uplink,omitempty" jsonschema:"the way out"`
	SNAT   rawPrefixes `yaml:"snat,omitempty" json:"snat,omitempty" jsonschema:"prefixes that reach the outside from the uplink's address"`
	DNAT   []rawDNAT   `yaml:"dnat,omitempty" json:"dnat,omitempty" jsonschema:"addresses outside that reach a guest"`
	Routes []rawRoute  `yaml:"routes,omitempty" json:"routes,omitempty" jsonschema:"routes besides those to its networks and to the uplink's gateway"`

	LoadBalancers []rawBalancer `yaml:"load_balancers,omitempty" json:"load_balancers,omitempty" jsonschema:"addresses whose connections backends share, for the guests of the router's networks and from the uplink"`
}

type rawUplink struct {
	Network string               `yaml:"network,omitempty" json:"network" jsonschema:"a network with localnet"`
	Address scalar[netip.Prefix] `yaml:"address,omitempty" json:"address" jsonschema:"the router's own, such as 203.0.113.10/24"`
	Gateway scalar[netip.Addr]   `yaml:"gateway,omitempty" json:"gateway,omitempty" jsonschema:"the next router, for all that is not known"`
	Chassis []string             `yaml:"chassis,omitempty" json:"chassis" jsonschema:"system-ids of the hosts that the traffic leaves by: the first that is up"`
}

type rawDNAT struct {
	External scalar[netip.Addr] `yaml:"external,omitempty" json:"external" jsonschema:"address outside"`
	To       scalar[netip.Addr] `yaml:"to,omitempty" json:"to" jsonschema:"address of the guest"`
}

type rawBalancer struct {
	VIP      scalar[socket]         `yaml:"vip,omitempty" json:"vip" jsonschema:"an address that nobody has, and a port, such as 10.0.0.100:80"`
	Protocol scalar[vnet.Protocol]  `yaml:"protocol,omitempty" json:"protocol,omitempty" jsonschema:"tcp (default), udp or sctp"`
	Backends []scalar[vnet.Backend] `yaml:"backends,omitempty" json:"backends" jsonschema:"who gets the connections: a guest, GUEST/NETWORK or an address, a colon and the port, such as web1:8080"`
}

type rawPortgroup struct {
	Default   scalar[bool] `yaml:"default,omitempty" json:"default,omitempty" jsonschema:"the portgroup of NICs that name none"`
	rawPolicy `yaml:",inline"`
}

type rawGuest struct {
	Down scalar[bool] `yaml:"down,omitempty" json:"down,omitempty" jsonschema:"the guest is expected not to run"`
	NICs []rawNIC     `yaml:"nics,omitempty" json:"nics,omitempty"`
}

type rawNIC struct {
	Network   string             `yaml:"network,omitempty" json:"network"`
	Portgroup string             `yaml:"portgroup,omitempty" json:"portgroup,omitempty"`
	MAC       scalar[vnet.MAC]   `yaml:"mac,omitempty" json:"mac,omitempty" jsonschema:"such as 52:54:00:12:34:56"`
	Address   scalar[netip.Addr] `yaml:"address,omitempty" json:"address,omitempty" jsonschema:"IP address the guest is expected to answer at"`
	Allow     scalar[vnet.Allow] `yaml:"allow,omitempty" json:"allow,omitempty" jsonschema:"MAC and IP addresses that this guest may send from besides mac and address; with anti_spoof, where either names an IPv4 or IPv6 address, only those of that kind pass"`
	Model     scalar[vnet.Model] `yaml:"model,omitempty" json:"model,omitempty" jsonschema:"the NIC the guest sees; virtio by default"`
	Queues    scalar[int]        `yaml:"queues,omitempty" json:"queues,omitempty" jsonschema:"queue pairs of a virtio NIC"`
	RXRing    scalar[int]        `yaml:"rx_ring,omitempty" json:"rx_ring,omitempty" jsonschema:"receive ring of a virtio NIC in descriptors: 256, 512 or 1024"`
	TXRing    scalar[int]        `yaml:"tx_ring,omitempty" json:"tx_ring,omitempty" jsonschema:"transmit ring of a virtio NIC in descriptors: 256, 512 or 1024"`
}

type rawExpectation struct {
	From    string          `yaml:"from,omitempty" json:"from" jsonschema:"who is made to send: a guest, GUEST/NETWORK for its NICs in one network, or network NAME for all its guests"`
	Reach   string          `yaml:"reach,omitempty" json:"reach,omitempty" jsonschema:"who answers ICMP echo: a guest, GUEST/NETWORK, network NAME, an address, a DNS name, or gateway"`
	Deny    string          `yaml:"deny,omitempty" json:"deny,omitempty" jsonschema:"who must not be reached, by ICMP echo or TCP to ports 22, 80 and 443 and those of tcp for the same address: as for reach"`
	TCP     scalar[service] `yaml:"tcp,omitempty" json:"tcp,omitempty" jsonschema:"who accepts TCP connections at which port: a guest, GUEST/NETWORK, an address, a DNS name or gateway, a colon and the port, such as db1:5432"`
	DNS     string          `yaml:"dns,omitempty" json:"dns,omitempty" jsonschema:"a name that has an address"`
	Server  string          `yaml:"server,omitempty" json:"server,omitempty" jsonschema:"who is asked for dns: a guest, GUEST/NETWORK, an address, or gateway (default)"`
	To      string          `yaml:"to,omitempty" json:"to,omitempty" jsonschema:"who answers ICMP echo within latency and loss: a guest, GUEST/NETWORK, an address, a DNS name, or gateway"`
	Latency scalar[below]   `yaml:"latency,omitempty" json:"latency,omitempty" jsonschema:"limit of the median of the answers' time, such as <5ms"`
	Loss    scalar[share]   `yaml:"loss,omitempty" json:"loss,omitempty" jsonschema:"limit of the part that is not answered, such as <1%"`
}

type rawWaiver struct {
	Code    string      `yaml:"code,omitempty" json:"code,omitempty" jsonschema:"code of the problem, such as WRONG_VLAN; any if not given"`
	Guest   string      `yaml:"guest,omitempty" json:"guest,omitempty" jsonschema:"a guest that it concerns; any if not given"`
	Network string      `yaml:"network,omitempty" json:"network,omitempty" jsonschema:"the network that it shows in; any if not given"`
	Owner   string      `yaml:"owner,omitempty" json:"owner" jsonschema:"who answers for it"`
	Until   scalar[day] `yaml:"until,omitempty" json:"until" jsonschema:"the last day that the waiver holds, such as 2027-01-31"`
	Reason  string      `yaml:"reason,omitempty" json:"reason,omitempty"`
}

// scalar is one value of the file, and whether it was given. Its errors carry
// the line, and do not keep the decoder from finding the next.
type scalar[T any] struct {
	value T
	given bool
}

func scalarOf[T any](v T, given bool) scalar[T] { return scalar[T]{v, given} }

// IsZero makes omitempty leave out what was not given.
func (s scalar[T]) IsZero() bool { return !s.given }

// UnmarshalYAML implements [yaml.Unmarshaler].
func (s *scalar[T]) UnmarshalYAML(node *yaml.Node) error {
	s.given = true
	if err := s.parse(node); err != nil {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %v", node.Line, err)}}
	}
	return nil
}

func (s *scalar[T]) parse(node *yaml.Node) error {
	switch value := any(&s.value).(type) {
	case *vnet.VLANRanges:
		return parseRanges(node, value)
	case *vnet.Allow:
		return parseAllow(node, value)
	case *vnet.PortRanges:
		return parsePorts(node, value)
	}
	if node.Kind != yaml.ScalarNode {
		return fmt.Errorf("want a single value, got a %s", kindName(node.Kind))
	}
	switch value := any(&s.value).(type) {
	case *vnet.VLANID:
		var err error
		*value, err = vnet.ParseVLANID(node.Value)
		return err
	case *netip.Prefix:
		if err := value.UnmarshalText([]byte(node.Value)); err != nil || node.Value == "" {
			return fmt.Errorf("%q is no subnet: want one such as 10.0.20.0/24", node.Value)
		}
		return nil
	case *netip.Addr:
		if err := value.UnmarshalText([]byte(node.Value)); err != nil || node.Value == "" {
			return fmt.Errorf("%q is no IP address: want one such as 10.0.20.11", node.Value)
		}
		return nil
	case encoding.TextUnmarshaler:
		return value.UnmarshalText([]byte(node.Value))
	}
	if err := node.Decode(&s.value); err != nil {
		return fmt.Errorf("%q is no %s", node.Value, plainName(s.value))
	}
	return nil
}

// parseAllow takes one address or a list of them, MAC or IP.
func parseAllow(node *yaml.Node, allow *vnet.Allow) error {
	for _, item := range items(node) {
		if addr, err := netip.ParseAddr(item.Value); err == nil {
			allow.Addresses = append(allow.Addresses, addr.Unmap())
			continue
		}
		mac, err := vnet.ParseMAC(item.Value)
		if err != nil {
			return fmt.Errorf("%q is neither a MAC nor an IP address: want one such as 00:00:5e:00:01:0a or 10.0.20.1", item.Value)
		}
		allow.MACs = append(allow.MACs, mac)
	}
	return nil
}

// items are those of a list, or the one value that stands in the place of one.
func items(node *yaml.Node) []*yaml.Node {
	if node.Kind == yaml.SequenceNode {
		return node.Content
	}
	return []*yaml.Node{node}
}

// parseRanges takes "10,20-29", 10 and [10, 20-29].
func parseRanges(node *yaml.Node, ranges *vnet.VLANRanges) error {
	for _, item := range items(node) {
		more, err := vnet.ParseVLANRanges(item.Value)
		if err != nil {
			return err
		}
		*ranges = append(*ranges, more...)
	}
	*ranges = ranges.Normal()
	return nil
}

// parsePorts takes "22,8000-8100", 22 and [22, 8000-8100].
func parsePorts(node *yaml.Node, ports *vnet.PortRanges) error {
	for _, item := range items(node) {
		more, err := vnet.ParsePortRanges(item.Value)
		if err != nil {
			return err
		}
		*ports = append(*ports, more...)
	}
	return nil
}

// MarshalYAML implements [yaml.Marshaler].
func (s scalar[T]) MarshalYAML() (any, error) {
	switch value := any(s.value).(type) {
	case vnet.VLANRanges:
		return value.String(), nil
	case vnet.Allow:
		var list []string
		for _, mac := range value.MACs {
			list = append(list, mac.String())
		}
		for _, addr := range value.Addresses {
			list = append(list, addr.String())
		}
		return list, nil
	case encoding.TextMarshaler:
		text, err := value.MarshalText()
		return string(text), err
	}
	return s.value, nil
}

func kindName(kind yaml.Kind) string {
	switch kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	default:
		return "document"
	}
}

func plainName(v any) string {
	switch v.(type) {
	case bool:
		return "yes-or-no value: want true or false"
	case int:
		return "whole number"
	}
	return fmt.Sprintf("%T", v)
}
