// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard

import (
	"encoding/binary"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers: the first, and the one behind an interface index in it.
const (
	first  = unix.NFT_REG_1
	second = unix.NFT_REG32_00 + 1
)

// field is something of a frame.
type field struct {
	base         expr.PayloadBase
	offset, size uint32
}

// The fields that rules look at.
func etherDestination() field          { return field{expr.PayloadBaseLLHeader, 0, 6} }
func etherSource() field               { return field{expr.PayloadBaseLLHeader, 6, 6} }
func network(offset, n uint32) field   { return field{expr.PayloadBaseNetworkHeader, offset, n} }
func transport(offset, n uint32) field { return field{expr.PayloadBaseTransportHeader, offset, n} }

func (f field) load(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: f.base, Offset: f.offset, Len: f.size}
}

// match is what a rule wants of a frame.
type match []expr.Any

// combine wants several things.
func combine(matches ...match) match { return slices.Concat(matches...) }

func compare(op expr.CmpOp, value []byte) expr.Any {
	return &expr.Cmp{Op: op, Register: first, Data: value}
}

// is wants a field, which the frame must have, to be value.
func (f field) is(value ...byte) match {
	return match{f.load(first), compare(expr.CmpOpEq, value)}
}

// isNot wants a field, which the frame must have, to be something else.
func (f field) isNot(value ...byte) match {
	return match{f.load(first), compare(expr.CmpOpNeq, value)}
}

// etherType wants the frame to be of a type, behind the outer VLAN tag if it has
// one: the kernel takes that off the frame before the bridge gets it.
func etherType(value uint16) match {
	return match{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: first},
		compare(expr.CmpOpEq, binary.BigEndian.AppendUint16(nil, value)),
	}
}

// carries wants a transport protocol, behind any IPv6 extension headers.
func carries(protocol byte) match { return l4proto(expr.CmpOpEq, protocol) }

// carriesNot wants another transport protocol, and that the kernel could tell.
func carriesNot(protocol byte) match { return l4proto(expr.CmpOpNeq, protocol) }

func l4proto(op expr.CmpOp, protocol byte) match {
	return match{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: first}, compare(op, []byte{protocol})}
}

// laterFragment wants an IPv6 fragment that is not the first of its packet.
func laterFragment() match {
	const offsetBits = 0xfff8 // the others say whether there are more
	load := &expr.Exthdr{DestRegister: first, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6}
	return append(match{load}, masked(offsetBits, expr.CmpOpNeq)...)
}

// masked compares some bits of a field of two bytes with zero.
func (f field) masked(bits uint16, op expr.CmpOp) match {
	return append(match{f.load(first)}, masked(bits, op)...)
}

func masked(bits uint16, op expr.CmpOp) match {
	zero := []byte{0, 0}
	return match{
		&expr.Bitwise{
			SourceRegister: first, DestRegister: first, Len: 2,
			Mask: binary.BigEndian.AppendUint16(nil, bits), Xor: zero,
		},
		compare(op, zero),
	}
}

func port() expr.Any { return &expr.Meta{Key: expr.MetaKeyIIF, Register: first} }

// from wants the port to be in a set.
func from(s set) match { return match{port(), lookup(s, false)} }

// notFrom wants the port not to be in a set.
func notFrom(s set) match { return match{port(), lookup(s, true)} }

// allowed wants the port and the field to be in a set.
func (f field) allowed(s set) match { return match{port(), f.load(second), lookup(s, false)} }

// notAllowed wants the port and the field, which the frame must have, not to be
// in a set.
func (f field) notAllowed(s set) match { return match{port(), f.load(second), lookup(s, true)} }

func lookup(s set, invert bool) expr.Any {
	return &expr.Lookup{SourceRegister: first, SetName: s.name(), SetID: uint32(s) + 1, Invert: invert}
}

func (m match) then(verdict expr.Verdict) rule {
	return rule{exprs: append(slices.Clone(m), &verdict)}
}

// to leads to another chain, for good.
func (m match) to(chain string) rule {
	return m.then(expr.Verdict{Kind: expr.VerdictGoto, Chain: chain})
}

// through leads to another chain and back.
func (m match) through(chain string) rule {
	return m.then(expr.Verdict{Kind: expr.VerdictJump, Chain: chain})
}

// pass is the end: the frame is let through.
func (m match) pass() rule { return m.then(expr.Verdict{Kind: expr.VerdictReturn}) }

// drop is the end, too. The rule counts what it drops, and tells why.
func (m match) drop(why string) rule {
	return rule{why, append(slices.Clone(m), &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})}
}

// prioritize gives a frame the priority of its port, if that has one.
func prioritize() rule {
	return rule{exprs: []expr.Any{
		port(),
		&expr.Lookup{
			SourceRegister: first, DestRegister: first, IsDestRegSet: true,
			SetName: priorities.name(), SetID: uint32(priorities) + 1,
		},
		&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: first},
	}}
}
