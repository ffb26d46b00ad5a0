// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/vantage"
	"github.com/virt-vnet/virt-vnet/vnet"
)

const (
	// vethPeer is VETH_INFO_PEER (linux/veth.h).
	vethPeer = 1

	// forwardingLimit bounds the wait for a port on a bridge without spanning
	// tree, where it takes the kernel milliseconds to notice the carrier.
	forwardingLimit = 3 * time.Second
	forwardingPoll  = time.Millisecond
)

// errTooMany means that this process has used up the names of vantages.
var errTooMany = errors.New("this process has too many")

// OpenVantage implements [switchcfg.Vantager]: the device is one end of a veth
// pair whose other end is a port of the bridge, in the VLAN. Both ends carry
// the mark of this process as their alias. OpenVantage returns when the port
// forwards frames: at once, or on a bridge with spanning tree after twice its
// forward delay.
//
// On a bridge with spanning tree, but without VLANs, the device is a macvlan on
// the bridge itself, which need not wait. Where the host has an address on the
// bridge that takes a [HostJoiner].
func (d *Driver) OpenVantage(ctx context.Context, vlan vnet.VLANID) (string, error) {
	if reason, missing := d.caps.Missing[switchcfg.FeatureVLAN]; missing && vlan != 0 {
		return "", fmt.Errorf("%w: %s: %s; cannot look at VLAN %d", switchcfg.ErrUnsupported, d.name, reason, vlan)
	}
	bridge, err := d.bridge(ctx)
	if err != nil {
		return "", err
	}
	if !bridge.Up {
		return "", fmt.Errorf("switch %s is down, so nothing can be seen from it: ip link set %s up", d.name, bridge.Name)
	}
	if err := d.sweep(ctx, bridge); err != nil {
		return "", fmt.Errorf("switch %s: remove left vantages: %w", d.name, rtnl.Translate(err))
	}
	device, err := d.makeVantage(ctx, bridge, vlan)
	if err != nil {
		return "", fmt.Errorf("switch %s: make a vantage: %w", d.name, rtnl.Translate(err))
	}
	return device, nil
}

// CloseVantage implements [switchcfg.Vantager]. A vantage that is gone already
// is closed.
func (d *Driver) CloseVantage(ctx context.Context, device string) error {
	if side := d.hostSides[device]; side != nil {
		delete(d.hostSides, device)
		if err := side.Close(); err != nil {
			return fmt.Errorf("switch %s: close vantage %s: %w", d.name, device, err)
		}
	}
	l, err := d.link(ctx, device)
	if rtnl.IsGone(err) {
		return nil
	}
	if err == nil && !vantage.IsMark(l.Alias) {
		err = fmt.Errorf("%w: it is no vantage", switchcfg.ErrNotOwned)
	}
	if err == nil {
		err = d.removeVantage(ctx, l)
	}
	if err != nil {
		return fmt.Errorf("switch %s: close vantage %s: %w", d.name, device, rtnl.Translate(err))
	}
	return nil
}

func (d *Driver) removeVantage(ctx context.Context, l link) error {
	if l.kind == kindMacvlan {
		return d.removeAbove(ctx, l)
	}
	return d.remove(ctx, l.Index)
}

// sweep removes the vantages of processes that ended without doing so.
func (d *Driver) sweep(ctx context.Context, bridge link) error {
	ports, err := d.ports(ctx, bridge.Index)
	if err != nil {
		return err
	}
	above, err := d.macvlans(ctx, bridge.Index)
	if err != nil {
		return err
	}
	for _, l := range slices.Concat(ports, above) {
		if !vantage.Stale(l.Alias) {
			continue
		}
		if err := d.removeVantage(ctx, l); err != nil && !rtnl.IsGone(err) {
			return err
		}
	}
	return nil
}

// remove deletes a link, and the other end of a pair with it.
func (d *Driver) remove(ctx context.Context, index int) error {
	_, err := d.conn.Send(ctx, rtnl.LinkMessage(unix.RTM_DELLINK, unix.NLM_F_ACK, unix.AF_UNSPEC, index), 0)
	return err
}

