// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn_test

import (
	"context"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/ovn"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestMain(m *testing.M) { lab.Main(m) }

// start starts hosts, with the networks red and blue.
func start(t *testing.T, hosts int) *lab.Cluster {
	t.Helper()
	return startWith(t, hosts, lab.OVNOptions{})
}

func startWith(t *testing.T, hosts int, options lab.OVNOptions) *lab.Cluster {
	t.Helper()
	lab.Need(t, lab.OVN)
	c := labtest.StartCluster(t, lab.ClusterOptions{Hosts: hosts, OVN: &options})
	for _, network := range []string{"red", "blue"} {
		nbctl(t, c, "ls-add", network, "--", "set", "Logical_Switch", network, "external_ids:virt-vnet-network="+network)
	}
	return c
}

// brInt is the integration bridge of every host of the cluster.
func brInt(t *testing.T, c *lab.Cluster) vnet.Switch {
	t.Helper()
	sw := vnet.Switch{Name: lab.IntegrationBridge, Driver: vnet.DriverOVN}
	if err := sw.Database.UnmarshalText([]byte(c.Central.NBTCP())); err != nil {
		t.Fatal(err)
	}
	return sw
}

// onHost is a driver as a program on the host has it.
type onHost struct {
	*ovn.Driver

	h *lab.Host
}

// open opens a driver on the host.
func open(ctx context.Context, h *lab.Host, sw vnet.Switch) (d onHost, err error) {
	d.h = h
	err = h.Do(func() error {
		d.Driver, err = ovn.Open(ctx, sw)
		return err
	})
	return d, err
}

// Observe implements [switchcfg.Driver].
func (d onHost) Observe(ctx context.Context, scope switchcfg.Scope) (state switchcfg.State, err error) {
	err = d.h.Do(func() error {
		state, err = d.Driver.Observe(ctx, scope)
		return err
	})
	return state, err
}

// Apply implements [switchcfg.Driver].
func (d onHost) Apply(ctx context.Context, plan switchcfg.Plan) (applied []switchcfg.Change, err error) {
	err = d.h.Do(func() error {
		applied, err = d.Driver.Apply(ctx, plan)
		return err
	})
	return applied, err
}

// Release implements [switchcfg.Releaser].
func (d onHost) Release(ctx context.Context, guest string, ids []string) error {
	return d.h.Do(func() error { return d.Driver.Release(ctx, guest, ids) })
}

// Examine implements [switchcfg.Examiner].
func (d onHost) Examine(ctx context.Context, want switchcfg.State) error {
	return d.h.Do(func() error { return d.Driver.Examine(ctx, want) })
}

func nbctl(t *testing.T, c *lab.Cluster, args ...string) string {
	t.Helper()
	out, err := c.Central.Nbctl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func run(t *testing.T, h *lab.Host, argv ...string) string {
	t.Helper()
	out, err := h.Run(t.Context(), argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// addTap makes a device like that of a guest that is about to start.
func addTap(t *testing.T, h *lab.Host, device string) {
	t.Helper()
	run(t, h, "ip", "tuntap", "add", "dev", device, "mode", "tap")
	run(t, h, "ip", "link", "set", device, "up")
}

// plug makes the device a port, as libvirt does.
func plug(t *testing.T, h *lab.Host, bridge, device string) {
	t.Helper()
	run(t, h, "ovs-vsctl", "add-port", bridge, device,
		"--", "set", "Interface", device, "external_ids:iface-id="+switchtest.InterfaceID(device))
}

func TestConformance(t *testing.T) {
	c := start(t, 1)
	h := c.Hosts[0]
	switchtest.Conformance(t, switchtest.Fixture{
		Switch: brInt(t, c),
		Open: func(ctx context.Context, sw vnet.Switch) (switchcfg.Driver, error) {
			d, err := open(ctx, h, sw)
			if err != nil {
				return nil, err
			}
			return d, nil
		},
		AddDevice: func(t *testing.T, device string) { addTap(t, h, device) },
		Plug: func(t *testing.T, device string, elsewhere bool) {
			bridge := lab.IntegrationBridge
			if elsewhere {
				bridge = "br-phy"
			}
			plug(t, h, bridge, device)
		},
		Remove: func(t *testing.T, device string) {
			ctx := context.WithoutCancel(t.Context())
			if _, err := h.Run(ctx, "ovs-vsctl", "--if-exists", "del-port", device); err != nil {
				t.Error(err)
			}
			_, _ = h.Run(ctx, "ip", "link", "del", device) // may be gone
			if _, err := c.Central.Nbctl(ctx, "--if-exists", "lsp-del", switchtest.InterfaceID(device)); err != nil {
				t.Error(err)
			}
		},
		Look: func(t *testing.T, device string) string {
			return run(t, h, "ovs-vsctl", "--columns=name,interfaces,external_ids", "list", "Port", device) +
				run(t, h, "ovs-vsctl", "port-to-br", device) +
				nbctl(t, c, "--columns=name,options,addresses,port_security,external_ids", "find", "Logical_Switch_Port",
					"name="+switchtest.InterfaceID(device))
		},
		MarkForeign: func(t *testing.T, device string) {
			nbctl(t, c, "lsp-add", "red", switchtest.InterfaceID(device))
		},
	})
}
