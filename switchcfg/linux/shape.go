// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Rates are kept where tc(8) shows them: towards the guest a token bucket
// (tc-tbf(8)) is the port's queueing discipline, from the guest a policer
// (tc-police(8)) hangs on its ingress. Ours have numbers that nobody else
// chooses; libvirt's, for one, are 1: and the filter 800::800.
const (
	// ourNumber is the major number of the discipline, and the priority and
	// the handle of the filter.
	ourNumber = 0x7676
	ourQdisc  = ourNumber << 16
	// insteadQdisc is ours where noqueue was, which libvirt gives to its taps
	// and which comes back when the rate goes.
	insteadQdisc = ourQdisc + 1<<16
	ingressQdisc = 0xffff0000
	rootQdisc    = 0xffffffff // TC_H_ROOT
	atIngress    = 0xfffffff1 // TC_H_INGRESS
	// ourFilter is the filter's priority and protocol (tcm_info): every frame.
	ourFilter = ourNumber<<16 | uint32(unix.ETH_P_ALL>>8|unix.ETH_P_ALL&0xff<<8)

	// queueTime is how long a frame towards the guest waits at most before it
	// is dropped, besides the burst.
	queueTimeMS = 50

	// tick is the unit of time of queueing disciplines (PSCHED_SHIFT), in
	// nanoseconds.
	tick = 64

	// cellLog lets the policer take frames of up to 255 << 9 bytes, which
	// is more than a guest can hand over at once.
	cellLog = 9

	linkEthernet = 1 // TC_LINKLAYER_ETHERNET: sizes are as they are
	actShot      = 2 // TC_ACT_SHOT: drop

	matchallAct     = 2 // TCA_MATCHALL_ACT
	policeRate64    = 8 // TCA_POLICE_RATE64
	rateTable       = 1024
	sizeofTick      = 4
	firstOfActions  = 1
	tbfBufferOffset = 2*nl.SizeofTcRateSpec + 4 // in struct tc_tbf_qopt
	policeBurst     = 12                        // in struct tc_police
	policeRate      = 20
	specRate        = 8 // in struct tc_ratespec
)

// shapeSteps leads from one port's limits to another's. The error is
// [switchcfg.ErrNotOwned] when somebody else limits the port already.
func (d *Driver) shapeSteps(ctx context.Context, l link, from, to vnet.QoS) ([]step, error) {
	var steps []step
	if from.Inbound != to.Inbound {
		inbound, err := d.inboundStep(ctx, l, to.Inbound)
		if err != nil {
			return nil, err
		}
		steps = append(steps, inbound)
	}
	if from.Outbound == to.Outbound {
		return steps, nil
	}
	others, err := d.otherFilters(ctx, l)
	switch {
	case err != nil:
		return nil, fmt.Errorf("list filters: %w", rtnl.Translate(err))
	case to.Outbound.Bits != 0 && others:
		return nil, fmt.Errorf("%w: somebody else filters what comes from it: tc filter show dev %s ingress", switchcfg.ErrNotOwned, l.Name)
	case to.Outbound.Bits != 0:
		return append(steps, outboundSteps(l, to.Outbound)...), nil
	}
	steps = append(steps, step{l.Name, "take off the outbound rate", filterMessage(unix.RTM_DELTFILTER, unix.NLM_F_ACK, l)})
	if !others {
		steps = append(steps, step{l.Name, "take off the ingress qdisc", ingressMessage(unix.RTM_DELQDISC, unix.NLM_F_ACK, l)})
	}
	return steps, nil
}

// tcObject is a queueing discipline or a filter of a port, by its numbers.
type tcObject struct{ handle, parent, info uint32 }

func (o tcObject) message(kind, flags int, l link) rtnl.Message {
	m := rtnl.NewMessage(kind, flags)
	m.AddData(&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(l.Index), Handle: o.handle, Parent: o.parent, Info: o.info})
	return m
}

// create makes something, or changes it where it is ours already: the kernel goes
// by the number.
const create = unix.NLM_F_CREATE | unix.NLM_F_ACK

// inboundStep sets or takes off the inbound rate, by what is in its place.
func (d *Driver) inboundStep(ctx context.Context, l link, to vnet.Rate) (step, error) {
	found, err := d.qdisc(ctx, l)
	if err != nil {
		return step{}, fmt.Errorf("look at its qdisc: %w", rtnl.Translate(err))
	}
	const take = "take off the inbound rate"
	switch {
	case to.Bits == 0 && found.handle == insteadQdisc:
		m := tcObject{parent: rootQdisc}.message(unix.RTM_NEWQDISC, create|unix.NLM_F_REPLACE, l)
		m.Attr(nl.TCA_KIND, nl.ZeroTerminated(noqueue))
		return step{l.Name, take, m}, nil
	case to.Bits == 0:
		return step{l.Name, take, tcObject{handle: ourQdisc, parent: rootQdisc}.message(unix.RTM_DELQDISC, unix.NLM_F_ACK, l)}, nil
	case found.ours():
		return bucketStep(l, found.handle, create, to), nil
	case found.kind == "":
		return bucketStep(l, ourQdisc, create, to), nil
	case found.kind == noqueue:
		return bucketStep(l, insteadQdisc, create|unix.NLM_F_REPLACE, to), nil
	}
	return step{}, fmt.Errorf("%w: somebody else limits it already, with %s: tc qdisc show dev %s", switchcfg.ErrNotOwned, found.kind, l.Name)
}

