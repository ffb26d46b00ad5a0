// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// maxTraced bounds how many NICs rules are looked for of in one run.
const maxTraced = 4000

// silent are the NICs that owe the vantage an answer.
func (r *run) silent() []*nic {
	var list []*nic
	for _, n := range r.nics {
		if n.probe.asked && !n.probe.target.done() {
			list = append(list, n)
		}
	}
	return list
}

// unheard are the NICs at which something should have arrived, from others or
// their gateway, and did not, and those that it should have come from.
func (m *matrix) unheard() []*nic {
	var list []*nic
	for _, p := range m.pairs {
		if p.expect == ExpectReach && m.reachable(p) && !p.done() {
			list = append(list, p.from, p.to)
		}
	}
	for _, n := range m.nics {
		if n.gateway.asGuest && !n.gateway.heard {
			list = append(list, n)
		}
	}
	return list
}

// tracing does f, and notes at the NICs which rules of the host dropped their
// frames meanwhile, and how many of the frames to them were lost in front of
// their ports. Not being able to look is no failure: then no rule is named.
func (r *run) tracing(ctx context.Context, nics []*nic, f func(context.Context) error) error {
	slices.SortFunc(nics, func(a, b *nic) int { return a.index - b.index })
	nics = here(slices.Compact(nics))
	nics = nics[:min(len(nics), maxTraced)]
	if r.opts.Switches == nil || len(nics) == 0 {
		return f(ctx)
	}
	ports, macs := make([]int, len(nics)), make([]vnet.MAC, len(nics))
	for i, n := range nics {
		ports[i], macs[i] = n.link.index, n.Want.MAC
	}
	before, err := dumpLinks()
	if err != nil {
		return err
	}
	stop, err := r.opts.Switches.WatchDrops(ctx, ports, unique(macs))
	if err != nil {
		r.opts.Log.Info("verify: rules are not traced", "err", err)
		return f(ctx)
	}
	err = f(ctx)
	drops, errStop := stop(context.WithoutCancel(ctx))
	if errStop != nil {
		r.opts.Log.Warn("verify: not every rule is known that dropped frames", "err", errStop)
	}
	if err != nil {
		return err
	}
	after, err := dumpLinks()
	if err != nil {
		return err
	}
	for _, n := range nics {
		name := n.Want.Device
		n.untaken = after[name].out.since(before[name].out).dropped
		for _, d := range drops {
			if d.In == n.link.index || d.Target == n.Want.MAC || d.counted() {
				n.drops = append(n.drops, n.sourced(d)...)
			}
		}
	}
	return nil
}

// sourced is the drop, with whom the frames were from where who counted them
// cannot say: those that the guest was seen to send meanwhile.
func (n *nic) sourced(d Drop) []Drop {
	if d.By != DropByGuard || !d.Source.IsZero() || len(n.sent.foreign) == 0 {
		return []Drop{d}
	}
	var list []Drop
	for _, from := range n.sent.foreign {
		d.Source, d.Sender = from.mac, from.addr
		list = append(list, d)
	}
	return list
}

// counted reports whether the rule is one that only counts and may have dropped
// our frames: as many as one target is sent in a window at least, with
// br_netfilter on.
func (d Drop) counted() bool {
	return d.Source.IsZero() && d.By == DropByHost && d.Frames >= asks && readSysctl(netfilterSysctl) == "1"
}

// netfilterSysctl is the switch of br_netfilter for IPv4.
const netfilterSysctl = "net.bridge.bridge-nf-call-iptables"

// dropped are the rules that keep the vantage and the NIC apart: they dropped
// what the vantage sent to the guest, or what the guest sent there. A guard that
// drops anything of the guest shows that it uses what is not its own.
func (n *nic) dropped(ip bool) []Drop {
	if n.segment == nil || n.segment.prober == nil {
		return nil
	}
	vantage := n.segment.prober.mac
	var list []Drop
	for _, d := range n.drops {
		asked := d.Source == vantage && d.Target == n.Want.MAC
		answered := d.In == n.link.index && (d.Target == vantage || d.By == DropByGuard)
		if d.IP == ip && (asked || answered || d.counted()) {
			list = append(list, d)
		}
	}
	return list
}

// blameRule makes the finding that a guest stays silent one about the rules that
// drop its frames, if there are any.
func (n *nic) blameRule(f finding, ip bool) finding {
	return n.blame(f, n.dropped(ip))
}

