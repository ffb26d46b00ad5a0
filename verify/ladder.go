// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"slices"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// finding is the result of one rung: a rung of the report, and the problem when
// it fails.
type finding struct {
	status   Status
	reason   string
	evidence []string

	code, want, got, fix string
	// network is whether the cause is the network's and not the NIC's, and
	// subject what else it is about.
	network bool
	subject string
}

func pass(evidence ...string) finding { return finding{status: StatusPass, evidence: evidence} }

func skip(format string, args ...any) finding {
	return finding{status: StatusSkip, reason: fmt.Sprintf(format, args...)}
}

func unsure(format string, args ...any) finding {
	return finding{status: StatusInconclusive, reason: fmt.Sprintf(format, args...)}
}

func notReached() finding { return finding{status: StatusNotReached} }

func (f finding) with(evidence ...string) finding {
	f.evidence = append(f.evidence, evidence...)
	return f
}

// step is one rung and how to judge it.
type step struct {
	name  RungName
	judge func(*nic) finding
}

// staticSteps need no probe: they compare what was collected with what is
// wanted, and come out the same however often they are judged in a run.
func staticSteps() []step {
	return []step{
		{RungDomain, (*nic).judgeDomain},
		{RungNIC, (*nic).judgeDevice},
		{RungLink, (*nic).judgeLink},
		{RungSwitch, (*nic).judgeSwitch},
		{RungForwarding, (*nic).judgeForwarding},
		{RungVLAN, (*nic).judgeVLAN},
		{RungIsolated, (*nic).judgeIsolated},
		{RungSettings, (*nic).judgeSettings},
		{RungMTU, (*nic).judgeMTU},
	}
}

// ladderLength is how many steps the whole ladder has: a NIC has room for all
// from the first climb on. The first staticLength of them are static.
const (
	ladderLength = 18
	staticLength = 9
)

// climb walks the steps. The first that fails is the diagnosis, and the rest is
// not reached.
func (n *nic) climb(steps []step, after *nic) {
	n.rungs, n.problem = make([]*Rung, 0, ladderLength), nil
	n.climbOn(steps, after)
}

// climbLive walks the live steps, again or for the first time, after the static
// ones of an earlier climb.
func (n *nic) climbLive(steps []step, after *nic) {
	n.rungs = n.rungs[:staticLength]
	if n.status() != StatusFail {
		n.problem = nil
	}
	n.climbOn(steps, after)
}

// climbOn adds a rung for each step. Where it is that of the NIC after which n
// comes, or nil, both have the same one: with thousands of NICs in a network
// most of what is said of each is said of all.
func (n *nic) climbOn(steps []step, after *nic) {
	for _, s := range steps {
		f := notReached()
		if n.problem == nil && (s.name == RungDomain || !n.idle()) {
			f = n.judge(s)
		}
		rung := Rung{Name: s.name, Status: f.status, Reason: f.reason, Evidence: f.evidence}
		n.rungs = append(n.rungs, rung.shared(after, len(n.rungs)))
		if f.status == StatusFail {
			n.problem = n.newProblem(s.name, f)
		}
	}
}

// shared is r, or the i-th rung of n if that is the same.
func (r Rung) shared(n *nic, i int) *Rung {
	if n != nil && i < len(n.rungs) && n.rungs[i].equal(r) {
		return n.rungs[i]
	}
	own := r // so that r, which mostly is not kept, is no garbage
	return &own
}

func (r Rung) equal(o Rung) bool {
	return r.Name == o.Name && r.Status == o.Status && r.Reason == o.Reason && slices.Equal(r.Evidence, o.Evidence)
}

// broken is the first rung that fails, or "".
func (n *nic) broken() RungName {
	if n.problem == nil {
		return ""
	}
	return n.problem.Rung
}

func (n *nic) brokenAt(rung RungName) bool { return n.broken() == rung }

// plugged reports whether frames can pass the NIC's port at all.
func (n *nic) plugged() bool {
	return n.away == "" && !n.idle() && !slices.Contains([]RungName{RungDomain, RungNIC, RungLink}, n.broken())
}

// wired reports whether the port is where it should be, as far as is known.
func (n *nic) wired() bool {
	return n.plugged() && !slices.Contains([]RungName{RungSwitch, RungForwarding, RungVLAN, RungIsolated}, n.broken())
}

// speaks reports whether frames may be sent in the NIC's name. Not where its
// MAC was never learned, or is learned elsewhere: the switch would learn it from
// us, which hides the fault from the next run and takes frames away from
// whoever else has the MAC.
func (n *nic) speaks() bool {
	for _, r := range n.rungs {
		if r.Name == RungMAC {
			silent := r.Status == StatusInconclusive && n.fdb.err == nil
			return n.plugged() && r.Status != StatusFail && !silent
		}
	}
	return false
}