// noqueue is the discipline that does nothing (and has no queue).
const noqueue = "noqueue"

// bucketStep makes a token bucket, or changes it.
func bucketStep(l link, handle uint32, flags int, to vnet.Rate) step {
	rate := uint64(to.Bits) / 8
	parms := nl.TcTbfQopt{
		Rate:  rateSpec(rate),
		Limit: uint32(min(uint64(to.Burst)+rate*queueTimeMS/1000, math.MaxUint32)),
	}
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_TBF_PARMS, parms.Serialize())
	options.AddRtAttr(nl.TCA_TBF_BURST, nl.Uint32Attr(uint32(to.Burst)))
	if rate > math.MaxUint32 {
		options.AddRtAttr(nl.TCA_TBF_RATE64, nl.Uint64Attr(rate))
	}
	m := tcObject{handle: handle, parent: rootQdisc}.message(unix.RTM_NEWQDISC, flags, l)
	m.Attr(nl.TCA_KIND, nl.ZeroTerminated("tbf"))
	m.AddData(options)
	return step{l.Name, "set inbound rate " + to.Bits.String(), m}
}

func outboundSteps(l link, to vnet.Rate) []step {
	what := "set outbound rate " + to.Bits.String()
	rate := uint64(to.Bits) / 8
	parms := nl.TcPolice{Action: actShot, Burst: ticks(to.Burst, rate), Rate: rateSpec(rate)}
	action := nl.NewRtAttr(firstOfActions, nil)
	action.AddRtAttr(nl.TCA_ACT_KIND, nl.ZeroTerminated("police"))
	options := action.AddRtAttr(nl.TCA_ACT_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_POLICE_TBF, parms.Serialize())
	options.AddRtAttr(nl.TCA_POLICE_RATE, make([]byte, rateTable)) // of no use to this link layer, and required
	if rate > math.MaxUint32 {
		options.AddRtAttr(policeRate64, nl.Uint64Attr(rate))
	}
	filter := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	filter.AddRtAttr(matchallAct, nil).AddChild(action)
	m := filterMessage(unix.RTM_NEWTFILTER, create, l)
	m.AddData(filter)
	return []step{
		{l.Name, what, ingressMessage(unix.RTM_NEWQDISC, create, l)},
		{l.Name, what, filterMessage(unix.RTM_DELTFILTER, unix.NLM_F_ACK, l)}, // this kind cannot be changed
		{l.Name, what, m},
	}
}

func ingressMessage(kind, flags int, l link) rtnl.Message {
	m := tcObject{handle: ingressQdisc, parent: atIngress}.message(kind, flags, l)
	m.Attr(nl.TCA_KIND, nl.ZeroTerminated("ingress"))
	return m
}

func filterMessage(kind, flags int, l link) rtnl.Message {
	m := tcObject{handle: ourNumber, parent: ingressQdisc, info: ourFilter}.message(kind, flags, l)
	m.Attr(nl.TCA_KIND, nl.ZeroTerminated("matchall"))
	return m
}

// rateSpec is a rate in bytes per second; one that is too high for the field is
// in an attribute of its own.
func rateSpec(rate uint64) nl.TcRateSpec {
	return nl.TcRateSpec{CellLog: cellLog, Linklayer: linkEthernet, Rate: uint32(min(rate, math.MaxUint32))}
}

// ticks is the time that burst bytes take at the rate.
func ticks(burst vnet.ByteSize, rate uint64) uint32 {
	return uint32(min(float64(burst)*1e9/float64(rate)/tick, math.MaxUint32))
}

// otherFilters reports whether somebody else has a filter on the ingress of l.
func (d *Driver) otherFilters(ctx context.Context, l link) (bool, error) {
	answers, err := d.conn.Dump(ctx, func() rtnl.Message {
		return tcObject{parent: ingressQdisc}.message(unix.RTM_GETTFILTER, unix.NLM_F_DUMP, l)
	}, unix.RTM_NEWTFILTER)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return false, nil // no such discipline
	}
	for _, answer := range answers {
		if len(answer) < nl.SizeofTcMsg || nl.DeserializeTcMsg(answer).Info>>16 != ourNumber {
			return true, err
		}
	}
	return false, err
}

// translate turns the kernel's refusal of a step into the error that callers
// test for.
func (d *Driver) translate(s step, err error) error {
	switch kind := s.Type; {
	case kind == unix.RTM_NEWQDISC && errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: somebody else limits it since it was looked at: tc qdisc show dev %s", switchcfg.ErrNotOwned, s.device)
	case (kind == unix.RTM_NEWQDISC || kind == unix.RTM_NEWTFILTER) && errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: %w (this kernel lacks sch_tbf, sch_ingress, cls_matchall or act_police)", switchcfg.ErrUnsupported, err)
	case (kind == unix.RTM_DELQDISC || kind == unix.RTM_DELTFILTER) && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL)):
		return nil
	}
	return rtnl.Translate(err)
}
