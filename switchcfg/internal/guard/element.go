// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/nlconn"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Port is what the table has about one bridge port.
type Port struct {
	Index int // of the interface
	Guard switchcfg.Guard
	// Priority is that of the port's frames (skb->priority), 1 to 7; zero leaves
	// them alone.
	Priority int
}

// maxPriority is that of a frame (IEEE 802.1Q, section 6.9.4).
const maxPriority = 7

// sizeofPriority is that of a priority in a register.
const sizeofPriority = 4

// isZero reports whether the table needs nothing about p.
func (p Port) isZero() bool { return p.Guard.IsZero() && p.Priority == 0 }

// check says what makes p impossible.
func (p Port) check() error {
	if p.Index <= 0 {
		return fmt.Errorf("%d is no interface index", p.Index)
	}
	if p.Priority < 0 || p.Priority > maxPriority {
		return fmt.Errorf("port %d: priority %d: want 0 to %d", p.Index, p.Priority, maxPriority)
	}
	for _, a := range p.Guard.Addresses {
		if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
			return fmt.Errorf("port %d: %q is no source address", p.Index, a)
		}
	}
	return nil
}

// key is an element's place: two elements with the same cannot be.
type key struct {
	set  set
	port int
	rest string // what the port may use, as it is in the frame, or ""
}

// element is an element of one of the sets.
type element struct {
	key
	priority uint32 // in priorities
	comment  string
}

// What the port may use. The families do not mix: netip tells them apart.
func (k key) mac() vnet.MAC    { return vnet.MAC([]byte(k.rest)) }
func (k key) addr() netip.Addr { a, _ := netip.AddrFromSlice([]byte(k.rest)); return a }

// text is what the port may use, as comments have it.
func (k key) text() string {
	if k.set == macs {
		return k.mac().HardwareAddr().String()
	}
	return k.addr().String()
}

// encode returns the key as a register has it, where everything is padded.
func (k key) encode() []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(k.port))
	b = append(b, k.rest...)
	return append(b, make([]byte, int(k.set.describe().keySize)-len(b))...)
}

// parseKey reads what encode made.
func parseKey(s set, b []byte) (key, error) {
	if len(b) != int(s.describe().keySize) {
		return key{}, fmt.Errorf("%w: set %s: a key of %d bytes", nlconn.ErrMalformed, s.name(), len(b))
	}
	k := key{set: s, port: int(binary.NativeEndian.Uint32(b)), rest: string(b[sizeofIndex:])}
	if s == macs {
		k.rest = k.rest[:len(vnet.MAC{})]
	}
	return k, nil
}

// family is a kind of things that a port may be bound to: which ports are, and to
// what.
type family struct{ bound, allowed set }

func families() []family {
	return []family{{macPorts, macs}, {ipv4Ports, ipv4}, {ipv6Ports, ipv6}}
}

// members are the things of a family that a guard allows, sorted.
func (f family) members(p Port) []key {
	var keys []key
	add := func(b []byte) { keys = append(keys, key{f.allowed, p.Index, string(b)}) }
	if f.allowed == macs {
		for _, mac := range p.Guard.MACs {
			add(mac[:])
		}
	}
	for _, a := range p.Guard.Addresses {
		if f.allowed == ipv4 && a.Is4() || f.allowed == ipv6 && a.Is6() {
			add(a.AsSlice())
		}
	}
	slices.SortFunc(keys, func(a, b key) int { return cmp.Compare(a.rest, b.rest) })
	return slices.Compact(keys)
}

// elements returns what the table is to have about p.
//
// All is to be found again from the port's index alone, without a look at the
// elements of other ports: the element that binds the port to a family has a
// comment with the members, which continues in that of the last member named.
// The element in ports has a comment that sums it all up.
func (p Port) elements() []element {
	if p.isZero() {
		return nil
	}
	list := []element{{key: key{set: ports, port: p.Index}}}
	for _, f := range families() {
		list = append(list, f.elements(p)...)
	}
	if p.Guard.DHCP {
		list = append(list, element{key: key{set: dhcpPorts, port: p.Index}})
	}
	if p.Guard.RA {
		list = append(list, element{key: key{set: raPorts, port: p.Index}})
	}
	if p.Priority != 0 {
		list = append(list, element{key: key{set: priorities, port: p.Index}, priority: uint32(p.Priority)})
	}
	list[0].comment = summary(list)
	return list
}

func (f family) elements(p Port) []element {
	members := f.members(p)
	if len(members) == 0 {
		return nil
	}
	list := []element{{key: key{set: f.bound, port: p.Index}}}
	for _, k := range members {
		list = append(list, element{key: k})
	}
	at := 0 // the element whose comment is written
	for i, k := range members {
		text := list[at].comment
		if text != "" {
			text += " "
		}
		text += k.text()
		if i < len(members)-1 && len(text)+len(continued) > maxComment-maxMember {
			list[at].comment, at = text+continued, i+1
			continue
		}
		list[at].comment = text
	}
	return list
}

const (
	// continued ends a comment that continues at the last element it names.
	continued = " ..."

	// maxComment is what the user data of an element holds (NFT_USERDATA_MAXLEN)
	// besides two bytes of header and the zero at the end.
	maxComment = unix.NFT_USERDATA_MAXLEN - 3

	// maxMember is a space and the longest address.
	maxMember = 1 + len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")
)

// summary counts the elements of one port, in a form that only the same elements
// have: what somebody took away, or added, shows.
func summary(list []element) string {
	counts := make([]int, setCount)
	priority := uint32(0)
	for _, e := range list {
		counts[e.set]++
		priority += e.priority
	}
	var words []string
	for s := range setCount {
		switch {
		case s == ports || counts[s] == 0:
		case s == priorities:
			words = append(words, fmt.Sprint("priority ", priority))
		default:
			words = append(words, fmt.Sprint(s.name(), " ", counts[s]))
		}
	}
	return strings.Join(words, ", ")
}

// parseMembers reads the comment of an element about members of a family.
func (f family) parseMembers(port int, comment string) (members []key, more bool) {
	comment, more = strings.CutSuffix(comment, continued)
	for word := range strings.FieldsSeq(comment) {
		var b []byte
		if f.allowed == macs {
			mac, err := vnet.ParseMAC(word)
			if err != nil {
				return members, false
			}
			b = mac[:]
		} else {
			addr, err := netip.ParseAddr(word)
			if err != nil || addr.Is4() != (f.allowed == ipv4) {
				return members, false
			}
			b = addr.AsSlice()
		}
		members = append(members, key{f.allowed, port, string(b)})
	}
	return members, more && len(members) > 0
}

// sort sorts what the guard allows, in place.
func (p *Port) sort() {
	slices.SortFunc(p.Guard.MACs, func(a, b vnet.MAC) int { return slices.Compare(a[:], b[:]) })
	slices.SortFunc(p.Guard.Addresses, netip.Addr.Compare)
}
