// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package firewall

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// FamilyLegacy is the Family of a rule of legacy iptables, of which only the
// counter is known.
const FamilyLegacy = "iptables-legacy"

// Drop is a rule, or the policy of a chain, that has dropped frames.
type Drop struct {
	// Source and Target are those of the frames, In the index of the port that
	// they came in by, and EtherType what they carry (ETH_P_*). The MAC
	// addresses are zero when it is not known whose frames they were.
	Source, Target vnet.MAC
	In             int
	EtherType      uint16
	// Sender is the IPv4 address that an ARP or IP frame says it is from.
	Sender netip.Addr

	// Family is nft's word, such as "bridge" or "ip". Handle is zero for the
	// policy of the chain.
	Family, Table, Chain string
	Handle               uint64
	// Rule is the rule as nft prints it, or empty when nft could not tell.
	Rule string
	// Frames is how many were dropped.
	Frames int
}

// Place returns "table bridge filter, chain forward, rule 7".
func (d Drop) Place() string {
	switch {
	case d.Family == FamilyLegacy:
		return fmt.Sprintf("%s, chain %s", d.Family, d.Chain)
	case d.Handle == 0:
		return d.place() + ", policy"
	}
	return fmt.Sprintf("%s, rule %d", d.place(), d.Handle)
}

func (d Drop) place() string { return fmt.Sprintf("table %s %s, chain %s", d.Family, d.Table, d.Chain) }

// IsIP reports whether the frames carry IPv4, and not ARP.
func (d Drop) IsIP() bool { return d.EtherType == unix.ETH_P_IP }

// IsGuard reports whether the rule is one of ours, which keep guests from
// sending what they may not.
func (d Drop) IsGuard() bool { return d.Family == "bridge" && d.Table == "virt_vnet" }

// IsHost reports whether the rule is of the host's IP firewall, which bridged
// frames come to by br_netfilter only.
func (d Drop) IsHost() bool {
	return slices.Contains([]string{"ip", "ip6", "inet", FamilyLegacy}, d.Family)
}

// Fix is a command that takes the rule away, or shows the chain whose policy it
// is.
func (d Drop) Fix() string {
	switch {
	case d.Family == FamilyLegacy:
		return "iptables-legacy --verbose --list " + d.Chain
	case d.Handle == 0:
		return fmt.Sprintf("nft --handle list chain %s %s %s   # it drops what no rule accepts", d.Family, d.Table, d.Chain)
	}
	return fmt.Sprintf("nft delete rule %s %s %s handle %d", d.Family, d.Table, d.Chain, d.Handle)
}

// collector makes drops of the kernel's messages.
type collector struct {
	frames map[uint32]frame
	found  map[Drop]int
}

// frame is what the first messages say about a frame, which later ones leave
// out.
type frame struct {
	source, target vnet.MAC
	in             int
	etherType      uint16
	sender         netip.Addr
}

// message is one message of a trace.
type message struct {
	frame

	id           uint32
	table, chain string
	handle       uint64
	kind         uint32
	// dropped is whether the rule's verdict, or the policy, is to drop.
	dropped bool
}

const sizeofNfgenmsg = 4

// take reads one message with its nfgenmsg header.
func (c *collector) take(data []byte) error {
	if len(data) < sizeofNfgenmsg {
		return errors.New("malformed netlink message")
	}
	m, err := parse(data[sizeofNfgenmsg:])
	if err != nil {
		return err
	}
	known := c.frames[m.id]
	if m.source.IsZero() {
		m.source, m.target, m.etherType, m.sender = known.source, known.target, known.etherType, known.sender
	}
	m.in = cmp.Or(known.in, m.in) // of the bridge's port, which ip chains do not see
	c.frames[m.id] = m.frame
	if m.dropped {
		c.found[Drop{
			Source: m.source, Target: m.target, In: m.in, EtherType: m.etherType, Sender: m.sender,
			Family: family(data[0]), Table: m.table, Chain: m.chain, Handle: m.handle,
		}]++
	}
	return nil
}

func family(number byte) string {
	names := map[byte]string{
		unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_ARP: "arp",
		unix.NFPROTO_NETDEV: "netdev", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_IPV6: "ip6",
	}
	return names[number]
}

// What a message says of verdicts and policies (linux/netfilter.h).
const (
	nfDrop   = 0
	nfAccept = 1
)

