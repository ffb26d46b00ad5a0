// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package rtnl

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/nlconn"
)

// message encodes one message of the kernel.
func message(kind, flags uint16, payload ...byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(payload)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, 7) // number
	b = binary.NativeEndian.AppendUint32(b, 0) // port
	return append(b, payload...)
}

// errno encodes a negative errno.
func errno(e unix.Errno) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(-int32(e))) }

func TestAnswer(t *testing.T) {
	t.Parallel()
	const multi = unix.NLM_F_MULTI
	long := message(unix.RTM_NEWLINK, 0)
	long[0]++
	words := append(errno(unix.EINVAL), message(unix.RTM_SETLINK, 0)...)
	words = append(words, 8, 0, 1, 0, 'n', 'o', '!', 0) // NLMSGERR_ATTR_MSG
	for name, c := range map[string]struct {
		datagram []byte
		payloads int
		err      error
		text     string
	}{
		"half a header":        {datagram: long[:8], err: ErrMalformed},
		"longer than all":      {datagram: long, err: ErrMalformed},
		"error without errno":  {datagram: message(unix.NLMSG_ERROR, 0), err: ErrMalformed},
		"error":                {datagram: message(unix.NLMSG_ERROR, 0, errno(unix.ENODEV)...), err: unix.ENODEV},
		"error, words":         {datagram: message(unix.NLMSG_ERROR, unix.NLM_F_ACK_TLVS, words...), err: unix.EINVAL, text: "invalid argument: no!"},
		"error, words cut off": {datagram: message(unix.NLMSG_ERROR, unix.NLM_F_ACK_TLVS, words[:6]...), err: unix.EINVAL, text: "invalid argument"},
		"acknowledgement":      {datagram: message(unix.NLMSG_ERROR, 0, errno(0)...)},
		"one link":             {datagram: message(unix.RTM_NEWLINK, 0), payloads: 1},
		"something else":       {datagram: message(unix.RTM_NEWADDR, 0)},
		"a list": {
			datagram: append(message(unix.RTM_NEWLINK, multi), append(message(unix.RTM_NEWLINK, multi), message(unix.NLMSG_DONE, multi)...)...),
			payloads: 2,
		},
		"a torn list": {
			datagram: append(message(unix.RTM_NEWLINK, multi|unix.NLM_F_DUMP_INTR), message(unix.NLMSG_DONE, multi)...),
			payloads: 1, err: errTorn,
		},
		"a list that failed": {datagram: message(unix.NLMSG_DONE, multi, errno(unix.EOPNOTSUPP)...), err: unix.EOPNOTSUPP},
	} {
		var a Answer
		last := false
		for rest := c.datagram; len(rest) > 0; {
			var r nlconn.Message
			var err error
			if r, rest, err = nlconn.Next(rest); err != nil {
				a.Err, last = err, true
				break
			}
			last = a.add(r, unix.RTM_NEWLINK)
		}
		if !last || len(a.Payloads) != c.payloads || !errors.Is(a.Err, c.err) {
			t.Errorf("%s: got %+v, the last: %v, want %d payloads and error %v", name, a, last, c.payloads, c.err)
		}
		if c.text != "" && a.Err.Error() != c.text {
			t.Errorf("%s: got %q, want %q", name, a.Err, c.text)
		}
	}
}

// FuzzAnswer checks that nothing that could be received makes us panic.
func FuzzAnswer(f *testing.F) {
	f.Add(message(unix.NLMSG_ERROR, unix.NLM_F_ACK_TLVS, errno(unix.EINVAL)...))
	f.Fuzz(func(_ *testing.T, rest []byte) {
		var a Answer
		for len(rest) > 0 {
			var r nlconn.Message
			var err error
			if r, rest, err = nlconn.Next(rest); err != nil {
				return
			}
			a.add(r, 0)
		}
	})
}
