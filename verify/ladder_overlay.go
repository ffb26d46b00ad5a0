// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Overlay is how a switch is doing whose networks span hosts, such as the
// integration bridge of OVN, as far as this host goes: a chassis of it.
type Overlay struct {
	// Chassis is this host's name there.
	Chassis string
	// Control says why ovn-controller of this host does not do its work, or nil.
	Control error
	// Unknown says why the southbound database could not be asked, which knows
	// all below, or nil.
	Unknown error
	// FlowsUnknown says why it is not known whether ports have lost their flows, or
	// nil.
	FlowsUnknown error
	// Registered is whether the chassis is known there, Ends at which addresses,
	// and Astray which of them are none of this host's.
	Registered   bool
	Ends, Astray []string
	Tunnels      []Tunnel
}

// Tunnel is the way to another chassis.
type Tunnel struct {
	Chassis, Remote string
	// Device is the tunnel's port, or empty when there is none, and Fault what
	// is wrong with the tunnel, or empty.
	Device, Fault string
}

// Binding is where the logical port of a NIC is.
type Binding struct {
	// ID is its name, Known whether there is one, and Chassis who has it.
	ID      string
	Known   bool
	Chassis string
	// Requested is which chassis may have it: two while the guest moves.
	Requested []string
	// Installed is whether its flows are in on this host, and Lost whether somebody
	// has removed them since.
	Installed, Lost bool
	// Peers are the other chassis with ports of the network.
	Peers []string
}

// Networks is a [Switches] with switches on which a network has a name and no
// VLAN.
type Networks interface {
	// OpenNetworkVantage makes a device of the host in the network, as
	// OpenVantage does in a VLAN. CloseVantage closes it.
	OpenNetworkVantage(ctx context.Context, sw, network string) (device string, err error)
}

// overlay reports whether the NIC's network spans hosts.
func (n *nic) overlay() bool { return n.sw != nil && n.sw.Driver == vnet.DriverOVN }

// spans is the network that the NIC's broadcasts stay in, on a switch that has
// no VLANs to tell networks apart, or "".
func (n *nic) spans() string {
	if n.overlay() {
		return n.Want.Network
	}
	return ""
}

// openNetworkVantage opens the vantage of a segment that is a network by name.
func (s *segment) openNetworkVantage(ctx context.Context, r *run) (string, error) {
	networks, ok := r.opts.Switches.(Networks)
	if !ok {
		return "", errors.New("no access to the networks of the switch")
	}
	return networks.OpenNetworkVantage(ctx, s.sw, s.spans)
}

// judgeBound is judgeForwarding where frames are forwarded once the port is
// bound to the chassis and its flows are in.
func (n *nic) judgeBound() finding {
	o := n.sw.Overlay
	switch {
	case o == nil:
		return unsure("it is not known how OVN does on this host")
	case n.Port.Binding.ID == "":
		return finding{
			status: StatusFail, code: CodePortNotBound, want: "a logical port", got: "the device has no iface-id",
			evidence: []string{fmt.Sprintf("%s: the interface of %s has no external_ids:iface-id", n.Want.Switch, n.Want.Device)},
			fix:      "virt-vnet repair " + quoted(n.guest.Name),
		}
	case o.Unknown != nil:
		return unsure("whether the port is bound is not known: %v", o.Unknown)
	}
	b := n.Port.Binding
	if b.Chassis != o.Chassis {
		return n.notBound(o, b)
	}
	evidence := fmt.Sprintf("logical port %s is bound to chassis %s", b.ID, o.Chassis)
	switch {
	case b.Lost:
		return finding{
			status: StatusFail, code: CodeFlowsMissing, subject: "chassis " + o.Chassis,
			want: "flows of the logical ports", got: "the integration bridge has lost them",
			evidence: []string{
				evidence, fmt.Sprintf("the interface of %s has external_ids:ovn-installed, and table 0 of %s no flow of it", n.Want.Device, n.Want.Switch),
			},
			fix: "systemctl restart ovn-controller   # which does not notice when others remove its flows; on Debian: ovn-host",
		}
	case b.Installed:
		return pass(evidence + ", and its flows are in")
	case o.Control != nil:
		return o.controlDown().with(evidence, "its flows are not in")
	}
	return finding{
		status: StatusFail, code: CodeFlowsMissing, want: "flows of logical port " + b.ID, got: "none are in on chassis " + o.Chassis,
		evidence: []string{evidence, "the interface of " + n.Want.Device + " has no external_ids:ovn-installed"},
		fix:      "ovn-appctl -t ovn-controller recompute   # then: journalctl -u ovn-controller -u openvswitch-switch",
	}
}