func (d *Driver) makeVantage(ctx context.Context, bridge link, vlan vnet.VLANID) (string, error) {
	mark, err := vantage.Mark()
	if err != nil {
		return "", err
	}
	if looksFromAbove(bridge, vlan) {
		device, err := d.lookFromAbove(ctx, mark, bridge)
		if !errors.Is(err, errHostUnseen) {
			return device, err
		}
	}
	device, err := d.makePair(ctx, bridge.MTU)
	if err != nil {
		return "", err
	}
	if err = d.plugPair(ctx, device, mark, bridge, vlan); err == nil {
		err = d.waitForwarding(ctx, peerOf(device), bridge)
	}
	return device, d.giveUp(ctx, device, err)
}

func (d *Driver) lookFromAbove(ctx context.Context, mark string, bridge link) (string, error) {
	device, err := d.makeAbove(ctx, bridge)
	if err != nil {
		return "", err
	}
	if err = d.plugAbove(ctx, device, mark, bridge); err == nil {
		err = d.letSeeHost(ctx, device, bridge)
	}
	return device, d.giveUp(ctx, device, err)
}

// giveUp removes a vantage that came to nothing because of err, if there is one.
// The caller's time may be up, which must not leave the device behind.
func (d *Driver) giveUp(ctx context.Context, device string, err error) error {
	if err == nil {
		return nil
	}
	cleanup := context.WithoutCancel(ctx)
	if l, lookErr := d.link(cleanup, device); lookErr == nil {
		err = errors.Join(err, d.removeVantage(cleanup, l))
	}
	return err
}

// makePair makes a veth pair: the device, and its peer with "p" behind the
// name. Both have the bridge's MTU, because a bridge takes the lowest of its
// ports.
func (d *Driver) makePair(ctx context.Context, mtu int) (string, error) {
	for device := range vantage.Names() {
		peer := nl.NewRtAttr(vethPeer, nil)
		peer.AddChild(nl.NewIfInfomsg(unix.AF_UNSPEC))
		peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(peerOf(device)))
		peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu)))
		info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(unix.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
		info.AddRtAttr(unix.IFLA_INFO_DATA, nil).AddChild(peer)

		m := rtnl.LinkMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, unix.AF_UNSPEC, 0)
		m.Attr(unix.IFLA_IFNAME, nl.ZeroTerminated(device))
		m.Attr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu)))
		m.AddData(info)
		_, err := d.conn.Send(ctx, m, 0)
		if !errors.Is(err, unix.EEXIST) {
			return device, err
		}
	}
	return "", errTooMany
}

func peerOf(device string) string { return device + "p" }

// plugPair marks both ends, keeps them silent, makes the peer a port of the
// bridge, and brings them up.
func (d *Driver) plugPair(ctx context.Context, device, mark string, bridge link, vlan vnet.VLANID) error {
	for _, name := range []string{device, peerOf(device)} {
		l, err := d.link(ctx, name)
		if err != nil {
			return err
		}
		if err := vantage.Quiet(name); err != nil {
			return err
		}
		m := rtnl.UpMessage(l.Index)
		m.Attr(unix.IFLA_IFALIAS, []byte(mark))
		var steps []step
		if name != device {
			m.Attr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(bridge.Index)))
			if vlan != 0 {
				after := switchcfg.Settings{VLAN: &vnet.VLANSet{Access: vlan}}
				steps = encodePort(switchcfg.Settings{}, after, l, bridge)
			}
		}
		for _, s := range append([]step{{name, "", m}}, steps...) {
			if _, err := d.conn.Send(ctx, s.Message, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// waitForwarding waits for the kernel to let frames through a new port.
func (d *Driver) waitForwarding(ctx context.Context, port string, bridge link) error {
	limit := forwardingLimit
	if bridge.bridge.STP == vnet.ToggleOn {
		limit += 2 * bridge.bridge.ForwardDelay
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	poll := time.NewTicker(forwardingPoll)
	defer poll.Stop()
	for {
		l, err := d.link(ctx, port)
		if ctx.Err() == nil && (err != nil || l.forwarding()) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("port %s does not forward: is the bridge up? (ip link set %s up): %w",
				port, bridge.Name, ctx.Err())
		case <-poll.C:
		}
	}
}
