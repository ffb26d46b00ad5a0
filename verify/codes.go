// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

// The codes of problems. They are stable: scripts test for them.
const (
	CodeDomainDown         = "DOMAIN_DOWN"
	CodeNICMissing         = "NIC_MISSING"
	CodeLinkDown           = "LINK_DOWN"
	CodeWrongBridge        = "WRONG_BRIDGE"
	CodeWrongVLAN          = "WRONG_VLAN"
	CodeWrongIsolation     = "WRONG_ISOLATION"
	CodeMACNotLearned      = "MAC_NOT_LEARNED"
	CodeMACOnWrongPort     = "MAC_ON_WRONG_PORT"
	CodeMACDuplicate       = "MAC_DUPLICATE"
	CodeNoAddress          = "NO_ADDRESS"
	CodeNoARP              = "NO_ARP"
	CodeICMPFiltered       = "ICMP_FILTERED"
	CodeGatewayUnreachable = "GATEWAY_UNREACHABLE"
	CodeNotDelivered       = "NOT_DELIVERED"
	CodeNotAnswered        = "NOT_ANSWERED"
	CodeLeak               = "LEAK"
)

// CodeInfo describes a code for the documentation.
type CodeInfo struct {
	Code string
	// Rung is where on the ladder it can come from, or empty for a code of
	// pairs.
	Rung    RungName
	Meaning string
}

// Codes returns every code, in the order of the ladder.
func Codes() []CodeInfo {
	return []CodeInfo{
		{CodeDomainDown, RungDomain, "the guest is not running"},
		{CodeNICMissing, RungNIC, "the guest lacks the NIC, or its device is gone from the host"},
		{CodeLinkDown, RungLink, "the link is set down in libvirt, the device is down, or it has no carrier"},
		{CodeWrongBridge, RungSwitch, "the port is on another switch, or the macvtap on another device or in another mode"},
		{CodeWrongVLAN, RungVLAN, "the port is a member of other VLANs than it should be"},
		{CodeWrongIsolation, RungIsolated, "the port is isolated and should not be, or the other way round"},
		{CodeMACNotLearned, RungMAC, "the guest has not sent a single frame, not even an answer to a probe"},
		{CodeMACOnWrongPort, RungMAC, "the switch has learned the guest's MAC on another port"},
		{CodeMACDuplicate, RungMAC, "two NICs in the same VLAN have the same MAC"},
		{CodeNoAddress, RungAddress, "the guest should have an address and has none"},
		{CodeNoARP, RungARP, "the guest sends frames but does not answer ARP at its address"},
		{CodeICMPFiltered, RungICMP, "the guest answers ARP and not ICMP echo"},
		{CodeGatewayUnreachable, RungGateway, "the network's gateway does not answer"},
		{CodeNotDelivered, "", "a frame between two healthy guests of one network was not delivered"},
		{CodeNotAnswered, "", "a frame between two healthy guests was delivered and not answered"},
		{CodeLeak, "", "a frame was delivered to a guest that it must not reach"},
	}
}
