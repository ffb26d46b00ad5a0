// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import "slices"

// The codes of problems. They are stable: scripts test for them.
const (
	CodeDomainDown         = "DOMAIN_DOWN"
	CodeNICMissing         = "NIC_MISSING"
	CodeLinkDown           = "LINK_DOWN"
	CodeSwitchDown         = "SWITCH_DOWN"
	CodeWrongBridge        = "WRONG_BRIDGE"
	CodePortRefused        = "PORT_REFUSED"
	CodeSTPBlocked         = "STP_BLOCKED"
	CodeControllerDown     = "CONTROLLER_DOWN"
	CodeChassisMissing     = "CHASSIS_MISSING"
	CodePortNotBound       = "PORT_NOT_BOUND"
	CodePortElsewhere      = "PORT_ELSEWHERE"
	CodeFlowsMissing       = "FLOWS_MISSING"
	CodeWrongVLAN          = "WRONG_VLAN"
	CodeWrongIsolation     = "WRONG_ISOLATION"
	CodeWrongSettings      = "WRONG_SETTINGS"
	CodeMTUMismatch        = "MTU_MISMATCH"
	CodeMACNotLearned      = "MAC_NOT_LEARNED"
	CodeMACOnWrongPort     = "MAC_ON_WRONG_PORT"
	CodeMACDuplicate       = "MAC_DUPLICATE"
	CodeNoAddress          = "NO_ADDRESS"
	CodeNoDHCPOffer        = "NO_DHCP_OFFER"
	CodeDHCPNotTaken       = "DHCP_NOT_TAKEN"
	CodeAddressConflict    = "ADDRESS_CONFLICT"
	CodeGuestSilent        = "GUEST_SILENT"
	CodeNoARP              = "NO_ARP"
	CodeFiltered           = "FILTERED"
	CodeGuardDrops         = "GUARD_DROPS"
	CodeNoND               = "NO_ND"
	CodeBridgeNetfilter    = "BRIDGE_NETFILTER"
	CodeICMPFiltered       = "ICMP_FILTERED"
	CodeUplinkDown         = "UPLINK_DOWN"
	CodeUplinkVLAN         = "UPLINK_VLAN"
	CodeTunnelDown         = "TUNNEL_DOWN"
	CodeGatewayUnreachable = "GATEWAY_UNREACHABLE"
	CodePathMTU            = "PATH_MTU"
	CodePortDrops          = "PORT_DROPS"
	CodeNotDelivered       = "NOT_DELIVERED"
	CodeNotAnswered        = "NOT_ANSWERED"
	CodeLeak               = "LEAK"
	CodeUnreachable        = "UNREACHABLE"
	CodeReachable          = "REACHABLE"
	CodeTCPRefused         = "TCP_REFUSED"
	CodeTCPFiltered        = "TCP_FILTERED"
	CodeDNSFailed          = "DNS_FAILED"
	CodeSlow               = "SLOW"
	CodeLossy              = "LOSSY"
	CodeMacvtapHost        = "MACVTAP_HOST"
)

// CodeInfo describes a code for the documentation.
type CodeInfo struct {
	Code string
	// Rung is where on the ladder it can come from first, or empty for a code
	// of pairs and expectations.
	Rung RungName
	// Meaning is what is wrong; Evidence what the finding shows for it; Cause
	// what usually brings it about; Fix what usually helps.
	Meaning, Evidence, Cause, Fix string
}

// Codes returns every code, in the order of the ladder.
func Codes() []CodeInfo { return slices.Concat(portCodes(), guestCodes(), talkCodes()) }

