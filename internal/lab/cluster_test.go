// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
)

// TestHostsAreApart looks at what the hosts of a cluster share with each other
// and with the lab, and at what they must not.
func TestHostsAreApart(t *testing.T) {
	lab.Need(t, lab.Libvirt, lab.OVN)
	ctx := t.Context()
	begin := time.Now()
	c := labtest.StartCluster(t, lab.ClusterOptions{Hosts: 2, Each: lab.Options{Libvirt: true}, OVN: &lab.OVNOptions{}})
	t.Logf("two hosts and OVN after %v", time.Since(begin))
	for _, h := range c.Hosts {
		for _, tt := range []struct {
			run  func() (string, error)
			want string
		}{
			{func() (string, error) { return h.Run(ctx, "uname", "-n") }, h.Name},
			{func() (string, error) { return c.Lab.Run(ctx, h.Command("uname", "-n")...) }, h.Name},
			{func() (string, error) { return h.Virsh(ctx, "hostname") }, h.Name},
			{func() (string, error) { return c.Lab.Run(ctx, "virsh", "-c", h.URI(), "hostname") }, h.Name},
			{func() (string, error) { return h.Vsctl(ctx, "get", "Open_vSwitch", ".", "external_ids:system-id") }, h.Name},
			{func() (string, error) {
				return c.Lab.Run(ctx, "ovs-vsctl", "--db="+h.OVSDBEndpoint(), "get", "Open_vSwitch", ".", "external_ids:system-id")
			}, h.Name},
			{func() (string, error) {
				return c.Central.Sbctl(ctx, "--bare", "--columns=ip", "find", "Encap", "chassis_name="+h.Name)
			}, h.Tunnel.String()},
		} {
			if out, err := tt.run(); err != nil || strings.Trim(out, "\"\n") != tt.want {
				t.Errorf("%s: got %q, %v, want %q", h.Name, out, err, tt.want)
			}
		}
		must(t, h.Do(func() error { return os.WriteFile("/etc/virt-vnet/mine", []byte(h.Name), 0o600) }))
		if text, err := os.ReadFile(h.Path("/etc/virt-vnet/mine")); err != nil || string(text) != h.Name {
			t.Errorf("a file of %s: got %q, %v", h.Name, text, err)
		}
	}
	if _, err := os.Stat("/etc/virt-vnet/mine"); !os.IsNotExist(err) {
		t.Errorf("a host's file shows in the lab: %v", err)
	}
	if name, err := c.Lab.Run(ctx, "uname", "-n"); err != nil || name != "lab" {
		t.Errorf("the lab's host name: got %q, %v", name, err)
	}
}

// TestNorthboundServers takes the leader away from a raft cluster, and the right
// certificates from a client.
func TestNorthboundServers(t *testing.T) {
	lab.Need(t, lab.OVN)
	ctx := t.Context()
	c := labtest.StartCluster(t, lab.ClusterOptions{Hosts: 1, OVN: &lab.OVNOptions{Servers: 3, SSL: true}})
	central := c.Central
	first, err := central.Leader(ctx)
	must(t, err)
	_, err = central.Nbctl(ctx, "ls-add", "blue")
	must(t, err)
	must(t, first.Kill(ctx))
	second, err := central.Leader(ctx)
	must(t, err)
	if second == first {
		t.Error("the leader is the server that was killed")
	}
	must(t, central.Sync(ctx))

	certs := central.Certificates()
	show := func(db, ca string) (string, error) {
		return c.Lab.Run(ctx, "ovn-nbctl", "--timeout=5", "--db="+db,
			"--private-key="+certs.ClientKey, "--certificate="+certs.Client, "--ca-cert="+ca, "--bare", "--columns=name", "list", "Logical_Switch")
	}
	for _, db := range []string{central.NBTCP(), central.NBSSL()} {
		if out, err := show(db, certs.CA); err != nil || out != "blue" {
			t.Errorf("%s: got %q, %v, want blue", db, out, err)
		}
	}
	if out, err := show(central.NBSSL(), certs.WrongCA); err == nil {
		t.Errorf("with the wrong CA: got %q", out)
	}
	must(t, first.Start(ctx))
	must(t, central.Sync(ctx))
}

// TestControllerEnds ends ovn-controller in both ways.
func TestControllerEnds(t *testing.T) {
	lab.Need(t, lab.OVN)
	ctx := t.Context()
	c := labtest.StartCluster(t, lab.ClusterOptions{Hosts: 2, OVN: &lab.OVNOptions{Encap: "vxlan"}})
	h := c.Hosts[1]
	chassis := func() string {
		out, err := c.Central.Sbctl(ctx, "--bare", "--columns=name", "find", "Chassis", "name="+h.Name)
		must(t, err)
		return out
	}
	must(t, h.Controller().Kill(ctx))
	if chassis() == "" {
		t.Error("a killed controller's chassis is gone")
	}
	must(t, h.Controller().Start(ctx))
	must(t, h.Leave(ctx))
	if out := chassis(); out != "" {
		t.Errorf("after leaving, the host's chassis: got %q, want none", out)
	}
	must(t, h.Controller().Start(ctx))
	must(t, c.Central.Sync(ctx))
}
