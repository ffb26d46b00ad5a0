// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// liveSteps are the rest of the ladder, after the probes.
func liveSteps() []step {
	return []step{
		{RungMAC, (*nic).judgeMAC},
		{RungAddress, (*nic).judgeAddress},
		{RungARP, (*nic).judgeARP},
		{RungND, (*nic).judgeND},
		{RungICMP, (*nic).judgeICMP},
		{RungUplink, (*nic).judgeUplink},
		{RungGateway, (*nic).judgeGateway},
		{RungPathMTU, (*nic).judgePathMTU},
		{RungCounters, (*nic).judgeCounters},
	}
}

func (n *nic) judgeMAC() finding {
	mac := n.Want.MAC
	switch {
	case len(n.twins) > 0:
		return finding{
			status: StatusFail, code: CodeMACDuplicate, subject: "MAC " + mac.String(),
			want: "one NIC that has it", got: fmt.Sprintf("%d NICs", len(n.twins)),
			evidence: n.twins,
			fix:      "virsh edit " + quoted(n.guest.Name) + "   # give one of them another",
		}
	case n.macvtap():
		return skip("a macvtap has no forwarding table")
	case n.overlay():
		return skip("OVN learns nothing: logical port %s has the MAC", n.Port.Binding.ID)
	case n.Want.Policy.Learning == vnet.ToggleOff:
		return skip("learning is off on this port")
	case n.fdb.err != nil:
		return unsure("what %s has learned is not known: %v", n.Want.Switch, n.fdb.err)
	}
	here, elsewhere := n.learnedOn()
	switch {
	case here != "" && len(elsewhere) > 0:
		return finding{
			status: StatusFail, code: CodeMACDuplicate,
			want: "learned on " + n.Want.Device + " only", got: "learned on " + here + " and " + strings.Join(elsewhere, ", "),
			evidence: []string{fmt.Sprintf("%s has %s on %s and on %s", n.Want.Switch, mac, here, strings.Join(elsewhere, ", "))},
			fix:      n.showFDB(),
		}
	case here != "" && n.wanders():
		return n.onWrongPort(n.fdb.before[0].Device)
	case here != "":
		return n.learnedHere()
	case len(elsewhere) > 0:
		return n.onWrongPort(strings.Join(elsewhere, ", "))
	}
	return n.neverLearned()
}

func (n *nic) onWrongPort(elsewhere string) finding {
	return finding{
		status: StatusFail, code: CodeMACOnWrongPort,
		want: "learned on " + n.Want.Device, got: "learned on " + elsewhere,
		evidence: []string{
			fmt.Sprintf("%s has %s on %s", n.Want.Switch, n.Want.MAC, elsewhere),
			"another machine behind that port uses it, or the guest is reached through it in a loop",
		},
		fix: n.showFDB(),
	}
}

// wanders reports whether the MAC, which was learned on another port, was
// learned on its own just because the guest spoke: asked, it did not answer, or
// its answers went elsewhere.
func (n *nic) wanders() bool {
	return n.fdb.again && len(n.fdb.before) > 0 && n.fdb.before[0].Device != n.Want.Device && n.probe.asked && !n.probe.target.arp
}

// learnedOn returns the NIC's device when its MAC is learned there, and the
// other devices where it is.
func (n *nic) learnedOn() (here string, elsewhere []string) {
	for _, row := range n.fdb.rows() {
		if row.Device == n.Want.Device {
			here = row.Device
		} else if !slices.Contains(elsewhere, row.Device) {
			elsewhere = append(elsewhere, row.Device)
		}
	}
	slices.Sort(elsewhere)
	return here, elsewhere
}

func (n *nic) learnedHere() finding {
	f := pass(fmt.Sprintf("%s has %s on %s", n.Want.Switch, n.Want.MAC, n.Want.Device))
	switch {
	case !n.fdb.again:
	case len(n.fdb.before) == 0:
		f = f.with("first heard in answer to the probe")
	default:
		f = f.with("was learned on " + n.fdb.before[0].Device + " before the probe")
	}
	return f
}

