// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// maxWatched is how many ports fit into a filter that lets in all of their
// frames. With more, only those that we know are seen.
const maxWatched = 1000

// maxKinds is how many kinds of frames are told apart in the evidence.
const maxKinds = 4

// traffic is what a guest itself sent while its port was watched.
type traffic struct {
	count int
	// kinds are the first few kinds of frames.
	kinds []string
	// foreign are the first few sources that are not the guest's own.
	foreign []source
}

// source is whom a frame says it is from. The address is invalid where it says
// nothing of that.
type source struct {
	mac  vnet.MAC
	addr netip.Addr
}

// note keeps the source of a frame unless it is the NIC's own.
func (t *traffic) note(n *nic, s seen) {
	from := source{s.src, s.sender}
	if len(s.raw) >= etherHeader {
		from.mac = vnet.MAC(s.raw[6:12])
	}
	own := from.mac == n.Want.MAC && (!from.addr.IsValid() || from.addr.IsUnspecified() || from.addr == n.address.Addr || from.addr.Is6())
	if !own && len(t.foreign) < maxKinds && !slices.Contains(t.foreign, from) {
		t.foreign = append(t.foreign, from)
	}
}

func (t *traffic) add(raw []byte) {
	t.count++
	if len(t.kinds) < maxKinds {
		if kind := describe(raw); !slices.Contains(t.kinds, kind) {
			t.kinds = append(t.kinds, kind)
		}
	}
}

// watchPorts hands what passes the ports of nics to take, while f runs. It
// reports whether it saw everything: without the privilege, or when too much
// passed, it did not.
func (r *run) watchPorts(ctx context.Context, nics []*nic, take func(*nic, seen), f func(context.Context) error) (all bool, err error) {
	l := listening{filter: receiveFilter(), snap: snapLength, raw: true}
	byDevice := map[int]*nic{}
	for _, n := range here(nics) {
		byDevice[n.link.index] = n
	}
	if len(byDevice) <= maxWatched {
		l.filter = portFilter(byDevice)
	}
	watch, err := listen(l)
	if err != nil {
		r.limit("ports are not watched", err)
		return false, f(ctx)
	}
	watching, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	var broken error
	done.Go(func() {
		broken = watch.receive(watching, time.Time{}, func(frames []seen) bool {
			for _, s := range frames {
				if n := byDevice[s.device]; n != nil {
					take(n, s)
				}
			}
			return true
		})
	})
	err = f(ctx)
	stop()
	done.Wait()
	if errors.Is(broken, context.Canceled) {
		broken = nil
	}
	return watch.lost() == 0, errors.Join(err, broken, watch.close())
}

// portFilter lets in all frames of some devices.
func portFilter(devices map[int]*nic) []unix.SockFilter {
	filter := []unix.SockFilter{{Code: loadWord, K: anyIndex}}
	for device := range devices {
		filter = append(filter,
			unix.SockFilter{Code: ifEqual, K: uint32(device), Jf: 1}, unix.SockFilter{Code: result, K: snapLength})
	}
	return append(filter, unix.SockFilter{Code: result, K: 0})
}

// watchWhile looks at the ports of silent guests while f asks them: whether
// requests arrive there, and whether the guest sends anything at all.
func (r *run) watchWhile(ctx context.Context, f func(context.Context) error) error {
	var silent []*nic
	for _, n := range r.nics {
		if n.probe.asked && !n.probe.target.done() || n.probe6.asked && !n.probe6.target.done() {
			silent = append(silent, n)
		}
	}
	all, err := r.watchPorts(ctx, silent, r.takeAtPort, f)
	for _, n := range here(silent) {
		n.probe.watched, n.probe6.watched = all, all
	}
	return err
}

func (r *run) takeAtPort(n *nic, s seen) {
	if !n.link.toGuest(s) {
		n.sent.add(s.raw)
		n.sent.note(n, s)
		return
	}
	if s.token.run() != r.id || s.token.to() != n.index {
		return
	}
	switch s.token.purpose() {
	case purposeProbe:
		n.probe.delivered++
	case purposeProbe6:
		n.probe6.delivered++
	default:
	}
}

// atPort is what was seen at the NIC's port while the guest was asked.
func (n *nic) atPort(p probe) []string {
	if !p.watched {
		return nil
	}
	delivered := fmt.Sprintf("%d requests were delivered to %s", p.delivered, n.Want.Device)
	if p.delivered == 0 {
		delivered = fmt.Sprintf("no request was delivered to %s: the switch or a filter of the host drops them", n.Want.Device)
	}
	switch {
	case n.sent.count > 0:
		return []string{delivered, fmt.Sprintf("the guest itself sent %d frames meanwhile: %s", n.sent.count, strings.Join(n.sent.kinds, ", "))}
	case p.delivered > 0:
		return []string{delivered + ": the guest itself is silent"}
	}
	return []string{delivered}
}

// mute reports whether frames arrived at the guest and none came from it, in
// the whole run.
func (n *nic) mute(p probe) bool {
	return p.watched && p.delivered > 0 && n.sent.count == 0 && !n.probe.target.arp && !n.probe6.target.arp
}

// guestSilent is the finding about a mute guest that has spoken before.
func (n *nic) guestSilent(evidence []string) finding {
	return finding{
		status: StatusFail, code: CodeGuestSilent,
		want: "frames from the guest", got: "not one, though requests were delivered",
		evidence: evidence,
		fix:      "virsh console " + quoted(n.guest.Name) + "   # does it hang, is its interface down, or has it no address?",
	}
}

// spanningTree is where bridges send their BPDUs (IEEE 802.1D).
var spanningTree = vnet.MAC{0x01, 0x80, 0xc2}

// describe names what a frame is, for people.
func describe(b []byte) string {
	f, known := decode(b)
	switch {
	case !known:
		return describeOther(b)
	case f.kind == frameARPRequest:
		return "ARP request for " + f.target.String()
	case f.kind == frameARPReply:
		return "ARP answer for " + f.sender.String()
	case f.kind == frameSolicitation:
		return "neighbour solicitation for " + f.target.String()
	case f.kind == frameAdvertisement:
		return "neighbour advertisement for " + f.sender.String()
	case f.kind == frameEchoRequest:
		return "ICMP echo to " + f.target.String()
	}
	return "ICMP echo answer to " + f.target.String()
}

func describeOther(b []byte) string {
	if len(b) < etherHeader {
		return "a frame cut short"
	}
	kind, body := binary.BigEndian.Uint16(b[12:]), b[etherHeader:]
	switch {
	case vnet.MAC(b) == spanningTree:
		return "spanning tree"
	case kind == etherIPv4 && len(body) >= ipHeader:
		to := netip.AddrFrom4([4]byte(body[16:20]))
		if body[9] == protoUDP && len(body) >= ipHeader+udpHeader && binary.BigEndian.Uint16(body[ipHeader+2:]) == portDHCPServer {
			return "DHCP request"
		}
		return fmt.Sprintf("IPv4 from %s to %s", netip.AddrFrom4([4]byte(body[12:16])), to)
	case kind == etherIPv6 && len(body) >= ip6Header:
		return fmt.Sprintf("IPv6 from %s", netip.AddrFrom16([16]byte(body[8:24])))
	}
	return fmt.Sprintf("EtherType %#04x", kind)
}