// portCodes are those of the rungs up to the guest's port, which need no probe.
func portCodes() []CodeInfo {
	return []CodeInfo{
		{
			CodeDomainDown, RungDomain, "the guest is not running; one that libvirt has paused itself, to migrate it say, is inconclusive",
			"libvirt's state of it", "it was shut down, or never started after a boot of the host", "virsh start, or virsh autostart",
		},
		{
			CodeNICMissing, RungNIC, "the guest lacks the NIC, or its device is gone from the host",
			"the NICs of the live definition, the devices of the host", "the NIC is in the spec only, or somebody removed the tap", "virt-vnet define interface, or a restart of the guest",
		},
		{
			CodeLinkDown, RungLink, "the link is set down in libvirt, the device is down, or it has no carrier",
			"libvirt's link state, the device's state and carrier", "virsh domif-setlink, ip link set down, QEMU gone", "set the link up",
		},
		{
			CodeSwitchDown, RungSwitch, "the switch itself is down or gone, or what runs it does not answer",
			"the state of the bridge's device, the error of the switch", "the bridge was set down, ovs-vswitchd is not running", "set the bridge up, start the service",
		},
		{
			CodeWrongBridge, RungSwitch, "the port is on another switch, or the macvtap on another device or in another mode",
			"the switch that the port is on", "somebody moved the tap, or a restart of the network took it off", "virt-vnet repair",
		},
		{
			CodePortRefused, RungSwitch, "the port is in the switch's database, and the switch does not take it up",
			"Open vSwitch's error, ofport and link_state of the interface (ovs-vswitchd.conf.db(5))", "the interface was given a type or options that do not suit it", "ovs-vsctl del-port, then virt-vnet repair",
		},
		{
			CodeSTPBlocked, RungForwarding, "spanning tree keeps the port, or the uplink, from forwarding",
			"the port's spanning tree state", "the port came up moments ago and still listens, a loop, a BPDU from the guest", "wait for the forward delay, find the loop",
		},
		{
			CodeControllerDown, RungForwarding, "ovn-controller of this host does not run, or is not connected to the southbound database, which this host reaches",
			"what its socket says; guests that were bound before go on as they were", "it was killed or never started, or has no certificate", "systemctl restart ovn-controller",
		},
		{
			CodeChassisMissing, RungForwarding, "OVN does not know this host as a chassis",
			"the table Chassis of the southbound database", "no ovn-encap-ip, another system-id, somebody deleted the chassis", "external_ids of Open_vSwitch, then restart ovn-controller",
		},
		{
			CodePortNotBound, RungForwarding, "the guest's logical port is bound to no chassis, or there is none",
			"the table Port_Binding of the southbound database, the iface-id", "somebody removed the logical port, or ovn-northd does not run", "virt-vnet repair",
		},
		{
			CodePortElsewhere, RungForwarding, "the guest's logical port is bound to another chassis than this host",
			"the chassis in Port_Binding, the iface-id of the device here", "two hosts have a device with that iface-id, such as a copy of the guest", "take it off the other host",
		},
		{
			CodeFlowsMissing, RungForwarding, "the logical port is bound to this host and its flows are not in, or not any more",
			"no ovn-installed at the interface, or no flow of the port in the integration bridge", "ovn-controller hangs, or somebody removed the flows, as ovs-ofctl del-flows does", "systemctl restart ovn-controller",
		},
		{
			CodeWrongVLAN, RungVLAN, "the port is a member of other VLANs than it should be",
			"the VLANs that the port has", "the port was retagged by hand, or wired by an old spec", "virt-vnet repair",
		},
		{
			CodeWrongIsolation, RungIsolated, "the port is isolated and should not be, or the other way round",
			"the port's flag", "virsh domif-setlink and other things that take a port off its bridge and put it back", "virt-vnet repair",
		},
		{
			CodeWrongSettings, RungSettings, "another setting of the port, such as a guard, a limit or a flag, is not as it should be",
			"each setting that differs", "the table of guards was flushed, the port was changed by hand", "virt-vnet repair",
		},
		{
			CodeMTUMismatch, RungMTU, "the MTU of the port, the switch and the network do not agree",
			"the MTU of each", "the bridge took the smallest MTU of its ports, or the spec's MTU was changed while the guest ran", "virt-vnet repair, ip link set mtu",
		},
	}
}

