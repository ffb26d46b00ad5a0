// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
)

//go:embed files/host.conf
var hostConf string

// ClusterOptions says what a cluster starts with.
type ClusterOptions struct {
	// Hosts is how many there are: 1 to 9.
	Hosts int

	// Each is what runs on every host.
	Each Options

	// OVN, if not nil, adds OVN central to the lab and a chassis to every host.
	OVN *OVNOptions
}

// Cluster is a lab with hosts inside it. The lab's own namespaces are where the
// administrator is: OVN's databases are there, at their usual places, and a
// management network on which every host has its name.
//
// The management network is apart from what guests' frames travel on: it works
// whatever state Open vSwitch is in.
type Cluster struct {
	Lab     *Lab // the administrator's machine, with no daemon of its own
	Hosts   []*Host
	Central *Central // nil without OVN
}

// Host is one of a cluster's hosts: what a [Lab] is, and has, in namespaces of
// its own. Each has its own files in all the usual places, also those of
// virt-vnet, its own links, its host name, its libvirtd and its Open vSwitch.
type Host struct {
	*Lab
	Name       string     // also its system-id and so its chassis
	Management netip.Addr // on eth0
	Tunnel     netip.Addr // where its tunnels end, on br-phy; valid with OVN

	controller *Daemon
}

const (
	managementBridge = "mgmt0"
	tunnelBridge     = "br-phy" // has the tunnels' outer addresses

	// IntegrationBridge is the bridge that ovn-controller programs.
	IntegrationBridge = "br-int"
)

// hostPrefix returns the address of the n-th host, counted from 0, or with a
// negative n of OVN central's servers, counted down from -1, in one of the
// cluster's networks: 0 is management and 1 is for tunnels.
func hostPrefix(network byte, n int) netip.Prefix {
	last := byte(11 + n)
	if n < 0 {
		last = byte(-n)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 88, network, last}), 24)
}

