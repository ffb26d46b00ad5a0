// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
	"github.com/virt-vnet/virt-vnet/vnet"
)

const (
	interfaceID = "7e9a4c3b-5a1d-4a55-9d0e-0b6f0f4f1b2c"
	otherID     = "7e9a4c3b-5a1d-4a55-9d0e-0b6f0f4f1b2d"
)

// startOVN starts hosts with the hook and the network red, which is on OVN.
func startOVN(t *testing.T, hosts int) *lab.Cluster {
	t.Helper()
	lab.Need(t, lab.Guests, lab.OVN)
	program := hookProgram(t)
	c := labtest.StartCluster(t, lab.ClusterOptions{Hosts: hosts, Each: lab.Options{Libvirt: true}, OVN: &lab.OVNOptions{}})
	if _, err := c.Central.Nbctl(t.Context(), "ls-add", "red", "--", "set", "Logical_Switch", "red", "external_ids:virt-vnet-network=red"); err != nil {
		t.Fatal(err)
	}
	sw := vnet.Switch{Name: lab.IntegrationBridge, Driver: vnet.DriverOVN}
	if err := sw.Database.UnmarshalText([]byte(c.Central.NBTCP())); err != nil {
		t.Fatal(err)
	}
	red := vnet.Network{Name: "red", Mode: vnet.ModeBridge, Switch: sw.Name, Policy: vnet.Policy{AntiSpoof: true}}
	xml, err := libvirtnet.NetworkXML(red, sw, libvirtnet.Version(9_000_000))
	if err != nil {
		t.Fatal(err)
	}
	store := state.Store{StateDir: state.DefaultStateDir, RunDir: state.DefaultRunDir}
	for _, h := range c.Hosts {
		err := h.Do(func() error {
			if _, err := hooks.Install(t.Context(), hooks.Options{Binary: program, Store: store}); err != nil {
				return err
			}
			return store.PutNetwork(state.Network{Network: red, Switch: sw})
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Libvirtd().Restart(t.Context()); err != nil { // it looks for hooks once
			t.Fatal(err)
		}
		if err := h.DefineNetwork(t.Context(), xml); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// logicalPorts is the guests' ports by name, with what they ask for.
func logicalPorts(t *testing.T, c *lab.Cluster) map[string]string {
	t.Helper()
	out, err := c.Central.Nbctl(t.Context(), "--bare", "--no-headings", "--format=csv", "--columns=name,options", "list", "Logical_Switch_Port")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(out) {
		name, options, _ := strings.Cut(strings.TrimSpace(line), ",")
		all[name] = strings.Trim(options, `"`)
	}
	return all
}

func defineOn(t *testing.T, h *lab.Host, name, id string) *lab.Guest {
	t.Helper()
	mac := lab.MACFor(name, 0)
	text, err := libvirtnet.InterfaceXML(vnet.NIC{Network: "red", MAC: vnet.MAC(mac), InterfaceID: id}, vnet.Network{Name: "red", Mode: vnet.ModeBridge})
	if err != nil {
		t.Fatal(err)
	}
	g := &lab.Guest{Name: name, NICs: []lab.NIC{{XML: text, MAC: mac}}}
	if err := h.DefineGuest(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	return g
}

// TestOVNGuest starts a guest on one host, moves it to another while it runs, and
// ends it there: its port is one and the same, and then gone.
func TestOVNGuest(t *testing.T) {
	c := startOVN(t, 2)
	from, to := c.Hosts[0], c.Hosts[1]
	g := defineOn(t, from, "g1", interfaceID)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(want string) {
		t.Helper()
		if got := logicalPorts(t, c); len(got) != 1 || got[interfaceID] != want {
			t.Fatalf("ports %v, want one that asks for %s", got, want)
		}
	}
	must(from.StartGuest(t.Context(), g.Name))
	at("requested-chassis=host1")
	moved := make(chan error, 1)
	go func() { moved <- from.Migrate(t.Context(), g.Name, to) }()
	const both = "activation-strategy=rarp requested-chassis=host1,host2"
	shared := false
	var err error
	for done := false; !done; {
		select {
		case err = <-moved:
			done = true
		case <-time.After(20 * time.Millisecond):
			shared = shared || logicalPorts(t, c)[interfaceID] == both
		}
	}
	must(err)
	if !shared {
		t.Errorf("the hosts never shared the port: it did not ask for %s", both)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil && logicalPorts(t, c)[interfaceID] != "requested-chassis=host2" {
		time.Sleep(50 * time.Millisecond) // the source ends behind libvirt's back
	}
	at("requested-chassis=host2")
	must(to.DestroyGuest(t.Context(), g.Name))
	if got := logicalPorts(t, c); len(got) != 0 {
		t.Fatalf("ports %v after the end, want none", got)
	}
}

// TestPruneOVN ends a guest while the northbound database does not answer. What
// is left of it goes when it was seen so twice, and nothing else does.
func TestPruneOVN(t *testing.T) {
	c := startOVN(t, 1)
	h := c.Hosts[0]
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ended, runs := defineOn(t, h, "g1", interfaceID), defineOn(t, h, "g2", otherID)
	must(h.StartGuest(t.Context(), ended.Name))
	must(h.StartGuest(t.Context(), runs.Name))
	const foreign = "lsp-add red foreign -- set Logical_Switch_Port foreign options:requested-chassis=host1"
	_, err := c.Central.Nbctl(t.Context(), strings.Fields(foreign)...)
	must(err)
	for _, db := range c.Central.NB() {
		must(db.Pause())
	}
	must(h.DestroyGuest(t.Context(), ended.Name))
	for _, db := range c.Central.NB() {
		must(db.Resume())
	}
	w := hooks.Wirer{Store: state.Store{StateDir: state.DefaultStateDir, RunDir: state.DefaultRunDir}, Open: drivers.Open}
	prune := func(running []libvirtnet.Domain, want ...string) {
		t.Helper()
		must(h.Do(func() error {
			red, err := w.Store.Network("red")
			if err != nil {
				return err
			}
			stale, err := w.Prune(t.Context(), red.Switch, running, time.Now(), true)
			var got []string
			for _, s := range stale {
				got = append(got, fmt.Sprintf("%s gone %t seen %t removed %t", s.Port.Device, s.Gone, !s.Since.IsZero(), s.Removed))
			}
			if !slices.Equal(got, want) {
				t.Errorf("stale ports %q, want %q", got, want)
			}
			return err
		}))
	}
	uuids := map[string]string{}
	must(h.Do(func() error {
		records, err := w.Store.Guests()
		for _, r := range records {
			uuids[r.Guest.Name] = r.Guest.UUID
		}
		return err
	}))
	both := []libvirtnet.Domain{{UUID: uuids["g1"]}, {UUID: uuids["g2"]}}
	prune(both)
	prune(both[1:], interfaceID+" gone true seen false removed false")
	prune(both) // it runs again
	prune(both[1:], interfaceID+" gone true seen false removed false")
	prune(both[1:], interfaceID+" gone true seen true removed true")
	prune(both[1:])
	if got := logicalPorts(t, c); len(got) != 2 || got[otherID] == "" || got["foreign"] == "" {
		t.Errorf("ports %v, want those of g2 and of somebody else", got)
	}
}

// TestInterfaceIDOfLibvirt shows why a NIC needs an interfaceid of its own: what
// libvirt makes up does not last.
func TestInterfaceIDOfLibvirt(t *testing.T) {
	c := startOVN(t, 1)
	h := c.Hosts[0]
	g := defineOn(t, h, "g1", "")
	seen := map[string]string{}
	for range 2 {
		if err := h.StartGuest(t.Context(), g.Name); err != nil {
			t.Fatal(err)
		}
		for name := range logicalPorts(t, c) {
			seen[name] = name
		}
		if err := h.DestroyGuest(t.Context(), g.Name); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 2 {
		t.Errorf("two starts had the ids %v, want two different ones", seen)
	}
	if got := logicalPorts(t, c); len(got) != 0 {
		t.Errorf("ports %v after the end, want none", got)
	}
}
