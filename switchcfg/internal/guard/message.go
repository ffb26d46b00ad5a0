// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/nlconn"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
)

// message is a request to nftables.
type message struct {
	kind    int // NFT_MSG_*, or NFNL_MSG_BATCH_* with res
	flags   uint16
	family  uint8
	res     uint16 // res_id, which only the ends of a transaction have
	seq     uint32
	payload attrs
	what    string // it is about, for errors
}

// newMessage starts a request about the bridge family.
func newMessage(kind int, flags uint16, what string) message {
	return message{kind: kind, flags: flags, family: unix.NFPROTO_BRIDGE, what: what}
}

func batchBegin(generation uint32) message {
	m := message{kind: unix.NFNL_MSG_BATCH_BEGIN, res: unix.NFNL_SUBSYS_NFTABLES}
	if generation != 0 {
		m.payload.number(unix.NFNL_BATCH_GENID, generation)
	}
	return m
}

func batchEnd() message {
	return message{kind: unix.NFNL_MSG_BATCH_END, res: unix.NFNL_SUBSYS_NFTABLES}
}

// Sizes of struct nfgenmsg, and of struct nlmsghdr with it.
const (
	sizeofNfgenmsg = 4
	sizeofHeaders  = unix.SizeofNlMsghdr + sizeofNfgenmsg
)

// appendTo encodes m, which is aligned, as attributes are.
func (m message) appendTo(b []byte) []byte {
	kind := uint16(m.kind)
	if m.res == 0 {
		kind |= unix.NFNL_SUBSYS_NFTABLES << 8
	}
	b = binary.NativeEndian.AppendUint32(b, uint32(sizeofHeaders+len(m.payload)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, m.flags|unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, m.seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // to the kernel
	b = append(b, m.family, unix.NFNETLINK_V0)
	b = binary.BigEndian.AppendUint16(b, m.res)
	return append(b, m.payload...)
}

// attrs is encoded netlink attributes. What nftables has of numbers in them is
// in network byte order.
type attrs []byte

func (a *attrs) add(kind uint16, value []byte) {
	b := binary.NativeEndian.AppendUint16(*a, uint16(unix.SizeofNlAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%unix.NLA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	*a = b
}

func (a *attrs) text(kind uint16, value string) { a.add(kind, append([]byte(value), 0)) }

func (a *attrs) number(kind uint16, value uint32) {
	a.add(kind, binary.BigEndian.AppendUint32(nil, value))
}

func (a *attrs) nest(kind uint16, inner attrs) { a.add(kind|unix.NLA_F_NESTED, inner) }

// comment adds user data that is a comment, as nft writes and shows it: in
// tables, rules and elements alike, its type is zero.
func (a *attrs) comment(kind uint16, text string) {
	a.add(kind, append([]byte{0, byte(len(text) + 1)}, text+"\x00"...))
}

// parseComment returns the comment among user data, or "".
func parseComment(data []byte) string {
	const sizeofHeader = 2
	for len(data) >= sizeofHeader {
		kind, size := data[0], int(data[1])
		if data = data[sizeofHeader:]; size > len(data) {
			break
		}
		if kind == 0 {
			return rtnl.Text(data[:size])
		}
		data = data[size:]
	}
	return ""
}

// add takes in one message of the answer and reports whether it was the last.
func (a *answer) add(r nlconn.Message) (last bool) {
	if r.Flags&unix.NLM_F_DUMP_INTR != 0 {
		a.err = errTorn
	}
	switch {
	case r.Kind == unix.NLMSG_ERROR || r.Kind == unix.NLMSG_DONE:
		if err := r.Errno(); err != nil {
			a.err = err
		}
		return true
	case len(r.Payload) < sizeofNfgenmsg:
		a.err = nlconn.ErrMalformed
	default:
		a.gen = binary.BigEndian.Uint16(r.Payload[2:])
		a.payloads = append(a.payloads, r.Payload[sizeofNfgenmsg:])
	}
	return r.Flags&unix.NLM_F_MULTI == 0
}

// refusal is a request that the kernel did not carry out.
type refusal struct {
	message message // zero when the error is about the transaction
	err     error
}

func (e *refusal) Error() string {
	if e.message.what == "" {
		return fmt.Sprintf("nftables: %v", e.err)
	}
	return fmt.Sprintf("nftables: %s: %v", e.message.what, e.err)
}

func (e *refusal) Unwrap() error { return e.err }
