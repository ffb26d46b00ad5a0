// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// segmentKey is what the NICs of one segment have in common.
type segmentKey struct {
	// sw and vlan, or lower of a macvtap network.
	sw, lower string
	vlan      vnet.VLANID
	// spans is the network, where that is what tells segments of a switch apart.
	spans   string
	subnet  netip.Prefix
	gateway netip.Addr
}

// segment is the guests that hear each other's broadcasts and share a subnet,
// with a vantage among them.
type segment struct {
	segmentKey

	nics []*nic
	// device is the vantage, or empty when there is none.
	device string
	prober *prober
	// noICMP says why ICMP over IPv4 cannot be asked, or is empty.
	noICMP  string
	gateway *target
	// askers are the guests that ask for the gateway when it does not answer the
	// vantage: it, or a switch before it, may drop frames from a MAC that it does
	// not know. When one of them is answered all the others ask too.
	askers  []*nic
	targets []*target
	// lengths are the probes of full length, the gateway's among them.
	lengths       []*lengthProbe
	gatewayLength lengthProbe
	// dhcp is our own question, where a guest has no address.
	dhcp dhcpProbe
}

// String names the segment for people.
func (s *segment) String() string {
	switch {
	case s.lower != "":
		return "the macvtap network of " + s.lower
	case s.spans != "":
		return "network " + s.spans + " of " + s.sw
	case s.vlan == 0:
		return "the untagged VLAN of " + s.sw
	}
	return fmt.Sprintf("VLAN %d of %s", s.vlan, s.sw)
}

// segmentFor returns the segment that the NIC can be probed in, or why it
// cannot be.
func (n *nic) segmentFor() (key segmentKey, reason string, pointless bool) {
	key = segmentKey{subnet: n.network.Subnet, gateway: n.network.Gateway}
	switch {
	case n.Want.MAC.IsZero():
		return key, "its MAC is not known", false
	case n.macvtap() && n.link.mode != vnet.MacvtapBridge:
		return key, fmt.Sprintf("macvtap mode %s: nothing on this host can reach the guest", n.link.mode), true
	case n.macvtap():
		key.lower = n.lower
		return key, "", false
	case n.Want.Switch == "":
		return key, "nothing says which switch it belongs on", false
	case !n.untagged():
		return key, "a trunk without a native VLAN: what the guest answers in tagged VLANs is not probed", true
	}
	key.sw, key.vlan, key.spans = n.Want.Switch, n.pvid(), n.spans()
	return key, "", false
}

// group puts the NICs whose ports are as they should be into segments.
func group(nics []*nic) []*segment {
	byKey := map[segmentKey]*segment{}
	var list []*segment
	for _, n := range nics {
		if !n.wired() && !n.askable() {
			continue
		}
		key, reason, pointless := n.segmentFor()
		if reason != "" {
			n.probe.reason, n.probe.pointless = reason, pointless
			continue
		}
		s, ok := byKey[key]
		if !ok {
			s = &segment{segmentKey: key}
			byKey[key] = s
			list = append(list, s)
		}
		s.nics = append(s.nics, n)
		n.segment = s
	}
	return list
}

// selected reports whether the report is to have any of the NICs.
func (s *segment) selected() bool {
	return slices.ContainsFunc(s.nics, func(n *nic) bool { return n.selected })
}

// open makes the vantage, and the socket on it.
func (s *segment) open(ctx context.Context, r *run, number int) error {
	device, err := s.openVantage(ctx, r, number)
	if err != nil {
		return err
	}
	s.device = device
	l, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("vantage %s: %w", device, err)
	}
	p := &prober{
		device: l.Attrs().Index, place: s.String(), mtu: l.Attrs().MTU, run: r.id, timing: r.opts.Timing,
		nics: make(map[vnet.MAC]*nic, len(s.nics)), owners: make(map[netip.Addr]*nic, len(s.nics)),
		heard: make(map[vnet.MAC]netip.Addr, len(s.nics)), unseen: s.spans != "",
	}
	for _, n := range s.nics {
		p.nics[n.Want.MAC] = n
	}
	if _, own := l.(*netlink.Macvlan); own {
		// It receives what is sent to its own MAC only.
		p.mac = vnet.MAC(l.Attrs().HardwareAddr)
		quiet(device)
	} else if p.mac, err = randomMAC(); err != nil {
		return err
	}
	p.source6 = linkLocal(p.mac)
	if p.socket, err = openSocket(p.device); err != nil {
		return err
	}
	s.prober = p
	return nil
}

func (s *segment) openVantage(ctx context.Context, r *run, number int) (string, error) {
	if s.lower != "" {
		return openSibling(r.host[s.lower], number)
	}
	if r.opts.Switches == nil {
		return "", errors.New("no access to the switch")
	}
	if s.spans != "" {
		return s.openNetworkVantage(ctx, r)
	}
	return r.opts.Switches.OpenVantage(ctx, s.sw, s.vlan)
}