// echoOverlay is the finding about a guest of OVN that does not answer an echo,
// where that is not like elsewhere: the spec has ACLs, and what answered ARP (first)
// was not the guest.
func (n *nic) echoOverlay(p probe, first string) (finding, bool) {
	if !n.overlay() || n.segment == nil || n.segment.prober == nil {
		return finding{}, false
	}
	if rule := intended(n.drops, n.segment.prober.mac, n.Want.MAC); rule != "" {
		return skip("%s drops ICMP to the guest", rule), true
	}
	if n.away != "" {
		return n.blameRule(n.awaySilent(p, first), true), true
	}
	mute := p.watched && p.delivered > 0 && n.sent.count == 0
	return n.guestSilent(append(n.atPort(p), "OVN answers "+first+" in its place; a firewall in it that drops ping looks the same")), mute
}

// notBound says why the port is not on this chassis.
func (n *nic) notBound(o *Overlay, b Binding) finding {
	evidence := fmt.Sprintf("the southbound database has logical port %s on chassis %s", b.ID, orElse(b.Chassis, "none"))
	f := finding{
		status: StatusFail, code: CodePortNotBound, want: "bound to chassis " + o.Chassis, got: "bound to none",
		evidence: []string{evidence},
		fix:      "virt-vnet repair " + quoted(n.guest.Name) + "   # then: journalctl -u ovn-controller",
	}
	if len(b.Requested) > 0 && !slices.Contains(b.Requested, o.Chassis) {
		f = f.with("its options:requested-chassis lets " + strings.Join(b.Requested, " and ") + " have it only")
	}
	switch {
	case len(b.Requested) > 1 && b.Chassis != "" && slices.Contains(b.Requested, o.Chassis):
		return unsure("the guest is on its way from one chassis to another: %s may have its port", strings.Join(b.Requested, " and "))
	case !b.Known:
		f.got, f.evidence = "there is no such logical port", []string{"the southbound database has no logical port " + b.ID}
		f.fix = "virt-vnet repair " + quoted(n.guest.Name) + "   # if the northbound database has it: is ovn-northd running?"
	case b.Chassis != "":
		f.code, f.got = CodePortElsewhere, "bound to chassis "+b.Chassis
		f = f.with(fmt.Sprintf("%s on this host has it as iface-id, too", n.Want.Device))
		f.fix = fmt.Sprintf("ovs-vsctl --bare --columns=name find Interface external_ids:iface-id=%s   # on %s: who has it there? "+
			"If nobody should: virt-vnet repair %s", b.ID, b.Chassis, quoted(n.guest.Name))
	case o.Control != nil:
		return o.controlDown().with(evidence)
	case !o.Registered:
		return o.unregistered().with(evidence)
	}
	return f
}

// controlDown is the finding about ovn-controller.
func (o *Overlay) controlDown() finding {
	return finding{
		status: StatusFail, code: CodeControllerDown, subject: "chassis " + o.Chassis,
		want: "an ovn-controller that is connected", got: "it does not do its work",
		evidence: []string{o.Control.Error(), "guests that were bound before keep what they had; no change reaches this host"},
		fix:      "systemctl restart ovn-controller   # on Debian: ovn-host",
	}
}

func (o *Overlay) unregistered() finding {
	return finding{
		status: StatusFail, code: CodeChassisMissing, subject: "chassis " + o.Chassis,
		want: "a chassis in the southbound database", got: "none of that name",
		evidence: []string{"table Chassis has no " + o.Chassis},
		fix:      "ovs-vsctl get Open_vSwitch . external_ids   # ovn-remote, ovn-encap-type, ovn-encap-ip; then restart ovn-controller",
	}
}

