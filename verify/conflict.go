// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

const (
	// conflictRate bounds the questions that everybody hears, of all segments
	// together, a second.
	conflictRate = 1000
	// maxConflictNICs is the size of a segment up to which they are asked
	// unless [Options.Conflicts] or [Options.Full] says otherwise.
	maxConflictNICs = 256
	// maxRivals bounds what is remembered of a liar with many addresses.
	maxRivals = 8
	// sightings of a rival are enough without an answer to our own question.
	sightings = 3
)

// rival is a machine with another MAC that uses a NIC's address.
type rival struct {
	mac  vnet.MAC
	addr netip.Addr
	// seen is how many frames it was seen to use the address in, and confirmed
	// whether it went on when it was looked at again.
	seen      int
	confirmed bool
	// device is where the switch has learned the rival's MAC, or empty.
	device string
}

// notice looks whether s uses the address of a NIC of the segment that has
// another MAC, or says that it has that one and comes from another.
func (p *prober) notice(s *seen) {
	owner := p.owners[s.sender]
	if owner == nil {
		return
	}
	mac := s.stationMAC()
	if mac == owner.Want.MAC {
		mac = s.src
	}
	if mac != owner.Want.MAC {
		owner.sawRival(mac, s.sender)
	}
}

// stationMAC is the MAC that s says its sender has.
func (s *seen) stationMAC() vnet.MAC {
	if s.senderMAC.IsZero() { // which neighbour discovery allows
		return s.src
	}
	return s.senderMAC
}

func (n *nic) sawRival(mac vnet.MAC, addr netip.Addr) {
	i := slices.IndexFunc(n.rivals, func(r *rival) bool { return r.mac == mac && r.addr == addr })
	switch {
	case i >= 0:
		n.rivals[i].seen++
	case len(n.rivals) < maxRivals:
		n.rivals = append(n.rivals, &rival{mac: mac, addr: addr, seen: 1})
	}
}

// askForRivals asks who else has the guests' addresses (RFC 5227 section 2.4,
// RFC 4861 section 7.2). Answers may take a second: [run.findConflicts] reads
// them when the run has done other things.
func (r *run) askForRivals(ctx context.Context) error {
	return r.each(func(s *segment) error {
		small := len(s.nics) <= maxConflictNICs || r.opts.Full
		if r.opts.Conflicts == vnet.ToggleOff || r.opts.Conflicts == vnet.ToggleLeave && !small {
			return nil
		}
		return s.askEverybody(ctx, r.conflictGap(), 0, func(*nic) bool { return true })
	})
}

func (r *run) conflictGap() time.Duration {
	return time.Second / conflictRate * time.Duration(max(1, len(r.segments)))
}

// findConflicts asks for the addresses again that others were seen to use, and
// judges who still does.
func (r *run) findConflicts(ctx context.Context) error {
	err := r.each(func(s *segment) error { return s.confirmRivals(ctx, r.conflictGap(), r.opts.Timing.Confirm) })
	if err != nil {
		return err
	}
	r.judgeRivals(ctx)
	return nil
}

func (s *segment) confirmRivals(ctx context.Context, gap time.Duration, windows []time.Duration) error {
	// What has come since we last listened is all there already.
	if err := s.prober.attend(ctx, time.Now().Add(paceTick), func(seen) bool { return true }); err != nil {
		return err
	}
	disputed := func(n *nic) bool { return len(n.rivals) > 0 }
	if !slices.ContainsFunc(s.nics, disputed) {
		return nil
	}
	before := map[*rival]int{}
	proxy := false
	for _, n := range s.nics {
		for _, v := range n.rivals {
			before[v] = v.seen
			proxy = proxy || s.gateway != nil && v.mac == s.gateway.mac
		}
	}
	if proxy { // it may answer for all
		disputed = func(*nic) bool { return true }
	}
	for _, window := range windows {
		if err := s.askEverybody(ctx, gap, window, disputed); err != nil {
			return err
		}
	}
	for _, n := range s.nics {
		for _, v := range n.rivals {
			v.confirmed = v.seen > before[v] || v.seen >= sightings
		}
	}
	return nil
}

