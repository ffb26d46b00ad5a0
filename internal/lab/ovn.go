// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"
)

// OVNOptions says what OVN central and the chassis are like.
type OVNOptions struct {
	// Servers is how many northbound servers there are: 0 or 1 is one on its own,
	// more, up to 5, are a raft cluster.
	Servers int

	// SSL lets the servers listen for SSL too, see [Central.NBSSL],
	// [Central.SBSSL] and [Central.Certificates].
	SSL bool

	// Encap is the tunnels' encapsulation: geneve if empty, or vxlan.
	Encap string
}

// Central is OVN central: the northbound and southbound databases and
// ovn-northd. It runs in the lab's own namespaces.
type Central struct {
	opts   OVNOptions
	nb     []*Daemon
	sb     *Daemon
	northd *Daemon
	certs  Certificates
}

const (
	maxServers = 5

	nbSchema  = "/usr/share/ovn/ovn-nb.ovsschema"
	sbSchema  = "/usr/share/ovn/ovn-sb.ovsschema"
	nbName    = "OVN_Northbound"
	sbName    = "OVN_Southbound"
	nbPort    = 6641
	sbPort    = 6642
	raftPort  = 6643
	sslPort   = 6651
	sbSSLPort = 6652
)

// server is one ovsdb-server of OVN central.
type server struct {
	database, schema string
	file             string // of the database, and of sockets and logs with it
	create           []string
	options          []string
}

func (s server) socket() string { return "/run/ovn/" + s.file + ".sock" }

func (s server) daemon() *Daemon {
	db := "/var/lib/ovn/" + s.file + ".db"
	argv := []string{
		"ovsdb-server", db, "--remote=punix:" + s.socket(), "--unixctl=/run/ovn/" + s.file + ".ctl",
		"--pidfile=/run/ovn/" + s.file + ".pid", "--log-file=/var/log/ovn/" + s.file + ".log", "-vconsole:off",
	}
	return &Daemon{
		name: s.file,
		argv: append(argv, s.options...),
		log:  "/var/log/ovn/" + s.file + ".out",
		prep: func(ctx context.Context) error {
			if _, err := os.Stat(db); err == nil {
				return nil
			}
			args := append([]string{"ovsdb-tool", s.create[0], db}, s.create[1:]...)
			_, err := run(ctx, args...)
			return err
		},
		ready: func(ctx context.Context) error {
			_, err := run(ctx, "ovsdb-client", "--timeout=1", "wait", "unix:"+s.socket(), s.database, "connected")
			return err
		},
	}
}

func nbFile(n int) string {
	if n == 0 {
		return "ovnnb_db" // what the tools look for
	}
	return fmt.Sprintf("ovnnb_db%d", n+1)
}

// centralAddr is the address of the n-th northbound server, counted from 0.
func centralAddr(n int) netip.Addr { return hostPrefix(0, -1-n).Addr() }

func newCentral(opts OVNOptions) *Central {
	opts.Servers = max(opts.Servers, 1)
	c := &Central{opts: opts, certs: CertificatesIn("/etc/ovn")}
	for n := range opts.Servers {
		c.nb = append(c.nb, c.nbServer(n).daemon())
	}
	c.sb = server{
		database: sbName, schema: sbSchema, file: "ovnsb_db", create: []string{"create", sbSchema},
		options: append(c.secure(sbSSLPort, centralAddr(0)), fmt.Sprintf("--remote=ptcp:%d", sbPort)),
	}.daemon()
	c.northd = &Daemon{
		name: "ovn-northd",
		argv: []string{
			"ovn-northd", "--ovnnb-db=" + c.NBSockets(), "--ovnsb-db=unix:/run/ovn/ovnsb_db.sock",
			"--pidfile", "--log-file", "-vconsole:off",
		},
		log: "/var/log/ovn/ovn-northd.out",
		ready: func(ctx context.Context) error {
			out, err := run(ctx, "ovn-appctl", "--timeout=1", "-t", "ovn-northd", "status")
			if err == nil && !strings.Contains(out, "active") {
				return errors.New(out)
			}
			return err
		},
	}
	return c
}

