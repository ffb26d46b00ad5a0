// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Keys of external_ids in the northbound database that are ours. An object of a
// network has the network's name; a guest's port the guest and the NIC, too.
const (
	keyGuest   = ovsdb.KeyGuest
	keyMAC     = ovsdb.KeyMAC
	keyNetwork = ovsdb.KeyNetwork
)

// Driver is a [switchcfg.Driver] for the chassis of OVN on this host. It belongs
// to one goroutine at a time.
//
// A connection that breaks, or that a context interrupts, fails the call at once
// with [switchcfg.ErrUnreachable]; the next call makes a new one.
type Driver struct {
	name   string // of the integration bridge
	ovsDir string
	ovnDir string
	links  *rtnl.Conn
	nb     *ovsdb.Client
	local  *ovsdb.Client
	schema ovsdb.Schema // of the northbound database
	// encapsulation is what the spec says of the tunnels.
	encapsulation vnet.Encap

	// What this host's OVSDB says of the chassis.
	chassis string // its name
	encap   string // the addresses at which its tunnels end
}

var (
	_ switchcfg.Driver   = (*Driver)(nil)
	_ switchcfg.Releaser = (*Driver)(nil)
	_ switchcfg.Keeper   = (*Driver)(nil)
	_ switchcfg.Examiner = (*Driver)(nil)
)

// Option changes how [Open] connects.
type Option func(*Driver)

// WithRunDirs names the directories with the sockets of Open vSwitch and of OVN
// on this host. The defaults are openvswitch and ovn in /run, or in /var/run
// where there are no such.
func WithRunDirs(ovs, ovn string) Option { return func(d *Driver) { d.ovsDir, d.ovnDir = ovs, ovn } }

// northbound is a client of the northbound database of sw, which connects when
// it is first used.
func northbound(sw vnet.Switch) *ovsdb.Client {
	c := &ovsdb.Client{
		Product:   "the northbound database of OVN",
		Database:  "OVN_Northbound",
		Endpoints: sw.Database,
		TLS:       sw.TLS,
	}
	if len(c.Endpoints) == 0 {
		socket := either("/run/ovn", "/var/run/ovn") + "/ovnnb_db.sock"
		c.Endpoints = vnet.Endpoints{{Transport: vnet.TransportUnix, Address: socket}}
	}
	return c
}

// either is the directory that exists, or usual.
func either(usual, old string) string {
	if _, err := os.Stat(usual); err != nil {
		if _, err := os.Stat(old); err == nil {
			return old
		}
	}
	return usual
}

// Open connects to the northbound database of sw, and to this host's OVSDB, where
// it finds the chassis whose integration bridge sw.Name is. The error is
// [switchcfg.ErrUnreachable] when a database does not answer or is no leader's,
// [switchcfg.ErrPermission] when the caller may not talk to it, and
// [switchcfg.ErrNoSwitch] when the host is no chassis, or one with another
// integration bridge.
func Open(ctx context.Context, sw vnet.Switch, options ...Option) (*Driver, error) {
	d := &Driver{
		name: sw.Name, nb: northbound(sw), encapsulation: sw.Overlay.Encap,
		ovsDir: either("/run/openvswitch", "/var/run/openvswitch"), ovnDir: either("/run/ovn", "/var/run/ovn"),
	}
	for _, option := range options {
		option(d)
	}
	d.local = hostDatabase(d.ovsDir)
	links, err := rtnl.Dial()
	if err != nil {
		return nil, fmt.Errorf("switch %s: open rtnetlink: %w", sw.Name, rtnl.Translate(err))
	}
	d.links = links
	if err = d.findChassis(ctx); err == nil {
		d.schema, err = d.nb.Schema(ctx)
	}
	if err == nil {
		err = d.understands()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("switch %s: %w", sw.Name, err), d.Close())
	}
	return d, nil
}

// hostDatabase is a client of this host's OVSDB.
func hostDatabase(dir string) *ovsdb.Client {
	return &ovsdb.Client{
		Product:   "Open vSwitch",
		Database:  "Open_vSwitch",
		Endpoints: vnet.Endpoints{{Transport: vnet.TransportUnix, Address: dir + "/db.sock"}},
	}
}

// Manages reports whether the bridge of Open vSwitch is the integration bridge of
// OVN on this host (ovn-controller(8), ovn-remote and ovn-bridge), whose flows are
// ovn-controller's.
func Manages(ctx context.Context, bridge string) (is bool, err error) {
	db := hostDatabase(either("/run/openvswitch", "/var/run/openvswitch"))
	defer func() { err = errors.Join(err, db.Close()) }()
	results, err := db.Transact(ctx, ovsdb.Select("Open_vSwitch", []ovsdb.Condition{}, "external_ids"))
	if err != nil {
		return false, fmt.Errorf("read the chassis: %w", err)
	}
	rows, err := ovsdb.Rows[record](results, 0)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	ids := rows[0].ExternalIDs
	return ids["ovn-remote"] != "" && cmp.Or(ids["ovn-bridge"], usualBridge) == bridge, nil
}