func (n *nic) neverLearned() finding {
	switch {
	case n.probe.target.arp || n.probe6.target.arp:
		return skip("the guest answers, but %s learns nothing on %s", n.Want.Switch, n.Want.Device)
	case n.probe.lost > 0:
		return tooBusy(n.probe.lost)
	case n.probe.asked && len(n.dropped(false)) > 0:
		return skip("a rule of the host drops frames of the guest or to it, so there may be nothing to learn from")
	case !n.probe.asked && !n.probe6.asked && !n.swept:
		return unsure("silent so far, and it could not be asked: %s", orElse(n.probe.reason, "no address is known"))
	}
	f := finding{
		status: StatusFail, code: CodeMACNotLearned,
		want: "frames from " + n.Want.MAC.String(), got: "not one, not even an answer",
		evidence: n.silence(),
		fix:      "virsh console " + quoted(n.guest.Name) + "   # has it booted, and is its interface up?",
	}
	if n.sent.count > 0 {
		f.got, f.fix = fmt.Sprintf("the guest sends frames, of which %s learns nothing", n.Want.Switch), n.showFDB()
	}
	return f
}

// silence is the evidence that a guest was asked and did not answer.
func (n *nic) silence() []string {
	p := n.probe
	var lines []string
	if n.probe6.asked {
		lines = append(lines, fmt.Sprintf("asked for %s from %s in %s: no neighbour advertisement", n.address6.Addr, n.probe6.vantage, n.segment))
	}
	if p.asked {
		lines = append(lines, fmt.Sprintf("asked for %s from %s in %s: no ARP answer", n.address.Addr, p.vantage, n.segment))
	}
	if _, ok := n.heardAddress(); n.swept && !ok {
		lines = append(lines, fmt.Sprintf("asked for every address of %s: no ARP answer", n.network.Subnet))
	}
	if n.untaken > 0 {
		lines = append(lines, fmt.Sprintf("%d frames were lost in front of %s: the guest does not take them from its queue", n.untaken, n.Want.Device))
	}
	switch {
	case p.asked && !p.target.arp || !n.probe6.asked:
		return append(lines, n.atPort(p)...)
	}
	return append(lines, n.atPort(n.probe6)...)
}

func (n *nic) judgeAddress() finding {
	if n.conflict != nil {
		return *n.conflict
	}
	if n.address.Addr.IsValid() {
		return pass(fmt.Sprintf("%s, from %s", n.address.Addr, n.address.Source))
	}
	if n.address6.Addr.IsValid() {
		return pass(fmt.Sprintf("%s, from %s, and no IPv4 address", n.address6.Addr, n.address6.Source))
	}
	if f, ok := n.judgeDHCP(); ok {
		return f
	}
	f := finding{
		status: StatusFail, code: CodeNoAddress, want: "an IPv4 address", got: "none",
		evidence: n.dhcpEvidence(),
		fix:      "virsh console " + quoted(n.guest.Name) + "   # does it ask for DHCP, or lack a static address?",
	}
	if a := n.selfAssigned(); a.IsValid() {
		f.got = fmt.Sprintf("%s, which the guest gave itself (RFC 3927): nobody served DHCP", a)
		if n.segment != nil && n.segment.dhcp.offer != "" {
			f.got = fmt.Sprintf("%s, which the guest gave itself (RFC 3927)", a)
		}
		return f
	}
	if n.swept {
		return f.with("no address in the spec, from the guest agent or in a DHCP lease",
			fmt.Sprintf("it answers ARP at no address of %s", n.network.Subnet))
	}
	return unsure("no address is known: put it into the spec (guests: %s: nics: address), or install qemu-guest-agent", n.guest.Name)
}