// askEverybody asks for the addresses of the NICs that are chosen, so that all
// who have one can answer, and listens for some time after the last question.
func (s *segment) askEverybody(ctx context.Context, gap, listen time.Duration, chosen func(*nic) bool) error {
	p := s.prober
	var questions []packet
	for _, n := range s.nics {
		if !chosen(n) {
			continue
		}
		for _, a := range []netip.Addr{n.address.Addr, n.address6.Addr} {
			if a.IsValid() {
				questions = append(questions, p.question(n, a))
			}
		}
	}
	p.replies = len(questions) + batch
	take := func(seen) bool { return true }
	err := p.paced(ctx, len(questions), gap, func(i int) packet { return questions[i] }, take)
	if err != nil {
		return err
	}
	return p.attend(ctx, time.Now().Add(listen), take)
}

// question is for all who have the address. It carries our own, because one
// without (an ARP probe) makes a guest that is about to take the address think
// that we want it.
func (p *prober) question(n *nic, a netip.Addr) packet {
	f := frame{
		kind: frameARPRequest, dst: broadcast, src: p.mac, senderMAC: p.mac, sender: p.source, target: a,
		token: newToken(p.run, purposeConflict, n.index, n.index),
	}
	if a.Is6() {
		f.kind, f.sender = frameSolicitation, p.source6
		_, f.dst = solicitedNode(a)
	}
	return packet{device: p.device, data: f.encode()}
}

// dispute is a NIC whose address a rival uses that may not, and the NIC that the
// rival is, if it is one of ours.
type dispute struct {
	n, other *nic
	rival    *rival
}

// judgeRivals tells the rivals that are none from the others, and makes one
// finding of a disputed address, also for the guest that took it.
func (r *run) judgeRivals(ctx context.Context) {
	disputes := r.disputes(ctx)
	type machine struct {
		segment *segment
		mac     vnet.MAC
	}
	guests := map[machine]int{} // that it answers for
	for _, d := range disputes {
		guests[machine{d.n.segment, d.rival.mac}]++
	}
	for _, d := range disputes {
		if d.n.conflict != nil {
			continue
		}
		f := d.n.conflictWith(d.rival, d.other)
		if count := guests[machine{d.n.segment, d.rival.mac}]; count > 1 && !f.network {
			f = d.withOthers(f, count)
		}
		d.n.conflict = &f
		if d.other != nil && d.other.conflict == nil && d.other.lives(d.rival.addr) {
			d.other.conflict = &f
		}
	}
}

// disputes are the first that each NIC has.
func (r *run) disputes(ctx context.Context) []dispute {
	rows := map[string][]Learned{}
	var list []dispute
	for _, n := range r.nics {
		if n.conflict != nil {
			continue
		}
		for _, v := range n.rivals {
			if !v.confirmed {
				continue
			}
			sw := n.Want.Switch
			if _, dumped := rows[sw]; !dumped && !n.macvtap() && sw != "" {
				rows[sw], _ = r.dump(ctx, sw) // without it there is less evidence
			}
			v.device = n.learnedAt(v.mac, rows[sw])
			if other := r.byMAC(n, v.mac); !n.tolerates(v, other) {
				list = append(list, dispute{n, other, v})
				break
			}
		}
	}
	return list
}

// withOthers makes f, about an address, one about the machine that answers for
// those of several guests.
func (d dispute) withOthers(f finding, guests int) finding {
	f.subject = fmt.Sprintf("network %s, MAC %s", d.n.Want.Network, d.rival.mac)
	if d.other != nil {
		f.subject = d.other.subject()
		f.fix = fmt.Sprintf("virsh console %s   # does it answer ARP for others (sysctl -a --pattern proxy_arp)?", quoted(d.other.guest.Name))
	}
	f.want = "it answers for its own addresses alone"
	f.got = fmt.Sprintf("it answers for the addresses of %d guests too", guests)
	f.evidence = append(f.evidence, fmt.Sprintf("it answers for %s, which is at %s", d.rival.addr, d.n.Want.MAC))
	return f
}

