// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Tracer is a [Switches] with switches that can tell what they do with a packet.
type Tracer interface {
	Trace(ctx context.Context, sw string, p Packet) (Traced, error)
}

// Packet is one that comes in by a port of this host and opens a conversation: an
// ICMP echo request, or with a Port the SYN of a TCP connection to that.
type Packet struct {
	Device         string
	Source, Target vnet.MAC
	From, To       netip.Addr
	Port           uint16
}

// Traced is what becomes of a packet.
type Traced struct {
	// Delivered is whether it leaves by a port.
	Delivered bool
	// Stage is what dropped it otherwise, and ACL the rule of the network behind
	// that, or nil.
	Stage string
	ACL   *ACL
}

// ACL is a rule between the guests of a network, as the switch has it.
type ACL struct {
	// ID is what the switch calls it, and Name what people do, if anything.
	ID, Name string
	// Direction, Match and Action are in the switch's words.
	Direction, Match, Action string
	Priority                 int
	// Network is that of the spec which has the rule, or empty for somebody else's.
	Network string
}

// String returns `ACL "in drop tcp ports 22" of network red`.
func (a ACL) String() string {
	name := "ACL " + a.ID
	if a.Name != "" {
		name = fmt.Sprintf("ACL %q", a.Name)
	}
	if a.Network != "" {
		name += " of network " + a.Network
	}
	return name
}

// evidence is the rule and how it was found.
func (t Traced) evidence() []string {
	a := t.ACL
	return []string{
		fmt.Sprintf("ACL %s (%s): %s, priority %d, if %s: %s", a.ID, orElse(a.Name, "without a name"), a.Direction, a.Priority, a.Match, a.Action),
		"ovn-trace ends in " + t.Stage,
	}
}

// fix is a command that shows the rule, or has it go.
func (a ACL) fix() string {
	if a.Network != "" {
		return fmt.Sprintf("virt-vnet show network %s   # correct acls: of the network in the spec, and virt-vnet apply; or what is expected",
			quoted(a.Network))
	}
	return fmt.Sprintf("ovn-nbctl list ACL %s   # virt-vnet has not made it: who has, and is it meant?", a.ID)
}

// Bounds of what is traced in a run, and of the time for each packet: it takes a
// program that reads the whole southbound database.
const (
	maxTraces  = 16
	traceLimit = 5 * time.Second
)

// trace asks what becomes of a packet on the NIC's switch. It is nil where nobody
// can tell.
func (r *run) trace(ctx context.Context, n *nic, p Packet) *Traced {
	tracer, ok := r.opts.Switches.(Tracer)
	if !ok || !n.overlay() || r.traces >= maxTraces || !p.From.IsValid() || !p.To.IsValid() {
		return nil
	}
	r.traces++
	ctx, cancel := context.WithTimeout(ctx, traceLimit)
	defer cancel()
	t, err := tracer.Trace(ctx, n.sw.Name, p)
	if err != nil {
		r.traces = maxTraces // the next would not fare better
		r.limit("no ACL is named", err)
		return nil
	}
	return &t
}

// traceTalks finds out which ACLs keep talks from their end.
func (r *run) traceTalks(ctx context.Context, talks []*talk) {
	for _, t := range talks {
		if t.settled() || t.kind != talkEcho && t.kind != talkTCP || t.hop == nil || !t.hop.known {
			continue
		}
		t.traced = r.trace(ctx, t.from, Packet{
			Device: t.from.Want.Device, Source: t.from.Want.MAC, Target: t.hop.mac, From: t.source, To: t.addr, Port: t.dport,
		})
	}
}

// blameACL makes the problem of a talk one of the ACL that keeps it from its end,
// if there is one.
func (t *talk) blameACL(p *Problem) {
	if t.traced == nil || t.traced.ACL == nil {
		return
	}
	acl := t.traced.ACL
	p.Code, p.Subject, p.Fix = CodeFiltered, acl.String(), acl.fix()
	p.Got = "dropped by an ACL that is not of the spec"
	if acl.Network != "" {
		p.Got = fmt.Sprintf("dropped by the spec itself: acls: of network %s and %s contradict each other", acl.Network, orElse(p.Field, "what is expected"))
	}
	p.Evidence = append(p.Evidence, t.traced.evidence()...)
}

// traceSilent finds out which ACLs keep the vantage's echo from NICs that stay
// silent.
func (r *run) traceSilent(ctx context.Context) {
	for _, n := range r.silent() {
		if p := n.segment.prober; n.overlay() && p != nil && n.probe.target.arp {
			n.noteACL(p.mac, n, r.trace(ctx, n, Packet{
				Device: n.segment.device, Source: p.mac, Target: n.Want.MAC, From: p.source, To: n.probe.target.addr,
			}))
		}
	}
}

// tracePairs does the same for NICs that do not hear each other.
func (m *matrix) tracePairs(ctx context.Context) {
	for _, p := range m.pairs {
		if p.expect == ExpectReach && m.reachable(p) && !p.done() && p.arp {
			p.from.noteACL(p.from.Want.MAC, p.to, m.trace(ctx, p.from, Packet{
				Device: p.from.Want.Device, Source: p.from.Want.MAC, Target: p.to.Want.MAC,
				From: p.from.address.Addr, To: p.to.address.Addr,
			}))
		}
	}
}

// noteACL keeps the ACL that dropped what source sent to a NIC, if there is one.
func (n *nic) noteACL(source vnet.MAC, to *nic, t *Traced) {
	if t == nil || t.ACL == nil {
		return
	}
	n.drops = append(n.drops, Drop{
		Source: source, Target: to.Want.MAC, IP: true, By: DropByACL, Ours: t.ACL.Network != "",
		Place: t.ACL.String(), Rule: fmt.Sprintf("%s, priority %d, if %s: %s", t.ACL.Direction, t.ACL.Priority, t.ACL.Match, t.ACL.Action),
		Fix: t.ACL.fix(),
	})
}

// intended is the rule of the spec that drops ICMP between the two, or "": then
// silence is as the spec wants it.
func intended(drops []Drop, from, to vnet.MAC) string {
	for _, d := range drops {
		if d.By == DropByACL && d.Ours && d.Source == from && d.Target == to {
			return d.Place + " in the spec"
		}
	}
	return ""
}