// guestCodes are those of the rungs from the guest's port on.
func guestCodes() []CodeInfo {
	return []CodeInfo{
		{
			CodeMACNotLearned, RungMAC, "the guest has not sent a single frame, not even an answer to a probe",
			"the forwarding database, requests seen at the port, what the guest sent if anything", "the guest has not booted, or its interface is down", "look at its console",
		},
		{
			CodeMACOnWrongPort, RungMAC, "the switch has learned the guest's MAC on another port",
			"the port it was learned on", "a copy of the guest, a loop, or another guest sending in its name", "find the machine behind that port",
		},
		{
			CodeMACDuplicate, RungMAC, "two NICs in the same VLAN have the same MAC",
			"both NICs", "a guest was cloned with its MAC", "virsh edit",
		},
		{
			CodeNoAddress, RungAddress, "the guest should have an address and has none",
			"every source of addresses that was asked", "it lacks a static address and does not ask for DHCP", "configure the guest",
		},
		{
			CodeNoDHCPOffer, RungAddress, "the guest asks for DHCP and nobody offers it an address",
			"the guest's requests, and our own that nobody answered", "the DHCP server is down or in another VLAN", "start the server, tag its port",
		},
		{
			CodeDHCPNotTaken, RungAddress, "the guest is offered an address and does not take it",
			"the offer as it was delivered to the port", "a checksum left to hardware that is not there, a firewall in the guest", "ethtool -K DEVICE tx off at the server",
		},
		{
			CodeAddressConflict, RungAddress, "another machine answers for the guest's address",
			"both MAC addresses that answered, and their ports", "the address was given twice, or a guest or the gateway answers for others", "take the address from the other machine, anti_spoof: true",
		},
		{
			CodeGuestSilent, RungARP, "frames are delivered to the guest, which has been heard before, and it sends none at all",
			"requests seen on their way to the guest", "the guest hangs, its interface is down inside, or it has no address at all", "look at its console",
		},
		{
			CodeNoARP, RungARP, "the guest sends frames but does not answer ARP at its address",
			"requests seen at the port, what the guest sent", "it has another address, or ARP is off in the guest", "ip address in the guest",
		},
		{
			CodeFiltered, RungARP, "a rule of the host, or an ACL of the network on OVN, drops what is sent to the guest or by it",
			"the rule, which the kernel named as it dropped frames of ours, or the ACL that ovn-trace ends in", "a firewall rule for the bridge, an nwfilter, an ACL that contradicts expect:", "change the rule",
		},
		{
			CodeGuardDrops, RungARP, "our own guard drops what the guest sends: it sends from an address that is not its own",
			"the guard's rule, on OVN port_security and the flow that counts its drops, and whom the dropped frames were from", "the guest has another address than the spec says, or runs guests of its own", "correct the spec, or allow: in it",
		},
		{
			CodeNoND, RungND, "the guest does not answer neighbour discovery at its IPv6 address",
			"requests seen at the port, what the guest sent", "IPv6 is off in the guest, or it has another address", "ip -6 address in the guest",
		},
		{
			CodeBridgeNetfilter, RungICMP, "bridged IP goes through the host's IP firewall, which drops it",
			"ARP passes and IP does not, the rule or policy that dropped our frames", "br_netfilter is loaded, by Docker for one, and FORWARD drops", "sysctl net.bridge.bridge-nf-call-iptables=0",
		},
		{
			CodeICMPFiltered, RungICMP, "the guest answers ARP or neighbour discovery, and not ICMP echo",
			"the answer, requests seen at the port", "a firewall in the guest", "allow echo requests in the guest",
		},
		{
			CodeUplinkDown, RungUplink, "the switch's uplink is down, has no carrier, or is not on the switch",
			"the uplink's state", "a cable, the port of the physical switch", "ip link set up, look at the cable",
		},
		{
			CodeUplinkVLAN, RungUplink, "the switch's uplink does not carry the network's VLAN",
			"the VLANs of the uplink", "the VLAN was taken off the uplink by hand", "virt-vnet repair",
		},
		{
			CodeTunnelDown, RungUplink, "the tunnel to a chassis with guests of the network is missing, faulty, or ends at a wrong address",
			"the chassis' address (Encap), the tunnel's port and its error", "a wrong ovn-encap-ip, somebody removed the port", "external_ids:ovn-encap-ip of Open_vSwitch",
		},
		{
			CodeGatewayUnreachable, RungGateway, "the network's gateway does not answer",
			"who asked it, and how", "the router is down, the VLAN is missing on the physical switch", "look at the router and the physical switch",
		},
		{
			CodePathMTU, RungPathMTU, "frames as long as the network's MTU do not pass, shorter ones do",
			"the longest that passed, whether longer ones were delivered", "a device on the path, or the guest, has a smaller MTU", "make the MTU the same everywhere",
		},
		{
			CodePortDrops, RungCounters, "the port lost frames all the time that it was looked at: its drops or errors rose",
			"the counters of the port's device, before and after (ip -s link)", "the guest has too little CPU to take its frames, or its queue is short", "more CPU for the guest, ip link set txqueuelen",
		},
	}
}

// talkCodes are those of pairs and expectations.
func talkCodes() []CodeInfo {
	return []CodeInfo{
		{
			CodeNotDelivered, "", "a frame between two healthy guests of one network was not delivered",
			"the frame seen entering, and nothing at the other port", "a rule of the host, a broken switch", "the command in the finding",
		},
		{
			CodeNotAnswered, "", "a frame between two healthy guests was delivered and not answered",
			"the frame seen at both ports", "a rule of the host, or a firewall in the guest", "the command in the finding",
		},
		{
			CodeLeak, "", "a frame was delivered to a guest that it must not reach",
			"the frame seen at the port of the guest", "a port in two VLANs, a switch that floods across VLANs", "the command in the finding",
		},
		{
			CodeUnreachable, "", "something that the spec expects to be reached is not (reach), or a guest of another host does not answer",
			"what was sent and seen", "a filter, a route, the other end", "the finding of the other end, if there is one",
		},
		{
			CodeReachable, "", "something that the spec forbids is reached (deny)",
			"the answer, or the frame at the port", "a missing filter", "add the filter",
		},
		{
			CodeTCPRefused, "", "the other end refuses the TCP connection (tcp)",
			"the reset", "the service is not running", "start the service",
		},
		{
			CodeTCPFiltered, "", "the other end answers ARP and nothing to TCP, or that it is prohibited (tcp)",
			"the silence, or the ICMP message", "a firewall", "open the port",
		},
		{
			CodeDNSFailed, "", "the DNS server does not answer, or not with an address (dns)",
			"the answer's code", "the server is down, the name is not there", "look at the server",
		},
		{
			CodeSlow, "", "answers take longer than the spec allows, or much longer than in other nights (latency)",
			"the median of the answers", "a busy host", "look at the load of the host",
		},
		{
			CodeLossy, "", "more frames are lost than the spec allows (loss)",
			"how many of how many were answered", "a busy host, a limit, a bad cable", "look at the drop counters",
		},
		{
			CodeMacvtapHost, "", "a macvtap guest and its own host cannot reach each other: macvtap is made so",
			"the macvtap and the device it is on", "by design (ip-link(8))", "a macvlan beside it for the host, or a bridge",
		},
	}
}