func parse(attributes []byte) (message, error) {
	var m message
	ad, err := netlink.NewAttributeDecoder(attributes)
	if err != nil {
		return m, err
	}
	ad.ByteOrder = binary.BigEndian
	var header []byte
	verdict, policy := uint32(nfAccept), uint32(nfAccept)
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_TRACE_TYPE:
			m.kind = ad.Uint32()
		case unix.NFTA_TRACE_POLICY:
			policy = ad.Uint32()
		case unix.NFTA_TRACE_VERDICT:
			ad.Nested(func(nested *netlink.AttributeDecoder) error {
				for nested.Next() {
					if nested.Type() == unix.NFTA_VERDICT_CODE {
						verdict = nested.Uint32()
					}
				}
				return nil
			})
		case unix.NFTA_TRACE_NETWORK_HEADER:
			header = ad.Bytes()
		default:
			m.read(ad)
		}
	}
	m.readSender(header)
	m.dropped = m.kind == unix.NFT_TRACETYPE_RULE && verdict == nfDrop || m.kind == unix.NFT_TRACETYPE_POLICY && policy == nfDrop
	return m, ad.Err()
}

// read reads the attributes that mean something by themselves.
func (m *message) read(ad *netlink.AttributeDecoder) {
	switch ad.Type() {
	case unix.NFTA_TRACE_TABLE:
		m.table = ad.String()
	case unix.NFTA_TRACE_CHAIN:
		m.chain = ad.String()
	case unix.NFTA_TRACE_RULE_HANDLE:
		m.handle = ad.Uint64()
	case unix.NFTA_TRACE_ID:
		m.id = ad.Uint32()
	case unix.NFTA_TRACE_IIF:
		m.in = int(ad.Uint32())
	case unix.NFTA_TRACE_LL_HEADER:
		m.readHeader(ad.Bytes())
	}
}

// readHeader reads an Ethernet header, behind the outer VLAN tag if it has one.
func (m *message) readHeader(b []byte) {
	const sizeofMAC, sizeofTag = 6, 4
	if len(b) < 2*sizeofMAC+2 {
		return
	}
	m.target, m.source = vnet.MAC(b[:sizeofMAC]), vnet.MAC(b[sizeofMAC:2*sizeofMAC])
	b = b[2*sizeofMAC:]
	if binary.BigEndian.Uint16(b) == unix.ETH_P_8021Q && len(b) >= sizeofTag+2 {
		b = b[sizeofTag:]
	}
	m.etherType = binary.BigEndian.Uint16(b)
}

// readSender reads the header of an ARP (RFC 826) or IPv4 packet.
func (m *message) readSender(b []byte) {
	at := map[uint16]int{unix.ETH_P_ARP: 14, unix.ETH_P_IP: 12}[m.etherType]
	const size = 4
	if at != 0 && len(b) >= at+size {
		m.sender, _ = netip.AddrFromSlice(b[at : at+size])
	}
}

// list returns the drops in a fixed order, with their rules.
func (c *collector) list(ctx context.Context) []Drop {
	texts := map[string]map[uint64]string{}
	var all []Drop
	for d, frames := range c.found {
		place := d.place()
		if texts[place] == nil {
			texts[place] = rules(ctx, d)
		}
		d.Frames, d.Rule = frames, texts[place][d.Handle]
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b Drop) int {
		return cmp.Or(cmp.Compare(a.place(), b.place()), cmp.Compare(a.Handle, b.Handle), cmp.Compare(a.In, b.In),
			slices.Compare(a.Target[:], b.Target[:]), slices.Compare(a.Source[:], b.Source[:]), cmp.Compare(a.EtherType, b.EtherType))
	})
	return all
}

// rules asks nft for the rules of the drop's chain, by handle, and for its first
// line under zero. It is no failure not to have nft: then they stay numbers.
func rules(ctx context.Context, d Drop) map[uint64]string {
	texts := map[uint64]string{}
	out, err := exec.CommandContext(ctx, "nft", "--handle", "list", "chain", d.Family, d.Table, d.Chain).Output()
	if err != nil {
		return texts
	}
	for line := range strings.Lines(string(out)) {
		text, after, ok := strings.Cut(strings.TrimSpace(line), " # handle ")
		if strings.HasPrefix(text, "type ") {
			texts[0] = text
		}
		if handle, err := strconv.ParseUint(after, 10, 64); ok && err == nil && !strings.HasPrefix(text, "chain ") {
			texts[handle] = text
		}
	}
	return texts
}
