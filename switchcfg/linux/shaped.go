// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"math"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// shapes reads the rates of ports that carry the mark of having some.
func (d *Driver) shapes(ctx context.Context, ports []link) ([]vnet.QoS, error) {
	var asked []rtnl.Message
	for _, l := range ports {
		asked = append(asked,
			tcObject{parent: rootQdisc}.message(unix.RTM_GETQDISC, unix.NLM_F_ECHO, l),
			filterMessage(unix.RTM_GETTFILTER, unix.NLM_F_ECHO, l))
	}
	answers, err := d.conn.SendAll(ctx, asked, 0)
	if err != nil {
		return nil, err
	}
	found := make([]vnet.QoS, len(ports))
	for i := range ports {
		if q, err := parseQdisc(answers[2*i]); err != nil {
			return nil, err
		} else if !q.ours() {
			answers[2*i] = rtnl.Answer{} // nothing of ours
		}
		if found[i].Inbound, err = parseShape(answers[2*i], parseTBF); err != nil {
			return nil, err
		}
		if found[i].Outbound, err = parseShape(answers[2*i+1], parsePolice); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// qdisc is the discipline of a port, towards the guest. The zero qdisc is the
// kernel's own choice.
type qdisc struct {
	kind   string
	handle uint32
}

func (q qdisc) ours() bool { return q.handle == ourQdisc || q.handle == insteadQdisc }

// qdisc looks at the discipline of a port.
func (d *Driver) qdisc(ctx context.Context, l link) (qdisc, error) {
	answers, err := d.conn.SendAll(ctx, []rtnl.Message{
		tcObject{parent: rootQdisc}.message(unix.RTM_GETQDISC, unix.NLM_F_ECHO, l),
	}, 0)
	if err != nil {
		return qdisc{}, err
	}
	return parseQdisc(answers[0])
}

// parseQdisc reads the answer about a discipline. Those that the kernel has
// chosen have no number.
func parseQdisc(a rtnl.Answer) (q qdisc, err error) {
	if errors.Is(a.Err, unix.ENOENT) || errors.Is(a.Err, unix.EINVAL) {
		return q, nil
	}
	for _, payload := range a.Payloads {
		if len(payload) < nl.SizeofTcMsg {
			return q, rtnl.ErrMalformed
		}
		handle := nl.DeserializeTcMsg(payload).Handle
		if handle == 0 {
			continue
		}
		q.handle = handle
		err := rtnl.EachAttr(payload[nl.SizeofTcMsg:], func(kind uint16, value []byte) error {
			if kind == nl.TCA_KIND {
				q.kind = rtnl.Text(value)
			}
			return nil
		})
		if err != nil {
			return q, err
		}
	}
	return q, a.Err
}

// parseShape reads the answer about one discipline or filter. The kernel has
// several ways to say that there is none.
func parseShape(a rtnl.Answer, parse func(kind uint16, value []byte, s *shape) error) (vnet.Rate, error) {
	var s shape
	switch {
	case errors.Is(a.Err, unix.ENOENT), errors.Is(a.Err, unix.EINVAL):
		return vnet.Rate{}, nil
	case a.Err != nil:
		return vnet.Rate{}, a.Err
	}
	for _, payload := range a.Payloads {
		if len(payload) < nl.SizeofTcMsg {
			return vnet.Rate{}, rtnl.ErrMalformed
		}
		err := rtnl.EachAttr(payload[nl.SizeofTcMsg:], func(kind uint16, value []byte) error {
			if kind != nl.TCA_OPTIONS {
				return nil
			}
			return rtnl.EachAttr(value, func(kind uint16, value []byte) error { return parse(kind, value, &s) })
		})
		if err != nil {
			return vnet.Rate{}, err
		}
	}
	return s.limit(), nil
}

// shape is a limit as the kernel keeps it: bytes per second, and how long the
// burst takes at that rate.
type shape struct {
	rate  uint64
	ticks uint32
}

// limit is the shape as we speak of it. The kernel cuts off what is less than a
// tick, and bursts are whole KiB, so the middle of the tick is near enough.
func (s shape) limit() vnet.Rate {
	kib := math.Round((float64(s.ticks) + 0.5) * tick * float64(s.rate) / 1e9 / 1024)
	return vnet.Rate{Bits: vnet.BitRate(s.rate) * 8, Burst: vnet.ByteSize(kib) * 1024}
}

// parseTBF reads the options of a token bucket.
func parseTBF(kind uint16, value []byte, s *shape) error {
	switch kind {
	case nl.TCA_TBF_PARMS:
		return s.parse(value, 0, tbfBufferOffset)
	case nl.TCA_TBF_RATE64:
		s.parseRate64(value)
	}
	return nil
}

// parsePolice reads the options of our filter, down to its policer.
func parsePolice(kind uint16, value []byte, s *shape) error {
	if kind != matchallAct {
		return nil
	}
	return rtnl.EachAttr(value, func(_ uint16, action []byte) error {
		return rtnl.EachAttr(action, func(kind uint16, value []byte) error {
			if kind != nl.TCA_ACT_OPTIONS {
				return nil
			}
			return rtnl.EachAttr(value, func(kind uint16, value []byte) error {
				switch kind {
				case nl.TCA_POLICE_TBF:
					return s.parse(value, policeRate, policeBurst)
				case policeRate64:
					s.parseRate64(value)
				}
				return nil
			})
		})
	})
}

// parse reads the rate and the burst of a kernel structure, at their places.
func (s *shape) parse(parms []byte, spec, burst int) error {
	if len(parms) < max(spec+nl.SizeofTcRateSpec, burst+sizeofTick) {
		return rtnl.ErrMalformed
	}
	s.rate = max(s.rate, uint64(binary.NativeEndian.Uint32(parms[spec+specRate:])))
	s.ticks = binary.NativeEndian.Uint32(parms[burst:])
	return nil
}

// parseRate64 reads a rate that is too high for its place.
func (s *shape) parseRate64(value []byte) {
	if len(value) >= 8 {
		s.rate = max(s.rate, binary.NativeEndian.Uint64(value))
	}
}
