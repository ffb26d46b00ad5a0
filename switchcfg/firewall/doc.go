// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package firewall finds out which rule of the host drops certain frames.
//
// It asks the kernel to trace them (nft(8), meta nftrace): a table of its own
// marks ARP and ICMP frames from some ports or to some MAC addresses as they
// come into any bridge, and the kernel then names every rule that decides about
// one of them, also rules that count nothing, those of iptables-nft and
// ebtables-nft, and those of the host's IP firewall when br_netfilter hands
// bridged frames to it. The table is there only while a [Trace] runs. The kernel
// does not trace the rules of legacy iptables in this way: of those the counters
// are compared.
//
// Out of scope: the rules of legacy ebtables, tc(8) filters, and flows of Open
// vSwitch.
package firewall
