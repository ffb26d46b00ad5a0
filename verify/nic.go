// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"slices"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// nic is a NIC under test: what was collected of it, and what the run finds.
type nic struct {
	// NIC is the inventory's own, which stays as it is.
	*NIC

	// index names the NIC in tokens.
	index int
	guest vnet.GuestRef
	// running and state are of the guest.
	running bool
	state   string
	// held is what libvirt has paused the guest for, or empty.
	held string
	// down is whether the guest is expected not to run.
	down bool
	// away is the host that the guest is on, or empty for this one.
	away string
	// network is the NIC's, or a zero Network when the inventory lacks it.
	network *vnet.Network
	// sw is the switch it should be on, or nil when the inventory lacks it.
	sw *Switch
	// host is all devices of the host.
	host links
	// link is its device, and hasLink whether there is one; lower is the name
	// of the device a macvtap sits on.
	link    link
	hasLink bool
	lower   string
	// twins are the NICs that have the same MAC in the same place, if it is more
	// than this one.
	twins []string
	// selected is whether the report is to have it.
	selected bool

	segment *segment
	address Address
	// address6 is its global IPv6 address, as far as one is known.
	address6 Address
	// swept is whether the guest was asked for every address of its subnet.
	swept bool
	// probe6 is of address6; why neither was asked is in probe.
	probe, probe6 probe
	// sent is what it sent while its port was watched.
	sent traffic
	// rivals use its address, and conflict is the finding about them, if any.
	rivals   []*rival
	conflict *finding
	// dhcp is what was seen of it, where the guest has no address, or nil.
	dhcp *dhcpSeen
	// length is about frames of full length, and latency what was measured.
	length  lengthProbe
	latency *Latency
	// vanished says what became of its device during the run, or is empty.
	vanished string
	// counted is whether the device was looked at again at the end; in and out
	// are what it counted meanwhile.
	counted bool
	// caughtUp is whether it lost frames meanwhile, and none since.
	caughtUp bool
	in, out  flow
	gateway  gatewayProbe
	fdb      fdb
	// drops are what dropped frames to or from it while it was silent, and
	// untaken how many the guest did not take from its queue then.
	drops   []Drop
	untaken uint64

	rungs   []*Rung
	problem *Problem
}

// probe is what a NIC answered to the vantage.
type probe struct {
	// asked is whether it was asked at all; why not is in reason, and
	// pointless says that there is nothing to ask rather than no way to.
	asked     bool
	reason    string
	pointless bool

	target target
	// vantage is the device it was asked from.
	vantage string
	// noICMP says why ICMP was not asked.
	noICMP string
	// watched is whether the port was watched in the slow passes, and
	// delivered how many requests were seen on their way to the guest then.
	watched   bool
	delivered int
	// lost is how many frames the vantage missed in the last of them.
	lost int
}

// gatewayProbe is what the gateway answered.
type gatewayProbe struct {
	// asked and answered are of the vantage, icmp whether it answered echo too.
	asked, answered, icmp bool
	// asGuest is whether it was asked as the guest, entered whether a question
	// was seen at the guest's port, and heard whether the answer arrived there.
	asGuest, entered, heard bool
	// blind is whether frames at the ports went by unseen meanwhile.
	blind bool
}

// fdb is what the switch has learned of a NIC's MAC in the NIC's VLANs.
type fdb struct {
	// err says why it is not known.
	err           error
	before, after []Learned
	// again is whether there was a second look, after.
	again bool
}

// rows are those of the last look.
func (f fdb) rows() []Learned {
	if f.again {
		return f.after
	}
	return f.before
}

func (n *nic) endpoint() Endpoint {
	return Endpoint{Guest: n.guest.Name, MAC: n.Want.MAC, Network: n.Want.Network, Device: n.Want.Device}
}

// subject is what a problem of the NIC is about.
func (n *nic) subject() string {
	name := n.Want.Device
	if name == "" {
		name = n.Want.MAC.String()
	}
	if name == "" {
		return fmt.Sprintf("guest %s, NIC in network %s", n.guest.Name, n.Want.Network)
	}
	return fmt.Sprintf("guest %s, NIC %s", n.guest.Name, name)
}

// macvtap reports whether the NIC is or should be a macvtap.
func (n *nic) macvtap() bool {
	if n.network.Mode != 0 {
		return n.network.Mode == vnet.ModeMacvtap
	}
	return n.hasLink && n.link.macvtap()
}

// pvid is the VLAN that the guest's untagged frames should be in, zero for the
// one of untagged ports.
func (n *nic) pvid() vnet.VLANID {
	id := n.Want.Policy.VLAN.PVID()
	if n.sw != nil && id == n.sw.Untagged {
		return 0
	}
	return id
}