func (c *Central) nbServer(n int) server {
	addr := centralAddr(n)
	s := server{
		database: nbName, schema: nbSchema, file: nbFile(n), create: []string{"create", nbSchema},
		options: []string{fmt.Sprintf("--remote=ptcp:%d:%s", nbPort, addr)},
	}
	raft := func(n int) string { return fmt.Sprintf("tcp:%s:%d", centralAddr(n), raftPort) }
	switch {
	case c.opts.Servers > 1 && n == 0:
		s.create = []string{"create-cluster", nbSchema, raft(0)}
	case n > 0:
		s.create = []string{"join-cluster", nbName, raft(n), raft(0)}
	}
	s.options = append(s.options, c.secure(sslPort, addr)...)
	return s
}

// secure are the options with which a server listens for SSL, too, if that is
// wanted.
func (c *Central) secure(port int, addr netip.Addr) []string {
	if !c.opts.SSL {
		return nil
	}
	return []string{
		fmt.Sprintf("--remote=pssl:%d:%s", port, addr),
		"--private-key=" + c.certs.ServerKey, "--certificate=" + c.certs.Server, "--ca-cert=" + c.certs.CA,
	}
}

func (c *Central) start(ctx context.Context) error {
	if c.opts.Servers > maxServers {
		return fmt.Errorf("OVN: %d northbound servers: at most %d can be had", c.opts.Servers, maxServers)
	}
	if c.opts.SSL {
		var addrs []netip.Addr
		for n := range c.opts.Servers {
			addrs = append(addrs, centralAddr(n))
		}
		if err := c.certs.Write("lab", addrs...); err != nil {
			return err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.sb.Start(gctx) })
	g.Go(func() error {
		for _, d := range c.nb { // each joins those before
			if err := d.Start(gctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if _, err := c.Nbctl(ctx, "init"); err != nil {
		return err
	}
	if _, err := c.Sbctl(ctx, "init"); err != nil {
		return err
	}
	return c.northd.Start(ctx)
}

func (c *Central) stop(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	errs := []error{c.northd.Stop(ctx), c.sb.Stop(ctx)}
	for _, d := range c.nb {
		errs = append(errs, d.Kill(ctx)) // a raft server takes its time to leave
	}
	return errors.Join(errs...)
}

// NB returns the northbound servers, whether they run or not.
func (c *Central) NB() []*Daemon { return c.nb }

// SB returns the southbound server, whether it runs or not.
func (c *Central) SB() *Daemon { return c.sb }

// Northd returns ovn-northd, whether it runs or not.
func (c *Central) Northd() *Daemon { return c.northd }

// NBSockets are the northbound servers' unix sockets, as OVN's tools want them:
// with commas between.
func (c *Central) NBSockets() string {
	return c.endpoints(func(n int) string { return "unix:" + server{file: nbFile(n)}.socket() })
}

// NBTCP are the northbound servers' TCP endpoints, from the lab and from every
// host.
func (c *Central) NBTCP() string {
	return c.endpoints(func(n int) string { return fmt.Sprintf("tcp:%s:%d", centralAddr(n), nbPort) })
}

// NBSSL are the northbound servers' SSL endpoints. They exist with
// [OVNOptions.SSL] only.
func (c *Central) NBSSL() string {
	return c.endpoints(func(n int) string { return fmt.Sprintf("ssl:%s:%d", centralAddr(n), sslPort) })
}

// SBTCP is the southbound server's TCP endpoint.
func (c *Central) SBTCP() string { return fmt.Sprintf("tcp:%s:%d", centralAddr(0), sbPort) }

// SBSSL is the southbound server's SSL endpoint. It exists with
// [OVNOptions.SSL] only.
func (c *Central) SBSSL() string { return fmt.Sprintf("ssl:%s:%d", centralAddr(0), sbSSLPort) }

// Certificates are what to use with NBSSL and SBSSL.
func (c *Central) Certificates() Certificates { return c.certs }

func (c *Central) endpoints(of func(n int) string) string {
	var all []string
	for n := range c.nb {
		all = append(all, of(n))
	}
	return strings.Join(all, ",")
}

// Nbctl runs ovn-nbctl and returns what it printed.
func (c *Central) Nbctl(ctx context.Context, args ...string) (string, error) {
	return run(ctx, append([]string{"ovn-nbctl", "--timeout=30", "--db=" + c.NBSockets()}, args...)...)
}

// Sbctl runs ovn-sbctl and returns what it printed.
func (c *Central) Sbctl(ctx context.Context, args ...string) (string, error) {
	return run(ctx, append([]string{"ovn-sbctl", "--timeout=30"}, args...)...)
}

// Sync waits until every chassis has followed the northbound database.
func (c *Central) Sync(ctx context.Context) error {
	_, err := c.Nbctl(ctx, "--wait=hv", "sync")
	return err
}

// Leader returns the northbound server that is the raft cluster's leader.
func (c *Central) Leader(ctx context.Context) (*Daemon, error) {
	var leader *Daemon
	err := poll(ctx, func(ctx context.Context) error {
		for _, d := range c.nb {
			out, err := run(ctx, "ovs-appctl", "--timeout=1", "-t", "/run/ovn/"+d.name+".ctl", "cluster/status", nbName)
			if err == nil && strings.Contains(out, "\nRole: leader\n") {
				leader = d
				return nil
			}
		}
		return errors.New("no server says that it is the leader")
	})
	return leader, err
}

func newController(at *place) *Daemon {
	return &Daemon{
		name: "ovn-controller",
		at:   at,
		argv: []string{"ovn-controller", OVSDBEndpoint, "--pidfile", "--log-file", "-vconsole:off"},
		log:  "/var/log/ovn/ovn-controller.out",
		ready: func(ctx context.Context) error {
			_, err := run(ctx, "ovn-appctl", "--timeout=1", "-t", "ovn-controller", "version")
			return err
		},
	}
}

// Controller returns the host's ovn-controller, whether it runs or not. Whether
// by Stop or by Kill, its chassis, tunnels and flows stay when it ends.
func (h *Host) Controller() *Daemon { return h.controller }

// Leave ends the host's ovn-controller, which takes its chassis out of the
// southbound database and its tunnels and flows off the host.
func (h *Host) Leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patient(stopLimit))
	defer cancel()
	if _, err := h.Run(ctx, "ovn-appctl", "-t", "ovn-controller", "exit"); err != nil {
		return fmt.Errorf("lab: %s: leave OVN: %w", h.Name, err)
	}
	return poll(ctx, func(context.Context) error {
		if h.controller.PID() != 0 {
			return errors.New("ovn-controller has not ended")
		}
		return nil
	})
}

// startChassis makes every host a chassis and returns when all are registered
// and have tunnels to each other.
func (c *Cluster) startChassis(ctx context.Context, encap string) error {
	if encap == "" {
		encap = "geneve"
	}
	if err := c.AddOVSBridge(ctx, tunnelBridge); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for n, h := range c.Hosts {
		prefix := hostPrefix(1, n)
		h.Tunnel = prefix.Addr()
		g.Go(func() error {
			// The userspace datapath sends tunnels' frames from an address of its own
			// bridge only.
			if err := h.Do(func() error { return addAddress(tunnelBridge, prefix) }); err != nil {
				return err
			}
			_, err := h.Vsctl(gctx, "--", "set", "Open_vSwitch", ".", "external_ids:ovn-remote="+c.Central.SBTCP(),
				"external_ids:ovn-encap-type="+encap, "external_ids:ovn-encap-ip="+h.Tunnel.String(),
				"external_ids:ovn-bridge-datapath-type=netdev",
				"--", "add-br", IntegrationBridge, "--", "set", "bridge", IntegrationBridge, "datapath_type=netdev", "fail-mode=secure")
			if err != nil {
				return err
			}
			return h.controller.Start(gctx)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patient(startLimit))
	defer cancel()
	for _, h := range c.Hosts {
		if err := poll(ctx, func(ctx context.Context) error { return h.registered(ctx, c) }); err != nil {
			return fmt.Errorf("chassis %s: %w; its log:\n%s", h.Name, err, tail(h.controller.Log()))
		}
	}
	return nil
}

// registered returns nil when the host has a tunnel to each other one.
func (h *Host) registered(ctx context.Context, c *Cluster) error {
	out, err := c.Central.Sbctl(ctx, "--bare", "--columns=name", "find", "Chassis", "name="+h.Name)
	if err != nil || out != h.Name {
		return errors.Join(fmt.Errorf("not registered: %q", out), err)
	}
	out, err = h.Vsctl(ctx, "--bare", "--columns=name", "find", "Interface", "options:key=flow")
	if tunnels := len(strings.Fields(out)); err == nil && tunnels < len(c.Hosts)-1 {
		return fmt.Errorf("%d tunnels", tunnels)
	}
	return err
}
