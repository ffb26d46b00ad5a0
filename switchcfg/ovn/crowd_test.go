// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Sizes of the plans that are measured.
const (
	fewPorts, somePorts, manyPorts = 100, 500, 2000
)

// crowd is many ports of guests on one host, whose switch and controller rest:
// measured is what it takes to write their logical ports.
type crowd struct {
	testing.TB

	c     *lab.Cluster
	d     onHost
	sw    vnet.Switch
	ports []vnet.Port
}

func startCrowd(b testing.TB, count int) *crowd {
	b.Helper()
	lab.Need(b, lab.OVN)
	c := &crowd{TB: b, c: labtest.StartCluster(b, lab.ClusterOptions{Hosts: 1, OVN: &lab.OVNOptions{}})}
	h := c.c.Hosts[0]
	c.sw = vnet.Switch{Name: lab.IntegrationBridge, Driver: vnet.DriverOVN}
	err := c.sw.Database.UnmarshalText([]byte(c.c.Central.NBTCP()))
	if err == nil {
		err = h.Controller().Kill(b.Context())
	}
	if err == nil {
		err = h.Vswitchd().Kill(b.Context())
	}
	if err == nil {
		c.d, err = open(b.Context(), h, c.sw)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.d.Close() })
	c.nbctl("ls-add", "red", "--", "set", "Logical_Switch", "red", "external_ids:virt-vnet-network=red", "--", "pg-add", "pg_red")
	for first := 0; first < count; first += fewPorts {
		c.plug(first)
	}
	return c
}

// plug adds a hundred ports without devices, as guests with vhost-user have.
func (c *crowd) plug(first int) {
	c.Helper()
	args := []string{"--no-wait"}
	for i := first; i < first+fewPorts; i++ {
		name := fmt.Sprintf("vhu%04d", i)
		args = append(args, "--", "add-port", lab.IntegrationBridge, name, "--", "set", "Interface", name,
			"type=dpdkvhostuserclient", "external_ids:iface-id="+switchtest.InterfaceID(name))
		address := netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)})
		p := port(name, fmt.Sprintf("4dea22b3-1d52-48f3-9516-%012x", i), vnet.MAC{0x52, 0x54, 1, 0, byte(i >> 8), byte(i)})
		p.Address, p.Own.Addresses, p.Policy.AntiSpoof = address, []netip.Addr{address}, true
		c.ports = append(c.ports, p)
	}
	if _, err := c.c.Hosts[0].Vsctl(c.Context(), args...); err != nil {
		c.Fatal(err)
	}
}

func (c *crowd) nbctl(args ...string) string {
	c.Helper()
	out, err := c.c.Central.Nbctl(c.Context(), args...)
	if err != nil {
		c.Fatal(err)
	}
	return out
}

// reset removes all logical ports.
func (c *crowd) reset() { c.nbctl("--wait=sb", "clear", "Logical_Switch", "red", "ports") }

// written checks that there are as many logical ports, and so many in the
// network's group.
func (c *crowd) written(want, inGroup int) {
	c.Helper()
	got := len(strings.Fields(c.nbctl("--bare", "--columns=name", "list", "Logical_Switch_Port")))
	group := len(strings.Fields(c.nbctl("--bare", "--columns=ports", "find", "Port_Group", "name=pg_red")))
	if got != want || group != inGroup {
		c.Fatalf("%d logical ports, %d in the network's group, want %d and %d", got, group, want, inGroup)
	}
}

// plan looks at the first ports, and compares.
func (c *crowd) plan(count int) switchcfg.Plan {
	c.Helper()
	want, err := switchcfg.Desired(c.ports[:count], c.sw)
	if err != nil {
		c.Fatal(err)
	}
	have, err := c.d.Observe(c.Context(), switchcfg.Scope{Devices: want.Devices()})
	if err != nil {
		c.Fatal(err)
	}
	plan, err := switchcfg.Diff(want, have, "")
	if err != nil {
		c.Fatal(err)
	}
	return plan
}

func (c *crowd) write(plan switchcfg.Plan) error {
	return c.d.h.Do(func() error { return c.d.Write(c.Context(), plan) })
}

// ours writes the first ports: looks, compares and changes.
func (c *crowd) ours(count int) time.Duration {
	c.Helper()
	begun := time.Now()
	if err := c.write(c.plan(count)); err != nil {
		c.Fatal(err)
	}
	took := time.Since(begun)
	c.written(count, count)
	c.reset()
	return took
}

// oneByOne writes as many with ovn-nbctl, a call for each.
func (c *crowd) oneByOne(count int) time.Duration {
	c.Helper()
	begun := time.Now()
	for _, p := range c.ports[:count] {
		own := fmt.Sprintf("%s %s", p.MAC, p.Address)
		c.nbctl("lsp-add", "red", p.InterfaceID, "--", "lsp-set-addresses", p.InterfaceID, own,
			"--", "lsp-set-port-security", p.InterfaceID, own+" ::/0",
			"--", "lsp-set-options", p.InterfaceID, "requested-chassis=host1")
	}
	took := time.Since(begun)
	c.written(count, 0)
	c.reset()
	return took
}

// TestMany writes so many ports in one plan that it is looked at them all at once.
func TestMany(t *testing.T) {
	const count = 200
	c := startCrowd(t, count)
	for i := range c.ports {
		c.ports[i].Policy.QoS.Inbound.Bits = testRate
	}
	plan := c.plan(count)
	twin := []string{
		"lsp-add", "red", "twin", "--", "set", "Logical_Switch_Port", "twin", "external_ids:virt-vnet-network=red",
		"external_ids:virt-vnet-guest=" + guest, `external_ids:virt-vnet-mac="` + c.ports[count-1].MAC.String() + `"`,
	}
	c.nbctl(twin...)
	if err := c.write(plan); !errors.Is(err, switchcfg.ErrNotOwned) || !strings.Contains(err.Error(), "logical port twin") {
		t.Errorf("with a twin: got error %v", err)
	}
	c.written(1, 0)
	c.nbctl("lsp-del", "twin")
	if err := c.write(plan); err != nil {
		t.Fatal(err)
	}
	c.written(count, count)
	if left := c.plan(count); !left.Empty() {
		t.Errorf("still to do:\n%s", left)
	}
	if err := c.write(plan.Reverse()); err != nil {
		t.Fatal(err)
	}
	c.written(0, 0)
	if left := c.nbctl("--bare", "--columns=_uuid", "list", "QoS"); left != "" {
		t.Errorf("left of the limits: %s", left)
	}
}

// BenchmarkPorts measures what writing logical ports takes: many in one
// transaction, against one by one.
func BenchmarkPorts(b *testing.B) {
	c := startCrowd(b, manyPorts)
	took := map[string][]time.Duration{}
	for round := 0; b.Loop(); round++ {
		for _, count := range []int{fewPorts, somePorts, manyPorts} {
			name := fmt.Sprint(count, "ours")
			took[name] = append(took[name], c.ours(count))
			each := fmt.Sprint(count, "each")
			took[each] = append(took[each], took[name][round]/time.Duration(count))
		}
		if round == 0 { // which takes longer than all of ours
			took["500nbctl"] = append(took["500nbctl"], c.oneByOne(somePorts))
		}
	}
	for what, list := range took {
		b.Log(what, list)
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2])/float64(time.Millisecond), "ms/"+what)
	}
}
