// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// maxCandidates is how many addresses are tried before giving up on one of our
// own.
const maxCandidates = 8

// errNoSource means that no address of the subnet is free to ask from.
var errNoSource = errors.New("no address of the subnet is free")

// chooseSource finds an address of subnet that nobody has, to ask from: the
// highest that is not used as far as anybody knows and that nobody answers for
// (RFC 5227 section 2.1.1). It is never announced, so that the only ones to
// learn it are the guests that are asked, and it is defended, as another run may
// look for one too, here or on another host.
func (p *prober) chooseSource(ctx context.Context, subnet netip.Prefix, used func(netip.Addr) bool) error {
	tries := 0
	for addr := lastAddress(subnet).Prev(); tries < maxCandidates && addr.Compare(subnet.Masked().Addr()) > 0; addr = addr.Prev() {
		if used(addr) {
			continue
		}
		d, err := p.listenFor(addr)
		if errors.Is(err, unix.EADDRINUSE) {
			continue // another run on this host asks from it
		} else if err != nil {
			return err
		}
		tries++
		probe := &target{addr: addr}
		err = p.ask(ctx, []*target{probe}, p.timing.WindowMin)
		contested := probe.arp
		if err == nil && !contested {
			contested, err = d.contested(ctx)
		}
		if err != nil || contested {
			if err = errors.Join(err, d.close()); err != nil {
				return err
			}
			continue
		}
		p.source, p.defence = addr, d
		d.begin(ctx)
		return nil
	}
	return fmt.Errorf("%w: %s", errNoSource, subnet)
}

// defence answers whoever asks for the vantage's address, as long as the run
// lasts and whatever it does meanwhile (RFC 5227 section 2.4).
type defence struct {
	*prober

	addr   netip.Addr
	socket *socket
	// claim keeps other runs on this host from the address: a busy host may
	// answer them too late.
	claim net.Listener
	// left is how many answers may yet be given.
	left int

	stop   context.CancelFunc
	done   chan struct{}
	broken error
}

// maxDefences bounds the answers: a flood of requests is none of guests.
const maxDefences = 1000

// listenFor begins to hear who asks for addr. It is EADDRINUSE when another run on
// this host does.
func (p *prober) listenFor(addr netip.Addr) (*defence, error) {
	key := sha256.Sum256([]byte(p.place + " " + addr.String()))
	// Such a name is gone with the process, and is the network namespace's own (unix(7)).
	claim, err := net.Listen("unix", fmt.Sprintf("@virt-vnet-vantage-%x", key))
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", addr, err)
	}
	s, err := listen(listening{device: p.device, inOnly: true, filter: askedForFilter(addr), snap: snapLength})
	if err != nil {
		return nil, errors.Join(err, claim.Close())
	}
	return &defence{prober: p, addr: addr, socket: s, claim: claim, left: maxDefences}, nil
}

func (d *defence) close() error { return errors.Join(d.socket.close(), d.claim.Close()) }

// askedForFilter is the program for ARP requests for an IPv4 address.
func askedForFilter(addr netip.Addr) []unix.SockFilter {
	a := addr.As4()
	return []unix.SockFilter{
		{Code: loadHalf, K: 12},
		{Code: ifEqual, K: etherARP, Jf: 5},
		{Code: loadHalf, K: etherHeader + 6},
		{Code: ifEqual, K: arpRequest, Jf: 3},
		{Code: loadWord, K: etherHeader + 24},
		{Code: ifEqual, K: binary.BigEndian.Uint32(a[:]), Jf: 1},
		{Code: result, K: snapLength},
		{Code: result, K: 0},
	}
}

// contested reports whether somebody else says that the address is its own, or
// looks whether it is free, which it gets if its MAC is the lower one.
func (d *defence) contested(ctx context.Context) (bool, error) {
	contested := false
	err := d.socket.receive(ctx, time.Now().Add(time.Millisecond), func(frames []seen) bool {
		for _, s := range frames {
			probes := !s.sender.IsValid() || s.sender.IsUnspecified()
			if s.src != d.mac && (s.sender == d.addr || probes && bytes.Compare(s.senderMAC[:], d.mac[:]) < 0) {
				contested = true
			}
		}
		return !contested
	})
	return contested, err
}

