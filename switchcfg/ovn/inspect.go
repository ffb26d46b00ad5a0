// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

var (
	_ switchcfg.Inspector = (*Driver)(nil)
	_ switchcfg.Learner   = (*Driver)(nil)
)

// controlLimit is how long ovn-controller may take to say that it works. It is
// asked again meanwhile: on a busy host an answer takes its time, and a
// connection that breaks is made again.
const (
	controlLimit = 3 * time.Second
	controlPause = 200 * time.Millisecond
)

// southLimit bounds what is asked of the southbound database.
const southLimit = 5 * time.Second

// Inspect implements [switchcfg.Inspector]: it asks ovs-vswitchd whether it
// lives, ovn-controller whether it is connected, this host's OVSDB for the tunnels
// and the southbound database (ovn-sb(5)) for the chassis and the bindings. That
// the latter does not answer is no error: what only it knows is then unknown.
func (d *Driver) Inspect(ctx context.Context) (switchcfg.Condition, error) {
	if err := d.vswitchd(ctx, "version"); err != nil {
		return switchcfg.Condition{}, fmt.Errorf("switch %s: %w", d.name, err)
	}
	results, err := d.local.Transact(ctx, ovsdb.Select("Open_vSwitch", []ovsdb.Condition{}, "external_ids"),
		ovsdb.Select("Interface", []ovsdb.Condition{}, "name", "type", "external_ids", "options", "link_state", "error", "bfd_status"))
	if err != nil {
		return switchcfg.Condition{}, fmt.Errorf("switch %s: read ports: %w", d.name, err)
	}
	global, err := ovsdb.Rows[southRow](results, 0)
	if err != nil || len(global) != 1 {
		return switchcfg.Condition{}, fmt.Errorf("switch %s: read the chassis: %w", d.name, err)
	}
	interfaces, err := ovsdb.Rows[southRow](results, 1)
	if err != nil {
		return switchcfg.Condition{}, fmt.Errorf("switch %s: read ports: %w", d.name, err)
	}
	refusals := map[string]switchcfg.Refusal{}
	o := &switchcfg.Overlay{Chassis: d.chassis, Control: d.controls(ctx), Bindings: map[string]switchcfg.Binding{}}
	for _, i := range interfaces {
		if id := i.ExternalIDs["iface-id"]; id != "" && i.ExternalIDs[keyVantage] == "" {
			o.Bindings[i.Name] = switchcfg.Binding{ID: id, Installed: i.ExternalIDs["ovn-installed"] == "true"}
			if reason := i.Error.First(); reason != "" {
				refusals[i.Name] = switchcfg.Refusal{Reason: reason, Row: "Interface " + i.Name}
			}
		}
	}
	o.Unknown = d.askSouth(ctx, o, global[0].ExternalIDs["ovn-remote"], interfaces)
	if o.Unknown != nil && errors.Is(o.Control, errApart) {
		// It is not ovn-controller that is at fault.
		o.Unknown, o.Control = fmt.Errorf("%w; ovn-controller of this host runs and does not reach it either", o.Unknown), nil
	}
	o.FlowsUnknown = d.lost(ctx, o)
	return switchcfg.Condition{Overlay: o, Refusals: refusals}, nil
}

// firstTable is the one in which ovn-controller has a flow for every port of the
// host (ovn-architecture(7), "Architectural Physical Life Cycle of a Packet").
const firstTable = "table=0"

// lost notes at the bindings whose flows the integration bridge has lost, which
// ovn-controller does not notice.
func (d *Driver) lost(ctx context.Context, o *switchcfg.Overlay) error {
	flows, err := d.flows(ctx, firstTable)
	if err != nil {
		return err
	}
	there := map[uint64]bool{}
	for _, f := range flows {
		there[f.cookie] = true
	}
	for device, b := range o.Bindings {
		b.Lost = b.Installed && b.Cookie != 0 && !there[b.Cookie]
		o.Bindings[device] = b
	}
	return nil
}

// vswitchd has ovs-vswitchd carry out a command, and reports why it does not.
func (d *Driver) vswitchd(ctx context.Context, command string) error {
	pid, err := os.ReadFile(d.ovsDir + "/ovs-vswitchd.pid")
	if err != nil {
		return fmt.Errorf("ovs-vswitchd %w: is it running? (no %s/ovs-vswitchd.pid)", switchcfg.ErrUnreachable, d.ovsDir)
	}
	socket := vnet.Endpoint{
		Transport: vnet.TransportUnix,
		Address:   fmt.Sprintf("%s/ovs-vswitchd.%s.ctl", d.ovsDir, strings.TrimSpace(string(pid))),
	}
	conn, err := ovsdb.Dial(ctx, "Open vSwitch", socket, vnet.TLS{})
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // a connection that was only read from
	_, err = conn.Command(ctx, command)
	return err
}

