// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Keys of external_ids in the northbound database that are ours. An object of a
// network has the network's name; a guest's port the guest and the NIC, too.
const (
	keyGuest   = "virt-vnet-guest"
	keyMAC     = "virt-vnet-mac"
	keyNetwork = "virt-vnet-network"
)

// Driver drives one chassis of OVN. It belongs to one goroutine at a time.
type Driver struct {
	name   string // of the integration bridge
	ovsDir string
	links  *rtnl.Conn
	nb     *ovsdb.Client
	local  *ovsdb.Client
	schema ovsdb.Schema // of the northbound database
}

// Option changes how [Open] connects.
type Option func(*Driver)

// WithOVSRunDir names the directory with the socket of this host's OVSDB. The
// default is /run/openvswitch, or /var/run/openvswitch where there is no such.
func WithOVSRunDir(dir string) Option { return func(d *Driver) { d.ovsDir = dir } }

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

// Open connects to the northbound database of sw and to this host's OVSDB.
func Open(ctx context.Context, sw vnet.Switch, options ...Option) (*Driver, error) {
	d := &Driver{name: sw.Name, ovsDir: either("/run/openvswitch", "/var/run/openvswitch"), nb: northbound(sw)}
	for _, option := range options {
		option(d)
	}
	d.local = &ovsdb.Client{
		Product:   "Open vSwitch",
		Database:  "Open_vSwitch",
		Endpoints: vnet.Endpoints{{Transport: vnet.TransportUnix, Address: d.ovsDir + "/db.sock"}},
	}
	var err error
	if d.links, err = rtnl.Dial(); err != nil {
		return nil, fmt.Errorf("switch %s: open rtnetlink: %w", sw.Name, rtnl.Translate(err))
	}
	if d.schema, err = d.nb.Schema(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("switch %s: %w", sw.Name, err), d.Close())
	}
	return d, nil
}

// Close implements [switchcfg.Driver].
func (d *Driver) Close() error {
	d.links.Close()
	return errors.Join(d.nb.Close(), d.local.Close())
}
