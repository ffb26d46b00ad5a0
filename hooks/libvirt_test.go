// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// newLibvirtHost is a realHost whose libvirt has the networks lan and red. The
// network red says nothing of VLANs: the hook puts its guests into VLAN 20.
func newLibvirtHost(t *testing.T) realHost {
	t.Helper()
	h := newRealHost(t, lab.Options{Libvirt: true, OVS: true})
	for _, xml := range []string{
		`<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>`,
		`<network><name>red</name><forward mode='bridge'/><bridge name='ovs0'/><virtualport type='openvswitch'/></network>`,
	} {
		if err := h.DefineNetwork(t.Context(), xml); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// reload makes libvirt see the hooks that were installed behind its back.
func (h realHost) reload(t *testing.T) {
	t.Helper()
	r, err := hooks.Install(t.Context(), hooks.Options{Binary: hookProgram(t), Store: h.Store})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Reload) != 1 || r.Reload[0].PID != h.Libvirtd().PID() {
		t.Fatalf("reload due for %+v, want libvirtd, process %d", r.Reload, h.Libvirtd().PID())
	}
	if err := hooks.Reload(t.Context(), hooks.Options{Store: h.Store}, r.Reload); err != nil {
		t.Fatal(err)
	}
}

func (h realHost) define(t *testing.T, name string, networks ...string) *lab.Guest {
	t.Helper()
	g := &lab.Guest{Name: name}
	for _, n := range networks {
		g.NICs = append(g.NICs, lab.NIC{Network: n})
	}
	if err := h.DefineGuest(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	return g
}

// before puts another hook in place that runs before ours, for one operation.
func before(t *testing.T, operation, script string) (remove func()) {
	t.Helper()
	path := filepath.Join(hooks.DefaultHooksDir, "qemu.d", "10-before")
	text := fmt.Sprintf("#!/bin/sh\n[ \"$2\" = %s ] || exit 0\n%s\n", operation, script)
	put(t, filepath.Dir(path), filepath.Base(path), text, 0o755)
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// The hooks of a real guest's life, from a daemon that did not know of them.
func TestLibvirtGuest(t *testing.T) {
	lab.Need(t, lab.Guests, lab.OVS)
	h := newLibvirtHost(t)
	h.plug(t, "foreign0", "br0")
	foreign := h.br0(t)["foreign0"]
	checkStatus(t, h, false, "systemctl reload libvirtd")
	h.reload(t)
	checkStatus(t, h, true, "was reloaded")

	g := h.define(t, "g1", "lan", "red")
	began := time.Now()
	if err := h.StartGuest(t.Context(), g.Name); err != nil {
		t.Fatal(err)
	}
	checkStatus(t, h, true, "it ran at")
	record, err := h.Guest(g.UUID)
	if err != nil || !record.Complete || len(record.Ports) != 2 || record.Started.Before(began) {
		t.Fatalf("record %+v, %v, want a complete one of two ports that has started", record, err)
	}
	lan, red := h.br0(t)[record.Ports[0].Device], h.ovs0(t)[record.Ports[1].Device]
	if lan.Owner.Guest != g.UUID || lan.Settings.Flags[switchcfg.FlagIsolated] != vnet.ToggleOn {
		t.Errorf("lan: %+v, want it isolated, of the guest", lan)
	}
	if red.Owner.Guest != g.UUID || red.Settings.VLAN == nil || red.Settings.VLAN.Access != 20 {
		t.Errorf("red: %+v, want VLAN 20, of the guest", red)
	}
	drift(t, h, record, g.UUID)

	if err := h.DestroyGuest(t.Context(), g.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Guest(g.UUID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("record: %v, want none after the end", err)
	}
	if now := h.br0(t)["foreign0"]; !reflect.DeepEqual(now, foreign) {
		t.Errorf("foreign port: %+v, want %+v", now, foreign)
	}
	for _, driver := range []string{"qemu", "network"} {
		if run, err := h.LastRun(driver); err != nil || run.Result != state.ResultOK {
			t.Errorf("%s: last run %+v, %v, want a good one", driver, run, err)
		}
	}
	if run, err := h.LastError(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a run failed: %+v, %v", run, err)
	}
}

// drift breaks a port and restarts libvirt, which reconnects to its guests.
func drift(t *testing.T, h realHost, record state.Guest, uuid string) {
	t.Helper()
	device := record.Ports[1].Device
	if _, err := h.Vsctl(t.Context(), "set", "port", device, "tag=666"); err != nil {
		t.Fatal(err)
	}
	if err := h.Libvirtd().Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); h.ovs0(t)[device].Settings.VLAN.Access != 20; {
		if time.Now().After(deadline) {
			t.Fatal("the port is not put right when libvirt reconnects")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if out, err := h.Virsh(t.Context(), "domstate", uuid); err != nil || out != "running" {
		t.Errorf("the guest is %q, %v, want it running", out, err)
	}
}

// What is in the way of the guest is in libvirt's error, and nothing is left.
func TestLibvirtRefused(t *testing.T) {
	lab.Need(t, lab.Guests, lab.OVS)
	h := newLibvirtHost(t)
	h.reload(t)
	g := h.define(t, "g1", "lan", "red")
	stopped := func() error { return h.StartOVS(t.Context()) }
	resumed := func() error { return h.Vswitchd().Resume() }
	for _, tc := range []struct {
		name, operation, script string // run before our hook
		refusedAt, want         string
		heal                    func() error
	}{
		{
			"OVSDB gone at prepare", "prepare", fmt.Sprintf("kill -9 %d", h.OVSDB().PID()),
			"prepare", "virt-vnet: refused to start guest g1: network red: switch ovs0: ", stopped,
		},
		{
			"vswitchd hangs in the middle of start", "start", fmt.Sprintf("kill -STOP %d", h.Vswitchd().PID()),
			"start", "virt-vnet: refused to start guest g1: network red: switch ovs0: ", resumed,
		},
		{
			"record torn", "prepare", "echo '{' > " + state.DefaultStateDir + "/networks/red.json",
			"port-created", "virt-vnet: refused to plug a guest into network red: ", func() error {
				h.network(t, "red", vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS}, vnet.Policy{VLAN: vnet.VLANSet{Access: 20}})
				return nil
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			remove := before(t, tc.operation, tc.script)
			err := h.StartGuest(t.Context(), g.Name)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want our line in it", err)
			}
			remove()
			if err := tc.heal(); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Guest(g.UUID); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("record: %v, want none", err)
			}
			if run, err := h.LastError(); err != nil || run.Operation != tc.refusedAt {
				t.Errorf("last error %+v, %v, want the refusal", run, err)
			}
			if err := h.StartGuest(t.Context(), g.Name); err != nil {
				t.Fatalf("healed: %v", err)
			}
			if err := h.DestroyGuest(t.Context(), g.Name); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A NIC that is plugged in later has no qemu hook: the network's hook checks.
func TestLibvirtHotplugRefused(t *testing.T) {
	lab.Need(t, lab.Guests, lab.OVS)
	h := newLibvirtHost(t)
	h.reload(t)
	g := h.define(t, "g1", "lan")
	if err := h.StartGuest(t.Context(), g.Name); err != nil {
		t.Fatal(err)
	}
	h.network(t, "red", vnet.Switch{Name: "nowhere", Driver: vnet.DriverOVS}, vnet.Policy{})
	out, err := h.Virsh(t.Context(), "attach-interface", g.Name, "network", "red", "--live")
	if err == nil || !strings.Contains(out, "virt-vnet: refused to plug a guest into network red: ") {
		t.Errorf("attach-interface: %v, want our line in it", err)
	}
}

func checkStatus(t *testing.T, h realHost, active bool, evidence string) {
	t.Helper()
	status, err := hooks.GetStatus(hooks.Options{Binary: hookProgram(t), Store: h.Store})
	if err != nil {
		t.Fatal(err)
	}
	for _, hook := range status.Hooks {
		if !hook.Installed || !hook.Current || hook.Active != active || !strings.Contains(hook.Evidence, evidence) {
			t.Errorf("%+v, want active %v with %q", hook, active, evidence)
		}
	}
}