// learnedAt is the device that mac was learned on in the NIC's VLANs.
func (n *nic) learnedAt(mac vnet.MAC, rows []Learned) string {
	for _, row := range rows {
		if row.MAC == mac && !n.overlay() && n.sharesVLAN(row.VLAN) {
			return row.Device
		}
	}
	return ""
}

// byMAC is the NIC with that MAC among n's neighbours, or nil.
func (r *run) byMAC(n *nic, mac vnet.MAC) *nic {
	if n.segment == nil || n.segment.prober == nil {
		return nil
	}
	if other := n.segment.prober.nics[mac]; other != nil {
		return other
	}
	i := slices.IndexFunc(r.nics, func(o *nic) bool { return o.Want.MAC == mac })
	if i < 0 {
		return nil
	}
	return r.nics[i]
}

// tolerates reports whether the rival is the guest itself, or may use the
// address.
func (n *nic) tolerates(v *rival, other *nic) bool {
	allow := n.Want.Policy.Allow
	switch {
	case slices.Contains(allow.MACs, v.mac) || slices.Contains(allow.Addresses, v.addr):
		return true
	case other != nil && other.guest == n.guest:
		// Linux answers for all its addresses on all its interfaces.
		return true
	case v.device != "" && v.device == n.Want.Device:
		return true // something inside of the guest
	case n.Want.Policy.Isolated && n.segment.gateway != nil && v.mac == n.segment.gateway.mac:
		return true // a router between isolated guests (RFC 3069)
	}
	return false
}

// lives reports whether the NIC is at that address rather than at its own.
func (n *nic) lives(addr netip.Addr) bool {
	if addr.Is6() {
		return n.address6.Addr == addr || n.probe6.asked && !n.probe6.target.arp
	}
	return n.address.Addr == addr || !n.address.Addr.IsValid() || n.probe.asked && !n.probe.target.arp
}

func (n *nic) conflictWith(v *rival, other *nic) finding {
	answers := n.probe.target.arp
	if v.addr.Is6() {
		answers = n.probe6.target.arp
	}
	whose := "no guest that is looked at"
	fix := fmt.Sprintf("virsh console %s   # which address is its own?", quoted(n.guest.Name))
	if n.segment.gateway != nil && v.mac == n.segment.gateway.mac {
		return n.proxiedBy(v)
	}
	switch {
	case other != nil:
		whose = other.subject()
		fix = fmt.Sprintf("virsh console %s   # take %s from it", quoted(other.guest.Name), v.addr)
	case n.sw != nil:
		fix = n.showMAC(v.mac)
	}
	f := finding{
		status: StatusFail, code: CodeAddressConflict, subject: fmt.Sprintf("network %s, address %s", n.Want.Network, v.addr),
		want: fmt.Sprintf("%s at %s alone (%s)", v.addr, n.Want.MAC, n.subject()),
		got:  fmt.Sprintf("also at %s", v.mac),
		evidence: []string{
			fmt.Sprintf("%s is of %s, learned on %s", v.mac, whose, orElse(v.device, "a port that is not known")),
			fmt.Sprintf("%d frames of it use the address, asked from %s in %s", v.seen, n.segment.device, n.segment),
		},
		fix: fix,
	}
	if !answers {
		f.got = fmt.Sprintf("at %s, and %s does not answer for it", v.mac, n.Want.MAC)
	}
	return f
}

// proxiedBy is the finding about a gateway that answers for guests of its own
// network (RFC 1027): their neighbours' frames take the way through it.
func (n *nic) proxiedBy(v *rival) finding {
	gateway := n.segment.gateway.addr
	return finding{
		status: StatusFail, code: CodeAddressConflict, network: true,
		want: "the gateway answers for itself alone", got: fmt.Sprintf("gateway %s (%s) answers for guests too", gateway, v.mac),
		evidence: []string{fmt.Sprintf("it answers for %s, which is at %s", v.addr, n.Want.MAC)},
		fix:      "sysctl -a --pattern proxy_arp   # at the gateway: none of them on for this network",
	}
}