// usualBridge is the integration bridge where ovn-bridge names none.
const usualBridge = "br-int"

// findChassis reads how ovn-controller is configured (ovn-controller(8)).
func (d *Driver) findChassis(ctx context.Context) error {
	results, err := d.local.Transact(ctx,
		ovsdb.Select("Open_vSwitch", []ovsdb.Condition{}, "external_ids"),
		ovsdb.Select("Bridge", ovsdb.Where("name", d.name), "name"))
	if err != nil {
		return fmt.Errorf("read the chassis: %w", err)
	}
	global, err := ovsdb.Rows[record](results, 0)
	if err != nil {
		return fmt.Errorf("read the chassis: %w", err)
	}
	bridges, err := ovsdb.Rows[record](results, 1)
	if err != nil {
		return fmt.Errorf("read the integration bridge: %w", err)
	}
	ids := ovsdb.Dict{}
	if len(global) > 0 {
		ids = global[0].ExternalIDs
	}
	d.chassis, d.encap = ids["system-id"], ids["ovn-encap-ip"]
	bridge := cmp.Or(ids["ovn-bridge"], usualBridge)
	switch {
	case bridge != d.name:
		return fmt.Errorf("%w: the integration bridge of this host is %s (external_ids:ovn-bridge of Open_vSwitch)",
			switchcfg.ErrNoSwitch, bridge)
	case len(bridges) == 0:
		return fmt.Errorf("%w: this host has no integration bridge: systemctl start ovn-controller   # on Debian: ovn-host",
			switchcfg.ErrNoSwitch)
	case d.chassis == "":
		return fmt.Errorf("%w: this host has no name as a chassis: ovs-vsctl set Open_vSwitch . external_ids:system-id=$(uname -n)",
			switchcfg.ErrNoSwitch)
	}
	return nil
}

// understands reports columns that every port needs and that the northbound
// database of this version does not have.
func (d *Driver) understands() error {
	for table, columns := range map[string][]string{
		"Logical_Switch":      {"ports", "other_config", "external_ids"},
		"Logical_Switch_Port": {"options", "addresses", "port_security", "dhcpv4_options", "dhcpv6_options", "external_ids"},
		"Port_Group":          {"ports", "acls"},
		"DHCP_Options":        {"cidr", "external_ids"},
		"NB_Global":           {"nb_cfg"},
	} {
		for _, column := range columns {
			if !d.schema.Has(table, column) {
				return fmt.Errorf("%w: this OVN has no column %s of %s: want 20.12 or later", switchcfg.ErrUnsupported, column, table)
			}
		}
	}
	return nil
}

// Capabilities implements [switchcfg.Driver].
func (d *Driver) Capabilities() switchcfg.Capabilities {
	missing := map[switchcfg.Feature]string{}
	for _, f := range switchcfg.Features() {
		missing[f] = "OVN has no such setting for a port"
	}
	missing[switchcfg.FeatureVLAN] = "a guest's port on OVN has no VLAN: its network is a logical switch"
	missing[switchcfg.FeaturePriority] = "virt-vnet has no " + string(switchcfg.FeaturePriority) + " for OVN"
	missing[switchcfg.FeatureRAGuard] = "ovn-northd lets router advertisements pass before any rule (ovn-northd(8), ACL tables, priority 65532)"
	for _, f := range []switchcfg.Feature{switchcfg.FeatureAntiSpoof, switchcfg.FeatureDHCPGuard} {
		delete(missing, f)
	}
	for _, f := range []switchcfg.Feature{switchcfg.FeatureInbound, switchcfg.FeatureOutbound} {
		delete(missing, f)
		if !d.limits() {
			missing[f] = "the northbound database of this OVN (schema " + d.nb.SchemaVersion() + ") has no limits (QoS.bandwidth)"
		}
	}
	isolated := switchcfg.FlagIsolated.Feature()
	delete(missing, isolated)
	if d.encapsulation == vnet.EncapVXLAN {
		missing[isolated] = "VXLAN does not tell which port a frame from another host has come from: encap: geneve does"
	}
	return switchcfg.Capabilities{Switch: d.name, Missing: missing}
}

// several reports whether in this OVN a port may be on several chassis, as it is
// while its guest moves. That came with 22.06, and in the northbound database, which
// does not know of it, this table.
func (d *Driver) several() bool { return d.schema.Has("Static_MAC_Binding", "ip") }

// limits reports whether this OVN has any.
func (d *Driver) limits() bool {
	return d.schema.Has(tableQoS, "bandwidth") && d.schema.Has(tableSwitch, "qos_rules")
}

// Close implements [switchcfg.Driver].
func (d *Driver) Close() error {
	d.links.Close()
	return errors.Join(d.nb.Close(), d.local.Close())
}
