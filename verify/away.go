// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"slices"
	"strings"
)

// Guests of other hosts are in the report as their libvirt has them. Their ports
// are not on this machine, so that nothing is seen there or sent in their name. Of
// a network that spans hosts they are asked through the tunnels.

// here drops the NICs whose ports are on other hosts.
func here(nics []*nic) []*nic {
	return slices.DeleteFunc(slices.Clone(nics), func(n *nic) bool { return n.away != "" })
}

// watched reports whether what arrives at the other end of the talk would be seen.
func (t *talk) watched() bool { return t.to != nil && t.to.away == "" }

// judge judges a rung, of a guest of another host as far as it can be from here.
func (n *nic) judge(s step) finding {
	if n.away == "" {
		return s.judge(n)
	}
	elsewhere := skip("%s is on host %s: virt-vnet verify there looks at that", n.guest.Name, n.away)
	switch s.name {
	case RungDomain:
		return n.judgeAwayDomain()
	case RungNIC:
		if n.Want.Device == "" {
			return n.judgeDevice()
		}
		return pass("libvirt of host " + n.away + " has it as " + n.Want.Device)
	case RungLink:
		return n.judgeAwayLink()
	case RungForwarding:
		if n.overlay() {
			return n.judgeAwayBound()
		}
	case RungMAC:
		if len(n.twins) > 0 {
			return s.judge(n)
		}
	case RungAddress, RungARP, RungND, RungICMP, RungPathMTU:
		return n.judgeAsked(s, elsewhere)
	default:
	}
	return elsewhere
}

// judgeAsked judges a rung that takes no more than answers, if there was a place to
// ask from.
func (n *nic) judgeAsked(s step, otherwise finding) finding {
	if n.segment == nil || s.name == RungPathMTU && n.length.want == 0 {
		return otherwise
	}
	f := s.judge(n)
	if f.status == StatusFail {
		f = f.with("it is on host " + n.away)
	}
	return f
}

// awaySilent is the finding about a guest of another host that does not answer: what
// is at fault there only that host can see.
func (n *nic) awaySilent(p probe, first string) finding {
	return finding{
		status: StatusFail, code: CodeUnreachable,
		want: fmt.Sprintf("an answer of %s to ICMP echo through the tunnel", p.target.addr), got: "silence",
		evidence: []string{"OVN answers " + first + " in its place; whether the echo arrived at its port is not seen from here"},
		fix:      fmt.Sprintf("virt-vnet verify %s   # on host %s, which sees what is wrong there", quoted(n.guest.Name), n.away),
	}
}

func (n *nic) judgeAwayDomain() finding {
	f := n.judgeDomain()
	if f.status == StatusFail {
		f = f.with("it is on host " + n.away)
		f.fix += "   # on host " + n.away
	}
	return f
}

func (n *nic) judgeAwayLink() finding {
	evidence := fmt.Sprintf("%s on host %s: libvirt link state %s", n.Want.Device, n.away, upDown(!n.LinkDown))
	if !n.LinkDown {
		return pass(evidence)
	}
	return finding{
		status: StatusFail, code: CodeLinkDown, want: "link up", got: "link set down in libvirt", evidence: []string{evidence},
		fix: fmt.Sprintf("virsh domif-setlink %s %s up && virt-vnet repair %[1]s   # on host %s", quoted(n.guest.Name), n.Want.Device, n.away),
	}
}

// judgeAwayBound is judgeBound for a guest of another host: its port is bound to
// another chassis, which this one has a tunnel to.
func (n *nic) judgeAwayBound() finding {
	o := n.sw.Overlay
	switch {
	case o == nil:
		return unsure("where its port is bound is not known here: %v", n.sw.Err)
	case o.Unknown != nil:
		return unsure("where its port is bound is not known: %v", o.Unknown)
	case n.Port == nil:
		return unsure("where its port is bound is not known: the southbound database did not say")
	}
	b := n.Port.Binding
	repair := "virt-vnet repair " + quoted(n.guest.Name) + "   # on host " + n.away
	f := finding{
		status: StatusFail, code: CodePortNotBound, want: "bound to the chassis of host " + n.away, got: "there is no such logical port",
		evidence: []string{fmt.Sprintf("the southbound database has no port of %s in network %s", n.Want.MAC, n.Want.Network)}, fix: repair,
	}
	if !b.Known {
		return f
	}
	f.evidence = []string{fmt.Sprintf("the southbound database has logical port %s on chassis %s", b.ID, orElse(b.Chassis, "none"))}
	switch {
	case len(b.Requested) > 1:
		return unsure("the guest is on its way from one chassis to another: %s may have its port", strings.Join(b.Requested, " and "))
	case b.Chassis == "":
		f.got = "bound to none"
		return f
	case b.Chassis == o.Chassis:
		f.code, f.got = CodePortElsewhere, "bound to chassis "+b.Chassis+", which is this host"
		return f
	}
	way := o.wayTo([]string{b.Chassis})
	way.evidence = append(f.evidence, way.evidence...)
	return way
}

// askable reports whether a guest of another host can be asked from here.
func (n *nic) askable() bool {
	return n.away != "" && n.overlay() && n.problem == nil && !n.idle() && n.Port != nil && n.Port.Binding.Known
}

// noteAway says which pairs and expectations are not tried from here.
func (r *run) noteAway() []string {
	count := map[string]int{}
	for _, n := range r.nics {
		if n.away != "" && n.running {
			count[n.away]++
		}
	}
	var hosts []string
	for host := range count {
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	var notes []string
	for _, host := range hosts {
		notes = append(notes, fmt.Sprintf("%d NICs of guests are on host %s: nothing was sent in their name, and what must not arrive there "+
			"was not watched; virt-vnet verify on %[2]s does both", count[host], host))
	}
	return notes
}