func (n *nic) judgeARP() finding {
	p := n.probe
	switch {
	case !n.address.Addr.IsValid() && n.address6.Addr.IsValid():
		return skip("no IPv4 address of it is known")
	case !n.address.Addr.IsValid():
		return notReached()
	case !p.asked && p.pointless:
		return skip("%s", p.reason)
	case !p.asked:
		return unsure("%s", orElse(p.reason, "it was not asked"))
	case p.target.arp:
		return pass(fmt.Sprintf("%s is at %s, asked from %s in %s", n.address.Addr, n.Want.MAC, p.vantage, n.segment))
	case p.lost > 0:
		return tooBusy(p.lost)
	}
	f := finding{
		status: StatusFail, code: CodeNoARP,
		want: fmt.Sprintf("an answer for %s (%s)", n.address.Addr, n.address.Source), got: "silence",
		evidence: n.silence(),
		fix:      "virsh console " + quoted(n.guest.Name) + "   # ip address: has it " + n.address.Addr.String() + "?",
	}
	if other, ok := n.heardAddress(); ok && other != n.address.Addr {
		f.got = "it uses " + other.String()
	} else if n.mute(p) {
		return n.guestSilent(f.evidence)
	}
	return n.blameRule(f, false)
}

// heardAddress is the address that the guest was heard to use.
func (n *nic) heardAddress() (addr netip.Addr, ok bool) {
	if n.segment == nil || n.segment.prober == nil {
		return addr, false
	}
	addr, ok = n.segment.prober.heard[n.Want.MAC]
	return addr, ok
}

// judgeICMP looks at both versions of IP apart: one is no excuse for the other.
func (n *nic) judgeICMP() finding {
	switch {
	case !n.address.Addr.IsValid() && !n.address6.Addr.IsValid():
		return notReached()
	case !n.address6.Addr.IsValid():
		return n.judgeEcho(n.probe)
	case !n.address.Addr.IsValid():
		return n.judgeEcho(n.probe6)
	}
	return worst(n.judgeEcho(n.probe), n.judgeEcho(n.probe6))
}

func (n *nic) judgeEcho(p probe) finding {
	first, from := "ARP", netip.Addr{}
	if n.segment != nil && n.segment.prober != nil {
		from = n.segment.prober.source
		if p.target.addr.Is6() {
			first, from = "neighbour discovery", n.segment.prober.source6
		}
	}
	switch {
	case !p.asked && n.probe.pointless:
		return skip("%s", n.probe.reason)
	case !p.asked:
		return unsure("%s", orElse(n.probe.reason, "it was not asked"))
	case p.noICMP != "":
		return skip("%s", p.noICMP)
	case p.target.icmp:
		return pass(fmt.Sprintf("%s answered within %v", p.target.addr, p.target.rtt.Round(time.Microsecond)))
	case p.lost > 0:
		return tooBusy(p.lost)
	}
	if f, known := n.echoOverlay(p, first); known {
		return f
	}
	f := finding{
		status: StatusFail, code: CodeICMPFiltered,
		want: fmt.Sprintf("an answer of %s to ICMP echo from %s", p.target.addr, from), got: "silence, though it answers " + first,
		evidence: []string{"a firewall in the guest or a filter of the host drops ICMP, or the guest's route back is wrong"},
		fix:      "virsh console " + quoted(n.guest.Name) + "   # let it answer ping",
	}
	return n.blameRule(f.with(n.atPort(p)...), true)
}

// worst joins the findings about two addresses of a NIC: a failure is one, and
// so is what could not be told. What is skipped for one leaves the other.
func worst(a, b finding) finding {
	for _, status := range []Status{StatusFail, StatusInconclusive} {
		for _, f := range []finding{a, b} {
			if f.status == status {
				return f
			}
		}
	}
	if a.status == StatusSkip && b.status == StatusPass {
		a, b = b, a
	}
	if a.status == StatusPass && b.status == StatusSkip {
		return a.with("half of it only: " + b.reason)
	}
	return a.with(b.evidence...)
}

func (n *nic) judgeGateway() finding {
	gw, g := n.network.Gateway, n.gateway
	switch {
	case !gw.IsValid():
		return skip("network %s has no gateway in the spec", n.Want.Network)
	case gw == n.address.Addr || gw == n.address6.Addr:
		return skip("it is the gateway")
	case gw.Is6() && !g.asked:
		return skip("a gateway with an IPv6 address is asked from a vantage only, and there is none")
	case g.asGuest:
		return n.judgeAsGuest()
	case g.asked && g.answered:
		return pass(fmt.Sprintf("%s answered %s, in the guest's VLAN; it was not asked as the guest", gw, n.segment.device)).
			with(n.gatewayICMP()...)
	case g.asked:
		return n.gatewaySilent()
	}
	return unsure("the gateway could not be asked: %s", orElse(n.probe.reason, "no way to send as the guest"))
}