func (n *nic) judgeDomain() finding {
	if n.running {
		return pass()
	}
	if n.down {
		return skip("%s is expected to be down", n.guest.Name)
	}
	if n.held != "" {
		return unsure("libvirt has paused %s for %s: ask again when that is over", n.guest.Name, n.held)
	}
	got := orElse(n.state, "not running")
	fix := "virsh start " + quoted(n.guest.Name)
	switch {
	case n.guest.UUID == "":
		fix = "virsh list --all   # libvirt does not know " + n.guest.Name + ": is it on another host?"
	case n.state == "paused":
		fix = "virsh resume " + quoted(n.guest.Name)
	}
	return finding{
		status: StatusFail, code: CodeDomainDown, want: "running", got: got,
		evidence: []string{"libvirt: " + n.guest.Name + " is " + got}, fix: fix,
	}
}

func (n *nic) judgeDevice() finding {
	if n.Want.Device == "" {
		return finding{
			status: StatusFail, code: CodeNICMissing,
			want: "a NIC in network " + n.Want.Network, got: "none in the guest's live definition",
			evidence: []string{"libvirt: no NIC of " + n.subject() + " is in network " + n.Want.Network},
			fix:      n.defineNIC(),
		}
	}
	if !n.hasLink {
		return finding{
			status: StatusFail, code: CodeNICMissing,
			want: "device " + n.Want.Device, got: "no such device on this host",
			evidence: append([]string{"libvirt's live definition has " + n.Want.Device + " with MAC " + n.Want.MAC.String()}, n.refusal()...),
			fix:      fmt.Sprintf("virsh destroy %s && virsh start %[1]s", quoted(n.guest.Name)),
		}
	}
	return pass()
}

// defineNIC is the command that gives the guest its NIC.
func (n *nic) defineNIC() string {
	fix := fmt.Sprintf("virt-vnet define interface %s --network %s", quoted(n.guest.Name), quoted(n.Want.Network))
	if n.Want.Portgroup != "" {
		fix += " --portgroup " + quoted(n.Want.Portgroup)
	}
	if !n.Want.MAC.IsZero() {
		fix += " --mac " + n.Want.MAC.String()
	}
	return fix + " --live   # and again with --config, if its definition lacks it too"
}

func (n *nic) judgeLink() finding {
	device := n.Want.Device
	evidence := fmt.Sprintf("%s: libvirt link state %s, device %s, carrier %s",
		device, upDown(!n.LinkDown), upDown(n.link.up), yesNo(n.link.carrier))
	f := finding{status: StatusFail, code: CodeLinkDown, want: "link up", evidence: []string{evidence}}
	switch {
	case n.LinkDown:
		f.got = "link set down in libvirt"
		// Libvirt puts the port back onto its switch for that, without its settings.
		f.fix = fmt.Sprintf("virsh domif-setlink %s %s up && virt-vnet repair %[1]s", quoted(n.guest.Name), device)
	case !n.link.up:
		f.got = "device " + device + " is down"
		f.fix = "ip link set " + device + " up"
	case !n.link.carrier && n.lower != "":
		return n.judgeLower(f)
	case !n.link.carrier:
		f.got = "no carrier: nothing is at the guest's end of " + device
		f.fix = fmt.Sprintf("virsh destroy %s && virsh start %[1]s", quoted(n.guest.Name))
	default:
		return pass(evidence)
	}
	return f
}

// judgeLower is for a macvtap without a carrier: it has that of the device below
// it, which takes all macvtaps there down alike. f is the finding about the link.
func (n *nic) judgeLower(f finding) finding {
	lower := n.host[n.lower]
	f.subject, f.got, f.fix = "uplink "+n.lower, "no carrier on "+n.lower, lookAtCable(n.lower)
	if !lower.up {
		f.got, f.fix = "device "+n.lower+" is down", "ip link set "+n.lower+" up"
	}
	f.evidence = []string{fmt.Sprintf("%s: device %s, carrier %s", n.lower, upDown(lower.up), yesNo(lower.carrier))}
	return f
}

func (n *nic) judgeSwitch() finding {
	if n.macvtap() {
		return n.judgeMacvtap()
	}
	if f, down := n.switchDown(); down {
		return f
	}
	if f, known := n.observed(); !known {
		return f
	}
	switch {
	case n.Port.Switch == n.Want.Switch && n.Port.Refused != "":
		return finding{
			status: StatusFail, code: CodePortRefused, want: "a port that " + n.Want.Switch + " takes up", got: n.Port.Refused,
			evidence: n.refusal(),
			fix:      fmt.Sprintf("ovs-vsctl del-port %s %s && virt-vnet repair %s", n.Want.Switch, n.Want.Device, quoted(n.guest.Name)),
		}
	case n.Port.Switch == n.Want.Switch:
		return pass(n.Want.Device + " is a port of " + n.Want.Switch)
	}
	got := "on switch " + n.Port.Switch
	if n.Port.Switch == "" {
		got = "on no switch"
	}
	return finding{
		status: StatusFail, code: CodeWrongBridge, want: "on switch " + n.Want.Switch, got: got,
		evidence: []string{n.Want.Device + " is " + got},
		fix:      "virt-vnet repair " + quoted(n.guest.Name),
	}
}