// StartCluster starts a lab with hosts in it and returns when all daemons serve
// and, with OVN, every chassis is registered. See [Start] for the rest.
func StartCluster(ctx context.Context, opts ClusterOptions) (*Cluster, error) {
	if opts.Hosts < 1 || opts.Hosts > 9 {
		return nil, fmt.Errorf("lab: start cluster: %d hosts: between 1 and 9 can be had", opts.Hosts)
	}
	l, err := Start(ctx, Options{})
	if err != nil {
		return nil, err
	}
	c := &Cluster{Lab: l}
	if err := c.start(ctx, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: start cluster: %w", err), c.Close(ctx))
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, opts ClusterOptions) error {
	if err := c.Lab.AddLinuxBridge(ctx, managementBridge); err != nil {
		return err
	}
	names := localNames
	for n := range opts.Hosts {
		names += fmt.Sprintf("%s host%d\n", hostPrefix(0, n).Addr(), n+1)
	}
	if err := c.nameAll(names); err != nil {
		return err
	}
	for n := range opts.Hosts {
		h, err := c.makeHost(ctx, n, names)
		if err != nil {
			return fmt.Errorf("host%d: %w", n+1, err)
		}
		c.Hosts = append(c.Hosts, h)
	}
	g, gctx := errgroup.WithContext(ctx)
	if opts.OVN != nil {
		opts.Each.OVS = true
		c.Central = newCentral(*opts.OVN)
		g.Go(func() error { return c.Central.start(gctx) })
	}
	if opts.Each.Libvirt {
		c.Lab.background.Go(func() { _, _ = c.Lab.guestKernel(context.WithoutCancel(ctx)) })
	}
	for _, h := range c.Hosts {
		g.Go(func() error { return h.start(gctx, opts.Each) })
	}
	if err := g.Wait(); err != nil || opts.OVN == nil {
		return err
	}
	return c.startChassis(ctx, opts.OVN.Encap)
}

// nameAll sets up the administrator's end of the management network.
func (c *Cluster) nameAll(names string) error {
	for n := -1; n >= -maxServers; n-- {
		if err := addAddress(managementBridge, hostPrefix(0, n)); err != nil {
			return err
		}
	}
	return os.WriteFile("/etc/hosts", []byte(names), 0o644)
}

// makeHost makes a host without daemons.
func (c *Cluster) makeHost(ctx context.Context, n int, names string) (*Host, error) {
	name := fmt.Sprintf("host%d", n+1)
	at, err := newPlace(ctx)
	if err != nil {
		return nil, err
	}
	h := &Host{
		Lab: newLab(at, name, c.Lab.boot), Name: name, Management: hostPrefix(0, n).Addr(), controller: newController(at),
	}
	err = errors.Join(
		os.Symlink(at.proc("root"), filepath.Join(hostsDir, name)),
		c.cable(ctx, h, managementBridge, "eth0"),
		h.Do(func() error { return h.configure(names, hostPrefix(0, n)) }),
	)
	if err != nil {
		return nil, errors.Join(err, h.Close(ctx))
	}
	return h, nil
}

// configure runs inside the host.
func (h *Host) configure(names string, management netip.Prefix) error {
	if err := addAddress("eth0", management); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte(h.Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	// Two hosts with one UUID are one host to libvirt, which migrates nothing then.
	conf := libvirtdConf + hostConf + fmt.Sprintf("host_uuid = %q\n", UUIDFor(h.Name))
	return errors.Join(
		os.WriteFile("/etc/hosts", []byte(names), 0o644),
		os.WriteFile(etcLibvirt+"/libvirtd.conf", []byte(conf), 0o600),
	)
}

// cable joins a link of the host, made for that, to a bridge of the lab.
func (c *Cluster) cable(ctx context.Context, h *Host, bridge, device string) error {
	near := netlink.NewVeth(attrs(h.Name + "-" + device))
	near.PeerName, near.PeerNamespace = device, netlink.NsFd(h.at.spaces[0].Fd())
	if err := netlink.LinkAdd(near); err != nil {
		return fmt.Errorf("add veth %s: %w", near.Name, err)
	}
	if err := attach(ctx, near.Name, bridge, 0); err != nil {
		return err
	}
	return errors.Join(linkUp(near.Name), h.Do(func() error { return linkUp(device) }))
}

// AddOVSBridge makes an Open vSwitch bridge of the same name on every host, with
// a port for a cable that joins all of them.
func (c *Cluster) AddOVSBridge(ctx context.Context, name string) error {
	return c.addBridge(ctx, name, (*Lab).AddOVSBridge)
}

// AddLinuxBridge is AddOVSBridge for plain Linux bridges.
func (c *Cluster) AddLinuxBridge(ctx context.Context, name string) error {
	return c.addBridge(ctx, name, (*Lab).AddLinuxBridge)
}

// addBridge makes a bridge by add on every host. Its port for the cable is
// called up-NAME, and what the cables meet in is the lab's Linux bridge
// wire-NAME.
func (c *Cluster) addBridge(ctx context.Context, name string, add func(*Lab, context.Context, string) error) error {
	wire, uplink := "wire-"+name, "up-"+name
	if err := c.Lab.AddLinuxBridge(ctx, wire); err != nil {
		return err
	}
	for _, h := range c.Hosts {
		if err := add(h.Lab, ctx, name); err != nil {
			return err
		}
		if err := c.cable(ctx, h, wire, uplink); err != nil {
			return fmt.Errorf("lab: bridge %s of %s: %w", name, h.Name, err)
		}
		if err := h.Do(func() error { return attach(ctx, uplink, name, 0) }); err != nil {
			return fmt.Errorf("lab: bridge %s of %s: %w", name, h.Name, err)
		}
	}
	return nil
}

// Close ends the hosts and then the lab, as [Lab.Close] does.
func (c *Cluster) Close(ctx context.Context) error {
	var g errgroup.Group
	for _, h := range c.Hosts {
		g.Go(func() error { return h.Close(ctx) })
	}
	err := g.Wait()
	if c.Central != nil {
		err = errors.Join(err, c.Central.stop(ctx))
	}
	return errors.Join(err, os.WriteFile("/etc/hosts", []byte(localNames), 0o644), c.Lab.Close(ctx))
}

// Close is [Lab.Close] for a host of a cluster: a power cut.
func (h *Host) Close(ctx context.Context) error {
	err := h.controller.Kill(context.WithoutCancel(ctx))
	return errors.Join(err, h.Lab.Close(ctx), os.Remove(filepath.Join(hostsDir, h.Name)))
}

// URI is the connection URI of the host's libvirtd in the management network:
// from the lab and from every host.
func (h *Host) URI() string { return "qemu+tcp://" + h.Name + "/system" }

// Path returns where the lab finds a file of the host.
func (h *Host) Path(name string) string { return filepath.Join(hostsDir, h.Name, name) }

// OVSDBEndpoint is where the lab finds the host's OVSDB server.
func (h *Host) OVSDBEndpoint() string {
	return "unix:" + h.Path(strings.TrimPrefix(OVSDBEndpoint, "unix:"))
}

// Command returns the command line that runs argv on the host, for those who
// start processes on their own instead of by [Lab.Run].
func (h *Host) Command(argv ...string) []string {
	return append([]string{
		"nsenter", fmt.Sprintf("--target=%d", h.at.keeper.Process.Pid), "--mount", "--net", "--uts", "--ipc", "--",
	}, argv...)
}

// Migrate moves a running guest to another host while it runs, and its
// definition with it: libvirt's peer-to-peer live migration, without shared
// storage and without TLS. flags are more of virsh migrate's.
func (h *Host) Migrate(ctx context.Context, guest string, to *Host, flags ...string) error {
	args := append([]string{"migrate", "--live", "--p2p", "--persistent", "--undefinesource"}, flags...)
	if _, err := h.Virsh(ctx, append(args, guest, to.URI())...); err != nil {
		return fmt.Errorf("lab: guest %s: migrate from %s to %s: %w", guest, h.Name, to.Name, err)
	}
	return nil
}