// blameGateway makes the finding that the gateway does not answer the guest one
// about the rules that drop the question or the answer, if there are any.
func (n *nic) blameGateway(f finding) finding {
	var list []Drop
	for _, d := range n.drops {
		asked := d.In == n.link.index && d.Source == n.Want.MAC && d.Sender == n.address.Addr
		answered := d.Target == n.Want.MAC && d.Sender == n.network.Gateway
		if !d.IP && (asked || answered) {
			list = append(list, d)
		}
	}
	return n.blame(f, list)
}

// blame makes the finding one about the rules, if there are any.
func (n *nic) blame(f finding, drops []Drop) finding {
	if len(drops) == 0 {
		return f
	}
	b := blame(drops)
	f.code, f.got, f.subject, f.fix = b.code, b.got, b.subject, b.fix
	f.evidence = append(slices.Clone(f.evidence), b.evidence...)
	if b.code == CodeGuardDrops {
		f.want = "frames from its own addresses"
		f.fix = fmt.Sprintf("virsh console %s   # ip address: does it use what the spec says? Else correct guests: or allow: there, and virt-vnet apply",
			quoted(n.guest.Name))
	}
	return f
}

// blameRule does the same for a pair.
func (p *pair) blameRule(problem *Problem) {
	var drops []Drop
	for _, d := range slices.Concat(p.from.drops, p.to.drops) {
		there := d.Source == p.from.Want.MAC && d.Target == p.to.Want.MAC
		back := d.Source == p.to.Want.MAC && d.Target == p.from.Want.MAC
		if (there || back || d.counted()) && d.IP == p.arp {
			drops = append(drops, d)
		}
	}
	if len(drops) == 0 {
		return
	}
	b := blame(drops)
	problem.Code, problem.Got, problem.Fix = b.code, b.got, b.fix
	if b.subject != "" {
		problem.Subject = b.subject
	}
	problem.Evidence = append(problem.Evidence, b.evidence...)
}

// blame is the finding about rules that drop frames: the first kind of them.
func blame(drops []Drop) finding {
	first := slices.MinFunc(drops, func(a, b Drop) int { return int(b.By) - int(a.By) })
	var f finding
	switch first.By {
	case DropByGuard:
		f = finding{code: CodeGuardDrops, got: "its guard drops what it sends" + senders(drops), fix: first.Fix}
	case DropByHost:
		f = finding{
			code: CodeBridgeNetfilter, subject: "br_netfilter",
			got: "the host's firewall drops bridged IP", fix: "sysctl -w " + netfilterSysctl + "=0",
			evidence: []string{"ARP passes and IP does not", netfilterSysctl + " = " + readSysctl(netfilterSysctl)},
		}
	case DropByACL:
		f = finding{code: CodeFiltered, subject: first.Place, got: "dropped by an ACL that is not of the spec", fix: first.Fix}
	case DropByBridge:
		f = finding{code: CodeFiltered, subject: first.Place, got: "dropped by a rule of the host: " + rule(first.Rule), fix: first.Fix}
	}
	for _, d := range drops {
		if d.By == first.By {
			f.evidence = append(f.evidence, fmt.Sprintf("%s: %s", d.Place, rule(d.Rule)))
		}
	}
	f.evidence = unique(f.evidence)
	return f
}

// rule is the text of a rule without what its counter shows, which differs from
// guest to guest.
func rule(text string) string {
	words := strings.Fields(text)
	for i := 0; i+4 < len(words); i++ { // counter packets N bytes N
		if words[i] == "counter" && words[i+1] == "packets" && words[i+3] == "bytes" {
			words = slices.Delete(words, i+1, i+5)
		}
	}
	return strings.Join(words, " ")
}

// senders says where the guest's dropped frames are from.
func senders(drops []Drop) string {
	var from []string
	for _, d := range drops {
		if d.By == DropByGuard && !d.Source.IsZero() {
			text := d.Source.String()
			if d.Sender.IsValid() {
				text += " " + d.Sender.String()
			}
			from = append(from, text)
		}
	}
	if from = sortedUnique(from); len(from) > 0 {
		return ", from " + strings.Join(from, ", ")
	}
	return ""
}

func readSysctl(name string) string {
	text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return "not there"
	}
	return strings.TrimSpace(string(text))
}