// refusal is what the switch says of a port that it does not take up.
func (n *nic) refusal() []string {
	if n.Port == nil || n.Port.Refused == "" {
		return nil
	}
	return []string{fmt.Sprintf("%s: %s: error %q", n.Want.Switch, n.Port.RefusedRow, n.Port.Refused)}
}

// observed returns why the port's settings are not known, or true.
func (n *nic) observed() (finding, bool) {
	switch {
	case n.Want.Switch == "":
		return skip("nothing says which switch it belongs on"), false
	case n.sw != nil && n.sw.Err != nil:
		return unsure("switch %s could not be observed: %v", n.Want.Switch, n.sw.Err), false
	case n.Port == nil:
		return unsure("port %s was not observed", n.Want.Device), false
	}
	return finding{}, true
}

func (n *nic) judgeMacvtap() finding {
	have, want := "no macvtap", fmt.Sprintf("a macvtap on %s in mode %s", n.network.Device, n.network.Macvtap)
	if n.link.macvtap() {
		have = fmt.Sprintf("a macvtap on %s in mode %s", orElse(n.lower, "an unknown device"), n.link.mode)
	}
	switch {
	case n.network.Device == "":
		return skip("nothing says which device it belongs on")
	case have == want:
		return pass(n.Want.Device + " is " + have)
	}
	return finding{
		status: StatusFail, code: CodeWrongBridge, want: want, got: have,
		evidence: []string{n.Want.Device + " is " + have},
		// libvirt attaches a macvtap when the guest starts, and never moves it.
		fix: fmt.Sprintf("virsh destroy %s && virsh start %[1]s", quoted(n.guest.Name)),
	}
}

func (n *nic) judgeVLAN() finding {
	if n.macvtap() {
		return skip("a macvtap is in the VLAN of %s", orElse(n.lower, "its device"))
	}
	if f, known := n.observed(); !known {
		return f
	}
	want, got := n.Want.Policy.VLAN, n.Port.VLAN
	text := "none: this switch has no VLANs"
	if got != nil {
		text = got.String()
	}
	switch {
	case got == nil && want.IsZero():
		return pass("the switch has no VLANs, and none is wanted")
	case got != nil && n.sameVLAN(want, *got):
		return pass("found " + text)
	}
	f := finding{
		status: StatusFail, code: CodeWrongVLAN, want: want.String(), got: text,
		evidence: []string{fmt.Sprintf("%s: port %s is %s, network %s wants %s",
			n.Want.Switch, n.Want.Device, text, n.Want.Network, want)},
		fix: "virt-vnet repair " + quoted(n.guest.Name),
	}
	if got == nil && n.sw != nil && n.sw.Driver == vnet.DriverLinux {
		// That is the bridge's fault, and of all its ports alike.
		f.subject, f.want = "switch "+n.Want.Switch, "VLAN filtering"
		if f.fix = "virt-vnet repair"; !n.sw.Bridge.Owned {
			f.fix = fmt.Sprintf("ip link set %s type bridge vlan_filtering 1 && virt-vnet repair", n.Want.Switch)
		}
	}
	return f
}

// sameVLAN compares memberships. An untagged port is an access port of the VLAN
// that its switch puts such ports in.
func (n *nic) sameVLAN(want, got vnet.VLANSet) bool {
	var untagged vnet.VLANSet
	if n.sw != nil {
		untagged.Access = n.sw.Untagged
	}
	if want.IsZero() {
		want = untagged
	}
	if got.IsZero() {
		got = untagged
	}
	return want.Equal(got)
}

func (n *nic) judgeIsolated() finding {
	if n.macvtap() {
		return skip("a macvtap has no such setting")
	}
	if f, known := n.observed(); !known {
		return f
	}
	want, got := n.Want.Policy.Isolated, n.Port.Isolated == vnet.ToggleOn
	if want == got {
		return pass("isolated: " + onOff(got))
	}
	return finding{
		status: StatusFail, code: CodeWrongIsolation,
		want: "isolated: " + onOff(want), got: "isolated: " + onOff(got),
		evidence: []string{fmt.Sprintf("%s: port %s is isolated: %s", n.Want.Switch, n.Want.Device, onOff(got))},
		fix:      "virt-vnet repair " + quoted(n.guest.Name),
	}
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func upDown(up bool) string { return choose(up, "up", "down") }
func yesNo(yes bool) string { return choose(yes, "yes", "no") }
func onOff(on bool) string  { return choose(on, "on", "off") }

func choose(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}