// controls reports why ovn-controller does not work, if that is so for a while.
func (d *Driver) controls(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, controlLimit)
	defer cancel()
	for {
		err := d.controller(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(controlPause):
		}
	}
}

// southRow is a row of the southbound database, or of this host's OVSDB.
type southRow struct {
	UUID                 ovsdb.UUID
	Name                 string
	ExternalIDs, Options ovsdb.Dict

	// Of an interface.
	Type             string
	LinkState, Error ovsdb.Set[string]
	BFD              ovsdb.Dict

	// Of an Encap or a Port_Binding.
	IP, LogicalPort string
	Datapath        ovsdb.UUID
	Chassis         ovsdb.Set[ovsdb.UUID]
	ChassisName     string
}

// Column implements [ovsdb.Record].
func (r *southRow) Column(name string) any {
	return map[string]any{
		"_uuid": &r.UUID, "name": &r.Name, "external_ids": &r.ExternalIDs, "options": &r.Options,
		"type": &r.Type, "link_state": &r.LinkState, "error": &r.Error, "bfd_status": &r.BFD,
		"ip": &r.IP, "chassis_name": &r.ChassisName,
		"logical_port": &r.LogicalPort, "datapath": &r.Datapath, "chassis": &r.Chassis,
	}[name]
}

// askSouth fills in what the southbound database knows.
func (d *Driver) askSouth(ctx context.Context, o *switchcfg.Overlay, remote string, interfaces []southRow) error {
	ctx, cancel := context.WithTimeout(ctx, southLimit)
	defer cancel()
	south, err := d.southbound(ctx, remote)
	if err != nil {
		return err
	}
	defer south.Close() //nolint:errcheck // a connection that was only read from
	results, err := south.Transact(ctx, ovsdb.Select("Chassis", []ovsdb.Condition{}, "_uuid", "name"),
		ovsdb.Select("Encap", []ovsdb.Condition{}, "chassis_name", "ip"))
	if err != nil {
		return err
	}
	chassis, err := ovsdb.Rows[southRow](results, 0)
	if err != nil {
		return fmt.Errorf("read chassis: %w", err)
	}
	encaps, err := ovsdb.Rows[southRow](results, 1)
	if err != nil {
		return fmt.Errorf("read encapsulations: %w", err)
	}
	names, ends := map[ovsdb.UUID]string{}, map[string][]string{}
	for _, e := range encaps {
		ends[e.ChassisName] = append(ends[e.ChassisName], e.IP)
	}
	for _, c := range chassis {
		names[c.UUID] = c.Name
		if c.Name == d.chassis {
			o.Registered, o.Ends = true, unique(ends[c.Name])
		} else {
			o.Tunnels = append(o.Tunnels, tunnelTo(c.Name, unique(ends[c.Name]), interfaces))
		}
	}
	if o.Astray, err = astray(o.Ends); err != nil {
		return err
	}
	slices.SortFunc(o.Tunnels, func(a, b switchcfg.Tunnel) int { return strings.Compare(a.Chassis, b.Chassis) })
	return bind(ctx, south, o, names)
}

// southbound is a client of the southbound database, which connects when it is
// first used.
func (d *Driver) southbound(ctx context.Context, remote string) (*ovsdb.Client, error) {
	if remote == "" {
		return nil, errors.New("nothing says where the southbound database is: " +
			"ovs-vsctl set Open_vSwitch . external_ids:ovn-remote=tcp:ADDRESS:6642")
	}
	south := &ovsdb.Client{Product: "the southbound database of OVN", Database: "OVN_Southbound", TLS: d.nb.TLS}
	if err := south.Endpoints.UnmarshalText([]byte(remote)); err != nil {
		return nil, fmt.Errorf("external_ids:ovn-remote of Open_vSwitch: %w", err)
	}
	if south.Endpoints.NeedTLS() && d.nb.TLS == (vnet.TLS{}) {
		var err error
		south.TLS, err = d.hostTLS(ctx)
		return south, err
	}
	return south, nil
}

// hostTLS is the files that ovn-controller uses where it is told of no others:
// those of this host's Open vSwitch (ovs-vsctl(8), set-ssl).
func (d *Driver) hostTLS(ctx context.Context) (vnet.TLS, error) {
	results, err := d.local.Transact(ctx, ovsdb.Select("SSL", []ovsdb.Condition{}, "private_key", "certificate", "ca_cert"))
	if err != nil {
		return vnet.TLS{}, fmt.Errorf("read the files for ssl: %w", err)
	}
	rows, err := ovsdb.Rows[sslRow](results, 0)
	if err != nil {
		return vnet.TLS{}, fmt.Errorf("read the files for ssl: %w", err)
	}
	if len(rows) == 0 {
		return vnet.TLS{}, errors.New("the southbound database is at ssl, and neither the switch's tls nor Open vSwitch says with which files: " +
			"ovs-vsctl set-ssl KEY CERTIFICATE CA")
	}
	return vnet.TLS(rows[0]), nil
}