// vlan is the VLANs the port should be in, in words, or "" for none.
func (n *nic) vlan() string {
	if n.Want.Policy.VLAN.IsZero() {
		return ""
	}
	return n.Want.Policy.VLAN.String()
}

// carries reports whether frames of that VLAN should pass the port.
func (n *nic) carries(id vnet.VLANID) bool {
	return id == n.pvid() && n.untagged() || n.Want.Policy.VLAN.Contains(id)
}

// untagged reports whether the guest has a place for its untagged frames: a
// trunk without a native VLAN has none.
func (n *nic) untagged() bool {
	v := n.Want.Policy.VLAN
	return !v.IsTrunk() || v.Native != 0
}

// status is the NIC's, from its rungs.
func (n *nic) status() Status {
	status := StatusPass
	for _, r := range n.rungs {
		switch r.Status {
		case StatusFail, StatusLeak:
			return StatusFail
		case StatusInconclusive:
			status = StatusInconclusive
		case StatusPass, StatusSkip, StatusNotReached:
		}
	}
	return status
}

// newNICs makes the NICs of the inventory ready to be tested, in a fixed order.
func newNICs(inv Inventory, host links, opts Options) []*nic {
	count := 0
	for _, g := range inv.Guests {
		count += len(g.NICs)
	}
	all := make([]*nic, 0, count)
	unknown := &vnet.Network{}
	for _, g := range inv.Guests {
		for i := range g.NICs {
			n := &nic{
				NIC: &g.NICs[i], guest: g.Ref, running: g.Running, state: g.State, held: g.Held, down: g.Down,
				network: unknown, away: g.Host,
			}
			n.attach(inv, host)
			n.address6 = n.globalIPv6()
			n.selected = wanted(opts.Guests, g.Ref.Name) && wanted(opts.Networks, n.Want.Network)
			all = append(all, n)
		}
	}
	slices.SortStableFunc(all, func(a, b *nic) int { return a.endpoint().compare(b.endpoint()) })
	for i, n := range all {
		n.index = i
	}
	findTwins(all)
	return all
}

func wanted(names []string, name string) bool {
	return len(names) == 0 || slices.Contains(names, name)
}

// attach fills in what the inventory and the host have about the NIC.
func (n *nic) attach(inv Inventory, host links) {
	if i := slices.IndexFunc(inv.Networks, func(w vnet.Network) bool { return w.Name == n.Want.Network }); i >= 0 {
		n.network = &inv.Networks[i]
	}
	if i := slices.IndexFunc(inv.Switches, func(s Switch) bool { return s.Name == n.Want.Switch }); i >= 0 {
		n.sw = &inv.Switches[i]
	}
	n.host = host
	if n.Want.Device == "" {
		return
	}
	if n.away == "" {
		n.link, n.hasLink = host[n.Want.Device]
	}
	if n.hasLink && n.link.lower != 0 {
		n.lower, _ = host.byIndex(n.link.lower)
	}
	for _, a := range n.Addresses {
		// An address that a guest gave itself for want of another (RFC 3927)
		// is none that others can use.
		if a.Addr.Is4() && !a.Addr.IsLinkLocalUnicast() {
			n.address = a
			break
		}
	}
}

// place is where a MAC must be unique.
type place struct {
	sw, lower string
	spans     string
	vlan      vnet.VLANID
}

func findTwins(all []*nic) {
	byMAC := make([]*nic, 0, len(all))
	for _, n := range all {
		if n.running && (n.hasLink || n.away != "" && n.overlay()) && !n.Want.MAC.IsZero() {
			byMAC = append(byMAC, n)
		}
	}
	slices.SortStableFunc(byMAC, func(a, b *nic) int { return slices.Compare(a.Want.MAC[:], b.Want.MAC[:]) })
	for len(byMAC) > 0 {
		end := 1
		for end < len(byMAC) && byMAC[end].Want.MAC == byMAC[0].Want.MAC {
			end++
		}
		if end > 1 {
			noteTwins(byMAC[:end])
		}
		byMAC = byMAC[end:]
	}
}

// noteTwins tells those of the same MAC that are in the same place.
func noteTwins(same []*nic) {
	byPlace := map[place][]*nic{}
	for _, n := range same {
		p := place{n.Want.Switch, n.lower, n.spans(), n.pvid()}
		byPlace[p] = append(byPlace[p], n)
	}
	for _, same := range byPlace {
		if len(same) < 2 {
			continue
		}
		var twins []string
		for _, n := range same {
			twins = append(twins, n.subject()+" has "+n.Want.MAC.String())
		}
		for _, n := range same {
			n.twins = twins
		}
	}
}
