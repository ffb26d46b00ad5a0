// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/nlconn"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
)

const (
	// together is how many requests go into one datagram. Each answer takes a
	// page or two of the socket's buffer, which holds some 25 of them; the
	// kernel drops what does not fit.
	together = 16

	// datagramSize is more than the kernel puts into one datagram of a dump.
	datagramSize = 1 << 16

	// sendSize is a datagram that fits into the send buffer of any socket.
	sendSize = 128 << 10
)

// errTorn means that the ruleset changed while the kernel listed it.
var errTorn = errors.New("the ruleset keeps changing")

// socket is a netlink(7) socket of the netfilter family.
type socket struct {
	*nlconn.Socket
	seq uint32 // of the latest request
}

func dial() (*socket, error) {
	s, err := nlconn.Dial(unix.NETLINK_NETFILTER, datagramSize)
	if err != nil {
		return nil, err
	}
	return &socket{Socket: s}, nil
}

// answer is what the kernel says to one request.
type answer struct {
	payloads [][]byte // without the nfgenmsg header
	gen      uint16   // the low half of the ruleset's generation
	err      error    // an errno
}

// ask sends requests that change nothing and returns an answer for each.
func (s *socket) ask(ctx context.Context, requests ...message) ([]answer, error) {
	answers := make([]answer, 0, len(requests))
	for some := range slices.Chunk(requests, together) {
		got, err := s.exchange(ctx, some)
		if err != nil {
			return nil, err
		}
		answers = append(answers, got...)
	}
	return answers, nil
}

// exchange sends one datagram and receives until every request is answered.
func (s *socket) exchange(ctx context.Context, requests []message) ([]answer, error) {
	first := s.seq + 1
	var datagram []byte
	for _, m := range requests {
		datagram = s.number(m).appendTo(datagram)
	}
	answers := make([]answer, len(requests))
	open := len(requests)
	err := s.exchangeAll(ctx, datagram, func(r nlconn.Message) bool {
		i := r.Seq - first
		if i >= uint32(len(answers)) {
			return false // late, for an earlier request
		}
		if answers[i].add(r) {
			open--
		}
		// The kernel says it once, for all requests of the datagram.
		return open == 0 || errors.Is(answers[i].err, unix.EPERM)
	})
	if err == nil && open > 0 {
		err = unix.EPERM
	}
	return answers, err
}

// commit sends requests that the kernel carries out all or none of, in one
// transaction. With a generation other than zero, none if the ruleset has
// another by now (ERESTART). Its error is a [*refusal].
func (s *socket) commit(ctx context.Context, generation uint32, requests []message) error {
	begin := s.number(batchBegin(generation))
	datagram := begin.appendTo(nil)
	start := s.seq
	for i, m := range requests {
		if i == len(requests)-1 {
			m.flags |= unix.NLM_F_ACK // errors come anyway
		}
		datagram = s.number(m).appendTo(datagram)
	}
	last := s.seq
	datagram = s.number(batchEnd()).appendTo(datagram)
	if len(datagram) > sendSize {
		// The whole table with thousands of ports, once. Root may.
		_ = unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*len(datagram))
	}
	var refused *refusal
	err := s.exchangeAll(ctx, datagram, func(r nlconn.Message) bool {
		i := r.Seq - start
		if i > last-start || r.Kind != unix.NLMSG_ERROR {
			return false
		}
		if err := r.Errno(); err != nil && refused == nil {
			refused = &refusal{err: err}
			if i > 0 {
				refused.message = requests[i-1]
			}
		}
		// An error at the beginning is about all, and the only answer.
		return r.Seq == last || i == 0
	})
	if err == nil && refused != nil {
		err = refused
	}
	return err
}

// number gives m the next number.
func (s *socket) number(m message) message {
	s.seq++
	m.seq = s.seq
	return m
}

// exchangeAll sends a datagram and hands over the responses until take has the last.
func (s *socket) exchangeAll(ctx context.Context, datagram []byte, take func(nlconn.Message) (last bool)) error {
	deadline, err := s.Send(ctx, datagram)
	if err != nil {
		return err
	}
	for {
		received, err := s.Receive(deadline)
		if err != nil {
			return err
		}
		for len(received) > 0 {
			var r nlconn.Message
			if r, received, err = nlconn.Next(received); err != nil {
				return err
			}
			if take(r) {
				return nil
			}
		}
	}
}

// generation is the number of the latest change of the namespace's ruleset.
func (s *socket) generation(ctx context.Context) (uint32, error) {
	answers, err := s.ask(ctx, newMessage(unix.NFT_MSG_GETGEN, 0, "generation"))
	if err != nil {
		return 0, err
	}
	if err := answers[0].err; err != nil {
		if errors.Is(err, unix.EINVAL) {
			err = unix.EOPNOTSUPP // the kernel has no nftables
		}
		return 0, err
	}
	generation := uint32(0)
	for _, payload := range answers[0].payloads {
		err = rtnl.EachAttr(payload, func(kind uint16, value []byte) error {
			if kind == unix.NFTA_GEN_ID && len(value) == 4 {
				generation = binary.BigEndian.Uint32(value)
			}
			return nil
		})
	}
	return generation, err
}