// sslRow is the row of the table SSL of this host's OVSDB.
type sslRow vnet.TLS

// Column implements [ovsdb.Record].
func (r *sslRow) Column(name string) any {
	return map[string]any{"private_key": &r.Key, "certificate": &r.Certificate, "ca_cert": &r.CA}[name]
}

// astray are those of the addresses that this host does not have.
func astray(addresses []string) ([]string, error) {
	have, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("read the host's addresses: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(addresses), func(want string) bool {
		ip, err := netip.ParseAddr(want)
		return err == nil && slices.ContainsFunc(have, func(a net.Addr) bool {
			prefix, err := netip.ParsePrefix(a.String())
			return err == nil && prefix.Addr() == ip
		})
	}), nil
}

// tunnelTo finds the tunnel to a chassis, to the first of its addresses that has
// one, and what is wrong with it.
func tunnelTo(chassis string, ends []string, interfaces []southRow) switchcfg.Tunnel {
	t := switchcfg.Tunnel{Chassis: chassis}
	if len(ends) == 0 {
		t.Fault = "chassis " + chassis + " has no address for tunnels in the southbound database (Encap)"
		return t
	}
	t.Remote = ends[0]
	for _, i := range interfaces {
		remote := i.Options["remote_ip"]
		if !slices.Contains(ends, remote) {
			continue
		}
		t.Remote, t.Device, t.Fault = remote, i.Name, ""
		switch {
		case i.Error.First() != "":
			t.Fault = i.Error.First()
		case i.BFD["state"] != "" && i.BFD["state"] != "up":
			t.Fault = "BFD is " + i.BFD["state"] + ": " + i.BFD["diagnostic"]
		case i.LinkState.First() == "down":
			t.Fault = "its link is down"
		default:
			return t
		}
	}
	if t.Device == "" {
		t.Fault = "no port of this host leads to " + strings.Join(ends, " or ")
	}
	return t
}

// bind finds where the logical ports are, and the chassis that share networks
// with them.
func bind(ctx context.Context, south *ovsdb.Client, o *switchcfg.Overlay, names map[ovsdb.UUID]string) error {
	var ops []ovsdb.Operation
	devices := make([]string, 0, len(o.Bindings))
	for device, b := range o.Bindings {
		devices = append(devices, device)
		ops = append(ops, ovsdb.Select("Port_Binding", ovsdb.Where("logical_port", b.ID), "_uuid", "datapath", "chassis", "options"))
	}
	if len(ops) == 0 {
		return nil
	}
	results, err := south.Transact(ctx, ops...)
	if err != nil {
		return err
	}
	on := map[ovsdb.UUID][]string{} // devices by the datapath, which is the network's
	for i, device := range devices {
		rows, err := ovsdb.Rows[southRow](results, i)
		if err != nil {
			return fmt.Errorf("read bindings: %w", err)
		}
		for _, r := range rows {
			b := o.Bindings[device]
			b.Known, b.Chassis, b.Requested, b.Cookie = true, names[r.Chassis.First()], chassisOf(r.Options), cookieOf(r.UUID)
			o.Bindings[device] = b
			on[r.Datapath] = append(on[r.Datapath], device)
		}
	}
	return findPeers(ctx, south, o, names, on)
}

func findPeers(ctx context.Context, south *ovsdb.Client, o *switchcfg.Overlay, names map[ovsdb.UUID]string, on map[ovsdb.UUID][]string) error {
	var ops []ovsdb.Operation
	var order []ovsdb.UUID
	for datapath := range on {
		order = append(order, datapath)
		ops = append(ops, ovsdb.Select("Port_Binding", ovsdb.Where("datapath", datapath), "chassis"))
	}
	if len(ops) == 0 {
		return nil
	}
	results, err := south.Transact(ctx, ops...)
	if err != nil {
		return err
	}
	for i, datapath := range order {
		rows, err := ovsdb.Rows[southRow](results, i)
		if err != nil {
			return fmt.Errorf("read bindings: %w", err)
		}
		var peers []string
		for _, r := range rows {
			if name := names[r.Chassis.First()]; name != "" && name != o.Chassis {
				peers = append(peers, name)
			}
		}
		peers = unique(peers)
		for _, device := range on[datapath] {
			b := o.Bindings[device]
			b.Peers = peers
			o.Bindings[device] = b
		}
	}
	return nil
}
