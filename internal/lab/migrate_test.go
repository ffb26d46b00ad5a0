// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
)

// nets are the three networks between the hosts. Guests have a NIC in each, in
// this order.
var nets = []struct{ name, prefix string }{{"OVN", "10.1.0."}, {"OVS", "10.2.0."}, {"Linux bridge", "10.3.0."}}

// portOf returns the name of a guest's logical port.
func portOf(guest string) string { return lab.UUIDFor(guest + " blue") }

// bootGuests boots guest1 on the first host and guest2 on the second.
func bootGuests(t *testing.T, c *lab.Cluster) {
	t.Helper()
	ctx := t.Context()
	must(t, c.AddOVSBridge(ctx, "br0"))
	must(t, c.AddLinuxBridge(ctx, "lan0"))
	_, err := c.Central.Nbctl(ctx, "ls-add", "blue")
	must(t, err)
	g, gctx := errgroup.WithContext(ctx)
	for n, h := range c.Hosts {
		guest := &lab.Guest{Name: fmt.Sprintf("guest%d", n+1), NICs: []lab.NIC{{Bridge: lab.IntegrationBridge}, {Bridge: "br0"}, {Bridge: "lan0"}}}
		id := portOf(guest.Name)
		guest.NICs[0].InterfaceID = id
		for i := range guest.NICs {
			guest.NICs[i].MTU, guest.NICs[i].Addresses = 1400, prefixes(fmt.Sprintf("%s%d/24", nets[i].prefix, n+1))
		}
		_, err := c.Central.Nbctl(ctx, "lsp-add", "blue", id, "--", "lsp-set-addresses", id,
			fmt.Sprintf("%s %s%d", lab.MACFor(guest.Name, 0), nets[0].prefix, n+1))
		must(t, err)
		g.Go(func() error { return h.Boot(gctx, guest) })
	}
	must(t, g.Wait())
}

// TestMigration moves a guest from one host to the other while it is pinged at
// 20 Hz in three networks.
func TestMigration(t *testing.T) {
	lab.Need(t, lab.Guests, lab.OVN)
	ctx := t.Context()
	begin := time.Now()
	c := labtest.StartCluster(t, lab.ClusterOptions{Hosts: 2, Each: lab.Options{Libvirt: true}, OVN: &lab.OVNOptions{}})
	t.Logf("cluster after %v", time.Since(begin))
	bootGuests(t, c)
	t.Logf("guests after %v", time.Since(begin))
	from, to := c.Hosts[0], c.Hosts[1]

	// Without it both chassis claim the port for as long as QEMU runs on both.
	_, err := c.Central.Nbctl(ctx, "--wait=hv", "set", "Logical_Switch_Port", portOf("guest1"),
		`options:requested-chassis="host1,host2"`, "options:activation-strategy=rarp")
	must(t, err)
	ears := listenForRARP(t, c)
	var pings []*lab.GuestPing
	for _, n := range nets {
		p, err := to.StartPing(ctx, "guest2", netip.MustParseAddr(n.prefix+"1"), 50*time.Millisecond)
		must(t, err)
		pings = append(pings, p)
	}
	begin = time.Now()
	must(t, from.Migrate(ctx, "guest1", to))
	t.Logf("migrated in %v", time.Since(begin))
	_, err = c.Central.Nbctl(ctx, "--wait=hv", "set", "Logical_Switch_Port", portOf("guest1"), "options:requested-chassis=host2")
	must(t, err)
	gaps := map[string]time.Duration{}
	for i, n := range nets {
		if _, err := to.Exec(ctx, "guest2", "ping -c3 -W2 "+n.prefix+"1"); err != nil {
			t.Errorf("%s: after the migration: %v", n.name, err)
		}
		loss, err := to.StopPing(ctx, pings[i])
		must(t, err)
		t.Logf("%s: %v", n.name, loss)
		if loss.Lost == loss.Sent || loss.Gap > 5*time.Second {
			t.Errorf("%s: %v, want a gap of 5 s at most", n.name, loss)
		}
		gaps[n.name] = loss.Gap
	}
	for name, gap := range gaps {
		if most := gaps["Linux bridge"] + time.Second; gap > most {
			t.Errorf("%s: a gap of %v, want at most a second more than on the Linux bridge, %v", name, gap, most)
		}
	}
	for name, heard := range ears {
		if ok, err := heard(); err != nil || !ok {
			t.Errorf("RARP of the guest that has moved on %s: got %v, %v", name, ok, err)
		}
	}
	if state, err := to.Virsh(ctx, "domstate", "guest1"); err != nil || state != "running" {
		t.Errorf("at the destination: got %q, %v, want running", state, err)
	}
	if out, err := from.Virsh(ctx, "list", "--all", "--name"); err != nil || out != "" {
		t.Errorf("guests at the source: got %q, %v, want none", out, err)
	}
}

// listenForRARP listens on the wires between the bridges for what QEMU sends
// for a guest that has arrived.
func listenForRARP(t *testing.T, c *lab.Cluster) map[string]func() (bool, error) {
	t.Helper()
	ears := map[string]func() (bool, error){}
	for i, wire := range []string{"wire-br0", "wire-lan0"} {
		s := &lab.Station{Name: "ear" + fmt.Sprint(i), Bridge: wire}
		must(t, c.Lab.AddStation(t.Context(), s))
		listener, err := s.Listen()
		must(t, err)
		t.Cleanup(func() { _ = listener.Close() })
		want := append(lab.MACFor("guest1", i+1), 0x80, 0x35) // source address and EtherType
		ears[wire] = func() (bool, error) {
			return listener.Sees(func(frame []byte) bool { return len(frame) > 14 && bytes.Equal(frame[6:14], want) }, time.Second)
		}
	}
	return ears
}
