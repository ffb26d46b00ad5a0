// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// The database that configures Open vSwitch, and what people call it.
const (
	database = "Open_vSwitch"
	product  = "Open vSwitch"
)

// Driver is a [switchcfg.Driver], [switchcfg.Learner] and [switchcfg.Vantager]
// for one Open vSwitch bridge. It belongs to one goroutine at a time.
//
// A connection that breaks, or that a context interrupts, fails the call at
// once with [switchcfg.ErrUnreachable]; the next call makes a new one.
type Driver struct {
	name   string
	uplink string // that the spec names
	// configured says that the spec has settings of the bridge itself.
	configured bool
	runDir     string
	links      *rtnl.Conn
	db         *ovsdb.Client
	last       view // what was seen last
	// protocols are the versions of OpenFlow that the bridge speaks, or none
	// when it speaks all.
	protocols []string
	vlanLimit string // how many tags frames may have, as far as it is known
	// away says that ovs-vswitchd has been waited for in vain.
	away bool
}

var (
	_ switchcfg.Driver    = (*Driver)(nil)
	_ switchcfg.Learner   = (*Driver)(nil)
	_ switchcfg.Vantager  = (*Driver)(nil)
	_ switchcfg.Sweeper   = (*Driver)(nil)
	_ switchcfg.Keeper    = (*Driver)(nil)
	_ switchcfg.Inspector = (*Driver)(nil)
)

// Option changes how [Open] connects.
type Option func(*Driver)

// WithRunDir names the directory with the sockets of Open vSwitch: db.sock, and
// that of ovs-vswitchd. The default is /run/openvswitch, or /var/run/openvswitch
// where there is no such.
func WithRunDir(dir string) Option { return func(d *Driver) { d.runDir = dir } }

// Open connects to OVSDB and finds the bridge sw.Name. The error is
// [switchcfg.ErrUnreachable] when OVSDB does not answer,
// [switchcfg.ErrPermission] when the caller may not talk to it, and
// [switchcfg.ErrNoSwitch] when it knows no such bridge.
func Open(ctx context.Context, sw vnet.Switch, options ...Option) (*Driver, error) {
	d := &Driver{name: sw.Name, uplink: sw.Uplink, configured: sw.Configured(), runDir: defaultRunDir()}
	for _, option := range options {
		option(d)
	}
	d.db = &ovsdb.Client{
		Product:   product,
		Database:  database,
		Endpoints: sw.Database,
		TLS:       sw.TLS,
	}
	if len(sw.Database) == 0 {
		d.db.Endpoints = vnet.Endpoints{{Transport: vnet.TransportUnix, Address: filepath.Join(d.runDir, "db.sock")}}
	}
	links, err := rtnl.Dial()
	if err != nil {
		return nil, fmt.Errorf("switch %s: open rtnetlink: %w", sw.Name, rtnl.Translate(err))
	}
	d.links = links
	results, err := d.transact(ctx, d.readBridge("protocols"), ovsdb.Select(database, []ovsdb.Condition{}, "other_config"))
	if err == nil {
		var bridge record
		bridge, err = d.bridge(results)
		d.protocols = bridge.Protocols
		d.vlanLimit = vlanLimit(results)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("switch %s: %w", sw.Name, err), d.Close())
	}
	return d, nil
}

func defaultRunDir() string {
	const usual, old = "/run/openvswitch", "/var/run/openvswitch"
	if _, err := os.Stat(usual); err != nil {
		if _, err := os.Stat(old); err == nil {
			return old
		}
	}
	return usual
}

// Capabilities implements [switchcfg.Driver].
func (d *Driver) Capabilities() switchcfg.Capabilities {
	missing := map[switchcfg.Feature]string{}
	for _, f := range switchcfg.Features() {
		missing[f] = "Open vSwitch has no such setting for a port"
	}
	missing[switchcfg.FeaturePriority] = "Open vSwitch gives the frames of a port no priority of the host's"
	missing[switchcfg.FlagBPDUGuard.Feature()] = "Open vSwitch has no BPDU guard"
	delete(missing, switchcfg.FeatureVLAN)
	for _, f := range []switchcfg.Feature{
		switchcfg.FeatureInbound, switchcfg.FeatureBridge, switchcfg.FeatureMirror, switchcfg.FeatureExport, switchcfg.FeatureBond, switchcfg.FeatureTreePorts,
	} {
		delete(missing, f)
	}
	delete(missing, switchcfg.FeatureTunnel)
	if d.vlanLimit != "0" && d.vlanLimit != "2" {
		missing[switchcfg.FeatureTunnel] = "Open vSwitch looks at one tag only: ovs-vsctl set Open_vSwitch . other_config:vlan-limit=2"
	}
	lacks := d.lacksOpenFlow()
	for _, f := range []switchcfg.Feature{
		switchcfg.FeatureAntiSpoof, switchcfg.FeatureDHCPGuard, switchcfg.FeatureRAGuard, switchcfg.FeatureOutbound,
	} {
		delete(missing, f)
		if lacks != "" {
			missing[f] = lacks
		}
	}
	delete(missing, switchcfg.FlagIsolated.Feature())
	return switchcfg.Capabilities{Switch: d.name, Missing: missing, Try: d.try}
}

// Close implements [switchcfg.Driver].
func (d *Driver) Close() error {
	d.links.Close()
	return d.db.Close()
}

// vlanLimit reads what says how many tags are looked at, from the answers to
// Open. The default is one.
func vlanLimit(results ovsdb.Results) string {
	rows, err := ovsdb.Rows[record](results, 1)
	if err != nil || len(rows) == 0 {
		return ""
	}
	return rows[0].OtherConfig["vlan-limit"]
}

// transact carries out one transaction.
func (d *Driver) transact(ctx context.Context, ops ...ovsdb.Operation) (ovsdb.Results, error) {
	return d.db.Transact(ctx, ops...)
}

// readBridge is the operation whose result, the first of its transaction,
// bridge reads.
func (d *Driver) readBridge(columns ...string) ovsdb.Operation {
	return ovsdb.Select("Bridge", ovsdb.Where("name", d.name), append(columns, "_uuid")...)
}

func (d *Driver) bridge(results ovsdb.Results) (record, error) {
	rows, err := ovsdb.Rows[record](results, 0)
	if err != nil {
		return record{}, fmt.Errorf("read the bridge: %w", err)
	}
	if len(rows) != 1 {
		return record{}, fmt.Errorf("%w: Open vSwitch has no bridge of that name: ovs-vsctl add-br %s",
			switchcfg.ErrNoSwitch, d.name)
	}
	return rows[0], nil
}
