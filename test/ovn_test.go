// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/golden"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/test/stage"
)

// ovnExample is one network on two hosts.
const ovnExample = "../examples/ovn-two-hosts"

// plainBridge joins the hosts, too, for comparison. These guests have a second NIC on
// it.
const plainBridge = "lan0"

var plainAddress = map[string]string{"web1": "10.3.0.11", "db2": "10.3.0.22"}

// newOVN is a cluster with OVN and the example's spec, of this cluster's names.
func newOVN(t *testing.T) *hosts {
	t.Helper()
	lab.Need(t, lab.Libvirt, lab.Guests, lab.OVN)
	h := &hosts{t: t, bin: programs(t)}
	h.Cluster = labtest.StartCluster(t, lab.ClusterOptions{
		Hosts: 2, Each: lab.Options{Libvirt: true}, OVN: &lab.OVNOptions{},
	})
	if err := h.AddLinuxBridge(t.Context(), plainBridge); err != nil {
		t.Fatal(err)
	}
	text, err := stage.TwoHosts(h.Cluster, filepath.Join(ovnExample, "spec.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	h.useSpec(text)
	return h
}

// bootOVN starts the guests of the spec where they belong. They get their
// addresses by DHCP.
func (h *hosts) bootOVN() {
	h.t.Helper()
	ctx := h.t.Context()
	spec, err := config.Load(h.spec)
	if err != nil {
		h.t.Fatal(err)
	}
	h.places = map[string]int{}
	guestsOf := stage.Mobile(spec.Topology, len(h.Hosts))
	for _, g := range slices.Concat(guestsOf...) {
		if address := plainAddress[g.Name]; address != "" {
			g.NICs = append(g.NICs, lab.NIC{Bridge: plainBridge, Addresses: []netip.Prefix{netip.MustParsePrefix(address + "/24")}})
		}
	}
	each := func(do func(*lab.Host, *lab.Guest) error) {
		h.t.Helper()
		for i, guests := range guestsOf {
			for _, g := range guests {
				h.places[g.Name] = i
				if err := do(h.Hosts[i], g); err != nil {
					h.t.Fatal(err)
				}
			}
		}
	}
	each(func(host *lab.Host, g *lab.Guest) error { return host.DefineGuest(ctx, g) })
	h.apply(0) // again: what the spec says of guests goes to those that there are
	each(func(host *lab.Host, g *lab.Guest) error { return host.StartGuest(ctx, g.Name) })
	each(func(host *lab.Host, g *lab.Guest) error { return host.WaitUp(ctx, g.Name) })
}

// TestOVN follows the example on two hosts: who talks, who does not, and a guest
// that moves.
func TestOVN(t *testing.T) {
	h := newOVN(t)
	plan, _ := h.virtVnet(0, "plan", "-f", h.spec)
	golden.Check(t, filepath.Join(ovnExample, "plan.txt"), strings.ReplaceAll(plan, "host host", "host kvm"))
	h.apply(0)
	h.bootOVN()
	t.Run("DHCP", func(t *testing.T) { h.with(t).leases() })
	t.Run("all talk", func(t *testing.T) { h.with(t).allTalk() })
	t.Run("spoofing", func(t *testing.T) { h.with(t).spoofs() })
	t.Run("ACL", func(t *testing.T) { h.with(t).listens() })
	t.Run("migration", func(t *testing.T) { h.with(t).migrates() })
	t.Run("controller killed", func(t *testing.T) { h.with(t).losesController() })
}

// with is the same for another test.
func (h *hosts) with(t *testing.T) *hosts {
	t.Helper()
	with := *h
	with.t = t
	return &with
}

// exec runs a command in a guest of the example, wherever it is by now.
func (h *hosts) exec(guest, command string) (string, error) {
	h.t.Helper()
	return h.Hosts[h.places[guest]].Exec(h.t.Context(), guest, command)
}

func (h *hosts) must(guest, command string) string {
	h.t.Helper()
	out, err := h.exec(guest, command)
	if err != nil {
		h.t.Fatalf("in guest %s: %s: %v: %s", guest, command, err, out)
	}
	return out
}

func ovnAddress(guest string) string {
	return map[string]string{"web1": "10.0.20.11", "web2": "10.0.20.12", "db1": "10.0.20.21", "db2": "10.0.20.22"}[guest]
}

func (h *hosts) leases() {
	for guest := range h.places {
		if out := h.must(guest, "ip -4 addr show eth0"); !strings.Contains(out, "inet "+ovnAddress(guest)+"/24 ") {
			h.t.Errorf("guest %s has %s", guest, out)
		}
	}
}

func (h *hosts) allTalk() {
	for from := range h.places {
		for to := range h.places {
			if from == to {
				continue
			}
			if out, err := h.exec(from, "ping -c 3 -i 0.2 -W 2 "+ovnAddress(to)); err != nil {
				h.t.Errorf("%s does not reach %s: %s", from, to, out)
			}
		}
		if out, err := h.exec(from, "ping -c 3 -i 0.2 -W 2 10.0.20.1"); err != nil {
			h.t.Errorf("%s does not reach its gateway: %s", from, out)
		}
	}
}

// spoofs has web1 send from what is not its own, to a guest of each host.
func (h *hosts) spoofs() {
	deaf := func(what string) {
		for _, to := range []string{"db1", "db2"} {
			if out, err := h.exec("web1", "ping -c 3 -i 0.2 -W 1 -I 10.0.20.99 "+ovnAddress(to)); what == "address" && err == nil {
				h.t.Errorf("web1 reaches %s with the address of nobody: %s", to, out)
			}
			if out, err := h.exec("web1", "ping -c 3 -i 0.2 -W 1 "+ovnAddress(to)); what == "MAC" && err == nil {
				h.t.Errorf("web1 reaches %s with the MAC of nobody: %s", to, out)
			}
		}
	}
	h.must("web1", "ip addr add 10.0.20.99/24 dev eth0")
	deaf("address")
	h.must("web1", "ip addr del 10.0.20.99/24 dev eth0")
	h.must("web1", "ip link set eth0 address 52:54:00:00:20:99")
	deaf("MAC")
	h.must("web1", "ip link set eth0 address 52:54:00:00:20:11")
	if out, err := h.exec("web1", "ping -c 3 -i 0.2 -W 2 "+ovnAddress("db2")); err != nil {
		h.t.Errorf("web1 itself again does not reach db2: %s", out)
	}
}

// listens has the databases listen, for web1 and for others.
func (h *hosts) listens() {
	for _, db := range []string{"db1", "db2"} {
		for _, port := range []int{5432, 8080} {
			h.must(db, fmt.Sprintf("(nc -ll -p %d -e /bin/busybox echo hello >/dev/null 2>&1 &); "+
				"until cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q :%04X.*:0000.0A; do sleep 1; done", port, port))
		}
		for from, reaches := range map[string]map[string]bool{
			"web1": {"5432": true, "8080": true}, "web2": {"5432": false, "8080": true},
		} {
			for port, want := range reaches {
				out, err := h.exec(from, "nc -w 3 "+ovnAddress(db)+" "+port+" </dev/null")
				if got := err == nil && strings.Contains(out, "hello"); got != want {
					h.t.Errorf("%s reaches %s port %s: %v, want %v: %s", from, db, port, got, want, out)
				}
			}
		}
	}
}

// migrates moves web1 there and back while it is pinged. On OVN it is away for not
// much longer than on the Linux bridge.
func (h *hosts) migrates() {
	ctx := h.t.Context()
	for _, to := range []int{1, 0} {
		from := h.places["web1"]
		var pings []*lab.GuestPing
		for _, address := range []string{plainAddress["web1"], ovnAddress("web1")} {
			ping, err := h.Hosts[1].StartPing(ctx, "db2", netip.MustParseAddr(address), 50*time.Millisecond)
			if err != nil {
				h.t.Fatal(err)
			}
			pings = append(pings, ping)
		}
		if err := h.Hosts[from].Migrate(ctx, "web1", h.Hosts[to]); err != nil {
			h.t.Fatal(err)
		}
		h.places["web1"] = to
		var losses []lab.PingLoss
		for _, ping := range pings {
			loss, err := h.Hosts[1].StopPing(ctx, ping)
			if err != nil {
				h.t.Fatal(err)
			}
			losses = append(losses, loss)
		}
		if bridge, ovn := losses[0].Gap, losses[1].Gap; bridge > 3*time.Second || ovn > bridge+time.Second {
			h.t.Errorf("while web1 moved to %s: Linux bridge %v, OVN %v", h.Hosts[to].Name, losses[0], losses[1])
		}
		h.t.Logf("while web1 moved to %s: Linux bridge %v, OVN %v", h.Hosts[to].Name, losses[0], losses[1])
		h.allTalk()
		h.spoofs()
	}
}

// losesController kills ovn-controller, which traffic does not need.
func (h *hosts) losesController() {
	ctx := h.t.Context()
	host := h.Hosts[1]
	ping, err := host.StartPing(ctx, "db2", netip.MustParseAddr(ovnAddress("web1")), 50*time.Millisecond)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := host.Controller().Kill(ctx); err != nil {
		h.t.Fatal(err)
	}
	out, err := host.Run(ctx, filepath.Join(h.bin, "virt-vnet"), "repair")
	if err != nil || !strings.Contains(out, "nothing to repair") {
		h.t.Errorf("repair without ovn-controller: %v: %s", err, out)
	}
	time.Sleep(2 * time.Second) // of traffic without it
	loss, err := host.StopPing(ctx, ping)
	if err != nil || loss.Lost > 0 || loss.Sent < 20 {
		h.t.Errorf("without ovn-controller: %v, %v", loss, err)
	}
	if err := host.Controller().Start(ctx); err != nil {
		h.t.Fatal(err)
	}
}

// useSpec puts the spec where the administrator finds it, and has the hosts run
// our hooks.
func (h *hosts) useSpec(text string) {
	h.t.Helper()
	h.spec = filepath.Join(h.t.TempDir(), "site.yaml")
	h.write(text)
	for _, host := range h.Hosts {
		h.on(host, filepath.Join(h.bin, "virt-vnet"), "hooks", "install", "--reload")
	}
}
