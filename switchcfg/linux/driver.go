// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/guard"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Driver is a [switchcfg.Driver], and all that a driver can be besides, for one
// Linux bridge. It belongs to one goroutine at a time.
//
// A context is looked at between messages, which the kernel answers in
// microseconds.
type Driver struct {
	name  string
	sw    vnet.Switch
	conn  *rtnl.Conn
	guard *guard.Conn // nil until it is needed
	// lacksGuards is why there are no guards, or nothing; nil until it is tried.
	lacksGuards *string
	caps        switchcfg.Capabilities
	// hostSides are those of the vantages that need one, by device.
	hostSides map[string]io.Closer
	joinHost  HostJoiner // or nil
}

var (
	_ switchcfg.Driver    = (*Driver)(nil)
	_ switchcfg.Learner   = (*Driver)(nil)
	_ switchcfg.Vantager  = (*Driver)(nil)
	_ switchcfg.Sweeper   = (*Driver)(nil)
	_ switchcfg.Adviser   = (*Driver)(nil)
	_ switchcfg.Inspector = (*Driver)(nil)
)

// HostJoiner lets a macvlan on a bridge and the host see each other, until it is
// closed. The numbers are indices of devices. Package hostside has one.
type HostJoiner func(macvlan int, mac vnet.MAC, bridge int) (io.Closer, error)

// Option changes how [Open] opens a bridge.
type Option func(*Driver)

// WithHostJoiner lets vantages on a bridge with spanning tree do without the
// wait for it, where the host has an address on the bridge.
func WithHostJoiner(join HostJoiner) Option { return func(d *Driver) { d.joinHost = join } }

// Open opens the Linux bridge sw.Name of this network namespace. The error is
// [switchcfg.ErrNoSwitch] when there is no device of that name, or when it is
// no bridge, and says which.
func Open(ctx context.Context, sw vnet.Switch, options ...Option) (*Driver, error) {
	conn, err := rtnl.Dial()
	if err != nil {
		return nil, fmt.Errorf("switch %s: open rtnetlink: %w", sw.Name, rtnl.Translate(err))
	}
	d := &Driver{name: sw.Name, sw: sw, conn: conn, hostSides: map[string]io.Closer{}}
	for _, option := range options {
		option(d)
	}
	bridge, err := d.bridge(ctx)
	if err == nil {
		d.caps, err = d.find(ctx, bridge)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return d, nil
}

// Capabilities implements [switchcfg.Driver].
func (d *Driver) Capabilities() switchcfg.Capabilities { return d.caps }

// Close implements [switchcfg.Driver].
func (d *Driver) Close() error {
	d.conn.Close()
	var errs []error
	for _, h := range d.hostSides {
		errs = append(errs, h.Close())
	}
	if d.guard != nil {
		errs = append(errs, d.guard.Close())
	}
	return errors.Join(errs...)
}

// bridge looks at the bridge itself.
func (d *Driver) bridge(ctx context.Context) (link, error) {
	bridge, _, err := d.look(ctx, nil)
	return bridge, err
}

// look looks at the bridge and at devices, all at once. The link of a device
// that does not exist is zero.
func (d *Driver) look(ctx context.Context, devices []string) (bridge link, links []link, err error) {
	found, err := d.conn.LinksByName(ctx, append([]string{d.name}, devices...)...)
	if err != nil {
		return link{}, nil, fmt.Errorf("switch %s: look it up: %w", d.name, rtnl.Translate(err))
	}
	links = make([]link, len(found))
	for i, base := range found {
		if links[i], err = parseLink(base); err != nil {
			return link{}, nil, fmt.Errorf("switch %s: look up %s: %w", d.name, base.Name, err)
		}
	}
	return links[0], links[1:], d.checkBridge(links[0])
}

// checkBridge returns why l is not the bridge.
func (d *Driver) checkBridge(l link) error {
	switch {
	case !l.Exists():
		return fmt.Errorf("switch %s: %w: there is no device of that name: ip link add %s type bridge",
			d.name, switchcfg.ErrNoSwitch, d.name)
	case l.kind != "bridge":
		return fmt.Errorf("switch %s: %w: the device %s is no Linux bridge but %s",
			d.name, switchcfg.ErrNoSwitch, d.name, l.describe())
	}
	return nil
}

// find works out what the kernel and this bridge can do, without trying: a
// kernel with VLAN filtering reports the bridge's default PVID, others do not.
func (d *Driver) find(ctx context.Context, bridge link) (switchcfg.Capabilities, error) {
	caps := switchcfg.Capabilities{Switch: d.name, Try: d.try, Missing: map[switchcfg.Feature]string{
		switchcfg.FeatureTunnel:    "a Linux bridge cannot put a service tag on the frames of a port (driver: ovs can)",
		switchcfg.FeatureMirror:    "a Linux bridge has no mirrors (driver: ovs has)",
		switchcfg.FeatureBond:      "virt-vnet makes no bonds of the kernel (driver: ovs has its own)",
		switchcfg.FeatureTreePorts: "virt-vnet sets no ports of a Linux bridge's spanning tree (driver: ovs has them)",
		switchcfg.FeatureExport:    "a Linux bridge tells no collectors (driver: ovs does)",
	}}
	reason := ""
	switch {
	case !bridge.vlanAware:
		reason = "this kernel has no bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)"
	case !bridge.filtering() && d.sw.Bridge.VLANFiltering != vnet.ToggleOn:
		reason = fmt.Sprintf("vlan_filtering is off on %s: bridge: {vlan_filtering: true} at the switch in the spec, or: "+
			"ip link set %s type bridge vlan_filtering 1", d.name, d.name)
	default:
		_, err := d.vlans(ctx, bridge.Index)
		if rtnl.IsUnsupported(err) {
			reason = "this kernel cannot list the VLANs of one port (RTM_GETVLAN, Linux 5.6)"
		} else if err != nil {
			return caps, fmt.Errorf("switch %s: list VLANs: %w", d.name, rtnl.Translate(err))
		}
	}
	if reason != "" {
		caps.Missing[switchcfg.FeatureVLAN] = reason
	}
	return caps, nil
}

// tagging reports whether ports of this bridge have VLANs.
func (d *Driver) tagging() bool {
	_, missing := d.caps.Missing[switchcfg.FeatureVLAN]
	return !missing
}