// judgeTunnels is judgeUplink where the way out is the tunnels: to every chassis
// with guests of the network. It is no fault of the NIC.
func (n *nic) judgeTunnels() finding {
	o := n.sw.Overlay
	switch {
	case n.Port == nil || o == nil:
		return unsure("it is not known how OVN does on this host")
	case o.Unknown != nil:
		return unsure("which tunnels there should be is not known: %v", o.Unknown)
	case len(n.Port.Binding.Peers) == 0:
		return skip("no other chassis has ports of network %s", n.Want.Network)
	}
	return o.wayTo(n.Port.Binding.Peers)
}

// wayTo judges the tunnels to other chassis.
func (o *Overlay) wayTo(peers []string) finding {
	if len(o.Astray) > 0 {
		return finding{
			status: StatusFail, code: CodeTunnelDown, subject: "chassis " + o.Chassis,
			want:     "tunnels that end at an address of this host",
			got:      strings.Join(o.Astray, ", ") + " is none",
			evidence: []string{"the southbound database (Encap) sends the others to " + strings.Join(o.Ends, ", ")},
			fix:      "ovs-vsctl set Open_vSwitch . external_ids:ovn-encap-ip=ADDRESS   # one of this host: ip address",
		}
	}
	var up []string
	for _, peer := range peers {
		i := slices.IndexFunc(o.Tunnels, func(t Tunnel) bool { return t.Chassis == peer })
		t := Tunnel{Chassis: peer, Fault: "chassis " + peer + " is not in the southbound database"}
		if i >= 0 {
			t = o.Tunnels[i]
		}
		if t.Fault != "" {
			return o.tunnelDown(t)
		}
		up = append(up, fmt.Sprintf("%s leads to chassis %s at %s", t.Device, t.Chassis, t.Remote))
	}
	return pass(up...)
}

func (o *Overlay) tunnelDown(t Tunnel) finding {
	f := finding{
		status: StatusFail, code: CodeTunnelDown, subject: fmt.Sprintf("tunnel from %s to %s", o.Chassis, t.Chassis),
		want: "a tunnel that is up", got: t.Fault,
		evidence: []string{fmt.Sprintf("chassis %s: address %s, port %s", t.Chassis, orElse(t.Remote, "none"), orElse(t.Device, "none"))},
		fix:      "ovs-vsctl list Interface " + t.Device + "   # error, link_state, bfd_status",
	}
	switch {
	case o.Control != nil:
		f = f.with("ovn-controller of this host, which makes tunnels, does not do its work: " + o.Control.Error())
		f.fix = "systemctl restart ovn-controller   # on Debian: ovn-host"
	case t.Remote == "":
		f.fix = "ovs-vsctl set Open_vSwitch . external_ids:ovn-encap-type=geneve external_ids:ovn-encap-ip=ADDRESS   # on " + t.Chassis
	case t.Device == "":
		f.fix = "ovn-appctl -t ovn-controller recompute   # then: journalctl -u ovn-controller"
	}
	return f
}

// controlProblems are about chassis whose guests are well and yet nobody would
// tell the switch of a change. They are no failure of a guest.
func (r *run) controlProblems() []*Problem {
	byChassis := map[*Overlay]*Problem{}
	var list []*Problem
	for _, n := range r.nics {
		if !n.selected || !n.running || n.away != "" || !n.overlay() || n.sw.Overlay == nil || n.sw.Overlay.Control == nil {
			continue
		}
		o := n.sw.Overlay
		p := byChassis[o]
		if p == nil {
			p = n.newProblem("", o.controlDown())
			p.Affects = nil
			byChassis[o] = p
			list = append(list, p)
		}
		if p.Network != n.Want.Network {
			p.Network = ""
		}
		p.Affects = append(p.Affects, n.endpoint())
	}
	for _, p := range list {
		r.waive(p)
	}
	return list
}

// noteOverlays says which southbound databases could not be asked.
func (r *run) noteOverlays() {
	for _, s := range r.inventory.Switches {
		if s.Overlay != nil {
			r.limit("chassis, bindings and tunnels of "+s.Name+" are not known", s.Overlay.Unknown)
			r.limit("whether "+s.Name+" has lost flows is not known", s.Overlay.FlowsUnknown)
		}
	}
}