// close takes back what open did, as far as it came.
func (s *segment) close(ctx context.Context, r *run) error {
	var errs []error
	if s.prober != nil {
		errs = append(errs, s.prober.socket.close())
		if d := s.prober.defence; d != nil {
			errs = append(errs, d.end())
		}
	}
	switch {
	case s.device == "":
	case s.lower != "":
		errs = append(errs, closeSibling(s.device))
	default:
		errs = append(errs, r.opts.Switches.CloseVantage(ctx, s.sw, s.device))
	}
	return errors.Join(errs...)
}

// randomMAC makes a locally administered address. The vantage device's own
// would make the host's IP stack take the guests' answers and, where it
// forwards, send them on.
func randomMAC() (vnet.MAC, error) {
	var m vnet.MAC
	if _, err := rand.Read(m[:]); err != nil {
		return m, fmt.Errorf("random MAC address: %w", err)
	}
	m[0] = m[0]&^1 | 2
	return m, nil
}

// first asks everybody in one window, after strangers were introduced.
func (s *segment) first(ctx context.Context) error {
	s.targets = make([]*target, 0, len(s.nics)+1)
	for _, n := range s.nics {
		s.addTarget(n)
		s.addTarget6(n)
	}
	if gw := s.segmentKey.gateway; gw.IsValid() {
		s.gateway = &target{index: maxNICs, addr: gw, wantICMP: gw.Is6() || s.prober.source.IsValid()}
		s.targets = append(s.targets, s.gateway)
	}
	if err := s.introduce(ctx); err != nil {
		return err
	}
	return s.prober.ask(ctx, s.targets, s.prober.timing.WindowMin)
}

// settle finds an address to ask from, and those of guests that are not known.
func (s *segment) settle(ctx context.Context, used func(netip.Addr) bool) error {
	if !s.subnet.IsValid() || !s.subnet.Addr().Is4() || s.subnet.Bits() > 30 {
		s.noICMP = "the network has no IPv4 subnet in the spec, so there is no address to ask from"
	} else if err := s.prober.chooseSource(ctx, s.subnet, used); errors.Is(err, errNoSource) {
		s.noICMP = err.Error() + ", so there is none to ask from"
	} else if err != nil {
		return err
	}
	return s.discover(ctx, s.unknown())
}

// unknown are the guests of which no address is known.
func (s *segment) unknown() []*nic {
	var list []*nic
	for _, n := range s.nics {
		if !n.address.Addr.IsValid() {
			list = append(list, n)
		}
	}
	return list
}

// discover finds addresses for guests of which none is known.
func (s *segment) discover(ctx context.Context, unknown []*nic) error {
	// On a busy host one quick pass is not enough to say that there is none.
	for _, patience := range slices.Concat([]time.Duration{0}, s.prober.timing.Confirm) {
		if err := s.prober.sweep(ctx, slices.Clone(unknown), s.subnet, patience); err != nil {
			return err
		}
		unknown = slices.DeleteFunc(unknown, func(n *nic) bool {
			a, heard := s.prober.heard[n.Want.MAC]
			if heard {
				n.address = Address{a, AddressHeard}
			}
			return heard
		})
	}
	return nil
}

func (s *segment) addTarget(n *nic) {
	noICMP := s.noICMP
	addr := n.address.Addr
	if !addr.IsValid() {
		return
	}
	if noICMP == "" && !s.subnet.Contains(addr) {
		noICMP = fmt.Sprintf("%s is outside of the network's subnet %s", addr, s.subnet)
	}
	n.probe.asked, n.probe.vantage, n.probe.noICMP = true, s.device, noICMP
	n.probe.target = target{index: n.index, mac: n.Want.MAC, addr: addr, wantICMP: noICMP == ""}
	s.targets = append(s.targets, &n.probe.target)
	s.prober.owners[addr] = n
}

func (s *segment) addTarget6(n *nic) {
	addr := n.address6.Addr
	if !addr.IsValid() {
		return
	}
	n.probe6.asked, n.probe6.vantage = true, s.device
	// Our own address is link-local, which every guest has a route to.
	n.probe6.target = target{index: n.index, mac: n.Want.MAC, addr: addr, wantICMP: true}
	s.targets = append(s.targets, &n.probe6.target)
	s.prober.owners[addr] = n
}

// silent reports whether anybody owes an answer.
func (s *segment) silent() bool {
	for _, t := range s.targets {
		if !t.done() {
			return true
		}
	}
	return false
}

// confirm asks those again that did not answer, slowly, and then whether they
// have another address.
func (s *segment) confirm(ctx context.Context, windows []time.Duration) error {
	for _, window := range windows {
		asking := s.prober.newAsking(s.targets)
		asking.rouse = true
		if err := asking.ask(ctx, s.targets, window); err != nil {
			return err
		}
	}
	var silent []*nic
	for _, n := range s.nics {
		n.probe.lost, n.probe6.lost = s.prober.lost, s.prober.lost
		// What answers ARP may be the switch.
		if n.probe.asked && (!n.probe.target.arp || s.prober.unseen && !n.probe.target.done()) {
			silent = append(silent, n)
		}
	}
	return s.prober.sweep(ctx, silent, s.subnet, 0)
}