// judgeAsGuest is for a gateway that was asked as the guest.
func (n *nic) judgeAsGuest() finding {
	gw, g := n.network.Gateway, n.gateway
	switch {
	case g.heard && n.gatewayDead():
		return pass(fmt.Sprintf("%s answered a request sent as the guest", gw)).
			with(fmt.Sprintf("it answers guests, but not %s in %s, whose MAC is of no guest", n.segment.device, n.segment))
	case g.heard:
		return pass(fmt.Sprintf("%s answered a request sent as the guest", gw)).with(n.gatewayICMP()...)
	case !g.entered:
		return unsure("gateway %s: %s", gw, notEntered)
	case g.blind:
		return unsure("gateway %s: %s", gw, unwatched)
	case g.answered:
		return n.blameGateway(n.unreachable(false, fmt.Sprintf("it answers %s in %s, but not the guest on %s", n.probe.vantage, n.segment, n.Want.Device)))
	}
	return n.gatewaySilent()
}

// gatewaySilent is the finding about a gateway that answers neither the vantage
// nor the guest.
func (n *nic) gatewaySilent() finding {
	gw, g := n.network.Gateway, n.gateway
	if n.segment != nil && len(n.segment.askers) > 0 {
		switch other := n.segment.answered(); {
		case other != nil && g.asGuest:
			return n.blameGateway(n.unreachable(false, fmt.Sprintf("it answers %s, but neither %s in %s nor the guest on %s",
				other.guest.Name, n.segment.device, n.segment, n.Want.Device)))
		case other != nil:
			return pass(fmt.Sprintf("%s answered %s, but not %s in %s; it was not asked as the guest", gw, other.guest.Name, n.segment.device, n.segment))
		case g.blind:
			return unsure("gateway %s: %s", gw, unwatched)
		case !slices.ContainsFunc(n.segment.askers, func(a *nic) bool { return a.gateway.entered }):
			return unsure("gateway %s: %s", gw, notEntered)
		}
	}
	if n.probe.lost > 0 {
		return tooBusy(n.probe.lost)
	}
	return n.unreachable(true, fmt.Sprintf("nobody in %s answers %s for %s", n.place(), resolution(gw), gw))
}

// resolution is how the owner of an address is found.
func resolution(a netip.Addr) string { return choose(a.Is6(), "neighbour discovery", "ARP") }

func (n *nic) gatewayICMP() []string {
	if n.gateway.answered && !n.gateway.icmp && n.probe.noICMP == "" {
		return []string{"it does not answer ICMP echo"}
	}
	return nil
}

func (n *nic) unreachable(network bool, evidence string) finding {
	fix := "virt-vnet show network " + quoted(n.Want.Network) + "   # is the uplink up, and the router?"
	return finding{
		status: StatusFail, code: CodeGatewayUnreachable, network: network,
		want: "an answer from gateway " + n.network.Gateway.String(), got: "silence",
		evidence: []string{evidence}, fix: fix,
	}
}

// place names where the NIC looks from, for people.
func (n *nic) place() string {
	if n.segment != nil {
		return n.segment.String()
	}
	return "network " + n.Want.Network
}

// showFDB is the command that shows where the NIC's MAC was learned.
func (n *nic) showFDB() string { return n.showMAC(n.Want.MAC) }

// showMAC is the command that shows where a MAC was learned.
func (n *nic) showMAC(mac vnet.MAC) string {
	if n.overlay() {
		return fmt.Sprintf("ovn-nbctl show %s | grep -i -B1 %s", quoted(n.Want.Network), mac)
	}
	if n.sw != nil && n.sw.Driver == vnet.DriverOVS {
		return fmt.Sprintf("ovs-appctl fdb/show %s | grep -i %s", n.Want.Switch, mac)
	}
	return fmt.Sprintf("bridge fdb show br %s | grep -i %s", n.Want.Switch, mac)
}