// begin answers until end.
func (d *defence) begin(ctx context.Context) {
	ctx, d.stop = context.WithCancel(ctx)
	d.done = make(chan struct{})
	go func() {
		defer close(d.done)
		err := d.socket.receive(ctx, time.Time{}, func(frames []seen) bool {
			d.broken = d.socket.send(d.answers(frames))
			return d.broken == nil && d.left > 0
		})
		if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			d.broken = errors.Join(d.broken, err)
		}
		d.broken = errors.Join(d.broken, d.close())
	}()
}

func (d *defence) answers(frames []seen) []packet {
	var list []packet
	for _, s := range frames {
		if s.src == d.mac || d.left == 0 {
			continue
		}
		d.left--
		f := frame{
			kind: frameARPReply, dst: s.src, src: d.mac,
			senderMAC: d.mac, sender: d.addr, targetMAC: s.senderMAC, target: s.sender,
		}
		list = append(list, packet{device: d.device, data: f.encode()})
	}
	return list
}

// end waits until nothing is answered any more. It is told to stop before, so
// that many can at once.
func (d *defence) end() error {
	d.stop()
	<-d.done
	return d.broken
}

// lastAddress is the broadcast address of an IPv4 prefix.
func lastAddress(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

const (
	// maxSweep is the largest subnet, by its prefix length, that is searched
	// for a guest's address.
	maxSweep = 22
	// sweepChunk is how many addresses a guest is asked for at a time, and
	// sweepWindow for how long: more at once overruns a slow guest's queue.
	sweepChunk  = 64
	sweepWindow = 50 * time.Millisecond
)

// sweep asks guests, each alone, for every address of the subnet, and notes in
// heard the one that each answers for. Late answers are waited for as long as
// patience. A guest that answers for several, as a router with proxy ARP does, is
// not believed.
func (p *prober) sweep(ctx context.Context, nics []*nic, subnet netip.Prefix, patience time.Duration) error {
	if !searchable(subnet) {
		return nil
	}
	askees := findable(nics)
	var targets []*target
	found := map[vnet.MAC][]netip.Addr{}
	last := lastAddress(subnet)
	for a := subnet.Masked().Addr().Next(); len(askees) > 0 && a != last; a = a.Next() {
		for _, t := range askees {
			t.addr = a
			targets = append(targets, &t)
		}
		if len(targets) < sweepChunk*len(askees) && a.Next() != last {
			continue
		}
		if err := p.ask(ctx, targets, sweepWindow); err != nil {
			return err
		}
		for _, t := range targets {
			if t.arp {
				found[t.mac] = append(found[t.mac], t.addr)
			}
		}
		targets = targets[:0]
	}
	if err := p.linger(ctx, askees, found, patience); err != nil {
		return err
	}
	for mac, addrs := range found {
		if len(addrs) > 1 {
			delete(p.heard, mac)
		}
	}
	return nil
}

// searchable reports whether there are addresses in a subnet, and not too many.
func searchable(subnet netip.Prefix) bool {
	return subnet.IsValid() && subnet.Addr().Is4() && subnet.Bits() >= maxSweep && subnet.Bits() <= 30
}

// linger adds to found what those answer that have not answered yet.
func (p *prober) linger(ctx context.Context, askees []target, found map[vnet.MAC][]netip.Addr, patience time.Duration) error {
	owing := map[vnet.MAC]bool{}
	for _, t := range askees {
		if len(found[t.mac]) == 0 {
			owing[t.mac] = true
		}
	}
	if len(owing) == 0 || patience == 0 {
		return nil
	}
	return p.attend(ctx, time.Now().Add(patience), func(s seen) bool {
		if s.kind == frameARPReply && owing[s.senderMAC] && !slices.Contains(found[s.senderMAC], s.sender) {
			found[s.senderMAC] = append(found[s.senderMAC], s.sender)
		}
		return slices.ContainsFunc(askees, func(t target) bool { return len(found[t.mac]) == 0 })
	})
}

// findable are the guests that can be asked for many addresses without their
// neighbours hearing all that: a switch floods frames to MACs that it has not
// learned, so that those guests are asked past it.
func findable(nics []*nic) (list []target) {
	for _, n := range nics {
		t := target{index: n.index, mac: n.Want.MAC}
		if n.unlearned() {
			t.via = n.link.index
		}
		if here, _ := n.learnedOn(); t.via != 0 || here != "" || n.macvtap() || n.overlay() {
			n.swept = true
			list = append(list, t)
		}
	}
	return list
}
