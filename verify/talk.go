// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// purposeTalk is a frame of a conversation: in its token, from is the number of
// the talk and to that of the frame.
const purposeTalk purpose = 1<<purposeBits - 1

const (
	dnsPort = 53
	// dnsPatience is how long a server may take that asks others.
	dnsPatience = 5 * time.Second
	// firstFrame is the number of the frames that ask whether somebody answers
	// at all; those that measure come after it.
	firstFrame = 0
)

// denyPorts are tried where nothing may arrive, and those that somebody is to
// reach there.
func (t *talk) denyPorts() []uint16 {
	ports := slices.Concat([]uint16{22, 80, 443}, t.known)
	slices.Sort(ports)
	return slices.Compact(ports)
}

// talk is a conversation that a guest is made to have, without its knowledge:
// what is sent as the guest, and what is seen of it and of the answer.
type talk struct {
	kind talkKind
	// from speaks, from source. to is who has addr, or nil when that is none of
	// our guests.
	from, to     *nic
	source, addr netip.Addr
	// direct is whether addr is on from's own link. Else frames go to gateway,
	// which is invalid when the network has none.
	direct  bool
	gateway netip.Addr
	dport   uint16
	name    string // asked of a DNS server
	// known are ports that others are expected to reach at addr, where nothing
	// may arrive.
	known []uint16
	// latency and loss are limits, zero for none.
	latency time.Duration
	loss    float64

	// blocked is why it was not held, or nil, and blind whether frames went by
	// unseen meanwhile. vanished says what became of an end of it, or is empty.
	blocked  *outcome
	blind    bool
	vanished string

	// traced is what the switch does with it, where it was not answered and the
	// switch can tell, or nil.
	traced *Traced

	number int
	sport  uint16
	seq    uint32
	hop    *neighbor

	// entered is whether a frame was seen at from's port, and delivered at to's.
	entered, delivered bool
	// echoed, open and refused are the answers; unreachable is what ICMP said
	// instead, prohibited whether somebody on the way forbids it, and rejected
	// whether an ICMP error came in the name of addr itself.
	echoed, open, refused bool
	unreachable           string
	prohibited, rejected  bool
	dns                   map[dnsmessage.Type]dnsAnswer
	// sent and received are the times of the frames that measure, by number.
	sent, received map[int]time.Time
}

// talkKind is what a conversation is about.
type talkKind int

const (
	talkEcho talkKind = iota + 1
	talkTCP
	talkDNS
	talkDeny // everything that may not arrive
)

// neighbor is somebody on the guest's link, and the MAC it says it has.
type neighbor struct {
	from *nic
	addr netip.Addr
	// mac is where it is asked, zero for everybody; entered is whether a question
	// was seen at from's port, and known whether it has answered. Of one that is
	// dead, a gateway that answered nobody, no late answer is waited for.
	mac                  vnet.MAC
	entered, known, dead bool
}

// dnsAnswer is what a server says about one type of records.
type dnsAnswer struct {
	code  dnsmessage.RCode
	addrs []netip.Addr
}

// ends are the NICs that take part, one or two.
func (t *talk) ends() []*nic {
	if t.to == nil {
		return []*nic{t.from}
	}
	return []*nic{t.from, t.to}
}

// settled reports whether nothing better can come.
func (t *talk) settled() bool {
	switch t.kind {
	case talkEcho:
		return t.echoed
	case talkTCP:
		return t.open
	case talkDNS:
		return len(t.addresses()) > 0
	case talkDeny:
	}
	return t.delivered
}

// addresses are those that a DNS server knows.
func (t *talk) addresses() []netip.Addr {
	return slices.Concat(t.dns[dnsmessage.TypeA].addrs, t.dns[dnsmessage.TypeAAAA].addrs)
}

// next is the address of who gets the frames on the link.
func (t *talk) next() netip.Addr {
	if t.direct {
		return t.addr
	}
	return t.gateway
}

// receivers are the MACs that frames go to: the next hop's, when it has
// answered. What may not arrive is sent to the target itself in any case.
func (t *talk) receivers() []vnet.MAC {
	var list []vnet.MAC
	if t.hop != nil && t.hop.known {
		list = append(list, t.hop.mac)
	}
	if t.kind == talkDeny && t.to != nil && !slices.Contains(list, t.to.Want.MAC) {
		list = append(list, t.to.Want.MAC)
	}
	return list
}

// queryID tells the queries of a talk apart.
func (t *talk) queryID(kind dnsmessage.Type) uint16 { return uint16(t.seq) + uint16(kind) }

func (t *talk) query(kind dnsmessage.Type) ([]byte, error) {
	name, err := dnsmessage.NewName(strings.TrimSuffix(t.name, ".") + ".")
	if err != nil {
		return nil, fmt.Errorf("DNS name %s: %w", t.name, err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: t.queryID(kind), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: kind, Class: dnsmessage.ClassINET}},
	}
	return m.Pack()
}
