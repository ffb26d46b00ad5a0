// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// site is a host with networks red (VLAN 20) and blue (VLAN 30) on ovs0, lan on
// br0, soft on br0 with the policy to warn, and nat on libvirt's own bridge.
type site struct {
	*hooks.Wirer
	host     *switchtest.Host
	switches map[string]*memory
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	kinds := map[string]vnet.Driver{"ovs0": vnet.DriverOVS, "br0": vnet.DriverLinux, "virbr7": vnet.DriverLinux}
	var switches []switchtest.Switch
	for name, driver := range kinds {
		switches = append(switches, switchtest.Switch{Switch: vnet.Switch{Name: name, Driver: driver}})
	}
	s := &site{host: switchtest.NewHost(switches...), switches: map[string]*memory{}}
	for _, sw := range switches {
		s.switches[sw.Name] = &memory{Switch: sw.Switch, host: s.host}
	}
	s.Wirer = &hooks.Wirer{
		Store: state.Store{StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run")},
		Open: func(ctx context.Context, sw vnet.Switch) (switchcfg.Driver, error) {
			if m := s.switches[sw.Name]; m != nil {
				return m.open(ctx)
			}
			return s.host.Open(ctx, vnet.Switch{Name: "nowhere"})
		},
	}
	ovs := vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS}
	br := vnet.Switch{Name: "br0", Driver: vnet.DriverLinux}
	access := func(id vnet.VLANID) vnet.Policy { return vnet.Policy{VLAN: vnet.VLANSet{Access: id}} }
	for _, n := range []state.Network{
		{Switch: ovs, Network: vnet.Network{
			Name: "red", Mode: vnet.ModeBridge, Switch: "ovs0", Policy: access(20),
			Portgroups: []vnet.Portgroup{{Name: "web", Policy: access(21)}},
		}},
		{Switch: ovs, Network: vnet.Network{Name: "blue", Mode: vnet.ModeBridge, Switch: "ovs0", Policy: access(30)}},
		{Switch: br, Network: vnet.Network{Name: "lan", Mode: vnet.ModeBridge, Switch: "br0", MTU: 9000}},
		{Switch: br, Network: vnet.Network{Name: "soft", Mode: vnet.ModeBridge, Switch: "br0", OnFailure: vnet.FailureWarn}},
		{Network: vnet.Network{Name: "nat", Mode: vnet.ModeNAT, Policy: vnet.Policy{Isolated: true}}},
		{Network: vnet.Network{Name: "plain", Mode: vnet.ModeIsolated}},
		{Network: vnet.Network{Name: "edge", Mode: vnet.ModeMacvtap, Device: "eno1"}},
	} {
		if err := s.Store.PutNetwork(n); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// nic is a NIC in a network, with its device on the switch.
func nic(n byte, network, device string) libvirtnet.DomainNIC {
	return libvirtnet.DomainNIC{
		Type: "bridge", MAC: vnet.MAC{0x52, 0x54, 0, 0, 0, n}, Network: network, Device: device,
	}
}

func guestWith(nics ...libvirtnet.DomainNIC) libvirtnet.Domain {
	return libvirtnet.Domain{Name: "g1", UUID: uuid1, NICs: nics}
}

// plug makes devices as libvirt does, before the hook runs.
func (s *site) plug(devices map[string]string) {
	for device, sw := range devices {
		s.host.AddDevice(device)
		s.host.Plug(device, sw)
	}
}

func (s *site) checkRecord(t *testing.T, complete bool, devices ...string) {
	t.Helper()
	record, err := s.Store.Guest(uuid1)
	if len(devices) == 0 {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("record %+v, %v, want none", record, err)
		}
		return
	}
	if err != nil {
		t.Error(err)
	}
	var got []string
	for _, p := range record.Ports {
		got = append(got, p.Device)
	}
	if diff := cmp.Diff(devices, got); diff != "" || record.Complete != complete {
		t.Errorf("record complete %v, want %v; devices (-want +got):\n%s", record.Complete, complete, diff)
	}
}

func (s *site) checkHost(t *testing.T, want string) {
	t.Helper()
	if diff := cmp.Diff(want, s.host.String()); diff != "" {
		t.Errorf("host (-want +got):\n%s", diff)
	}
}

// twoSwitches is a guest with a NIC on each of the two switches, lan wired
// first.
func twoSwitches() (libvirtnet.Domain, map[string]string) {
	return guestWith(nic(1, "lan", "vnet0"), nic(2, "red", "vnet1"), nic(3, "blue", "vnet2")),
		map[string]string{"vnet0": "br0", "vnet1": "ovs0", "vnet2": "ovs0"}
}
