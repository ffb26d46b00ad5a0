// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/vnet"
)

var (
	ovs   = vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS}
	linux = vnet.Switch{Name: "br0", Driver: vnet.DriverLinux}

	red  = vnet.Network{Name: "red", Mode: vnet.ModeBridge, MTU: 1450, Portgroups: []vnet.Portgroup{{Name: "web", Policy: vlan(20)}}}
	lan  = vnet.Network{Name: "lan", Mode: vnet.ModeBridge, Policy: vnet.Policy{Isolated: true}}
	edge = vnet.Network{Name: "edge", Mode: vnet.ModeMacvtap, Device: "eno1", Macvtap: vnet.MacvtapPrivate}
	out  = vnet.Network{Name: "out", Mode: vnet.ModeNAT, Subnet: prefix("192.168.170.0/24")}
)

func vlan(id vnet.VLANID) vnet.Policy { return vnet.Policy{VLAN: vnet.VLANSet{Access: id}} }

// nics are the NICs of the test's guest, by network.
func nics() []vnet.NIC {
	return []vnet.NIC{
		{Network: "red", Portgroup: "web", MAC: mac(1), RXRing: 512, TXRing: 256},
		{Network: "lan", MAC: mac(2), Model: vnet.ModelE1000E},
		{Network: "edge", MAC: mac(3)},
		{Network: "out", MAC: mac(4)},
		{Network: "red", MAC: mac(5)},
	}
}

func mac(n byte) vnet.MAC { return vnet.MAC{0x52, 0x54, 0, 0, 0, n} }

func interfaceXML(t *testing.T, nic vnet.NIC) string {
	t.Helper()
	for _, n := range []vnet.Network{red, lan, edge, out} {
		if n.Name != nic.Network {
			continue
		}
		text, err := libvirtnet.InterfaceXML(nic, n)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	t.Fatalf("no network %s", nic.Network)
	return ""
}

// TestGuest starts a real guest with a NIC in every kind of network, as
// libvirtnet writes them.
func TestGuest(t *testing.T) {
	lab.Need(t, lab.Guests, lab.OVS)
	hooks := t.TempDir() // for what libvirt gives to its hooks, a file for each operation
	script := "#!/bin/sh\ncat >" + hooks + "/${0##*/}-$1-$2\n"
	if err := errors.Join(os.MkdirAll("/etc/libvirt/hooks", 0o755),
		os.WriteFile("/etc/libvirt/hooks/qemu", []byte(script), 0o755),
		os.WriteFile("/etc/libvirt/hooks/network", []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	l := labtest.Start(t, lab.Options{Libvirt: true, OVS: true})
	if err := errors.Join(
		l.AddLinuxBridge(t.Context(), "br0"), l.AddOVSBridge(t.Context(), "ovs0"), l.AddVeth(t.Context(), "eno1", "fabric"),
	); err != nil {
		t.Fatal(err)
	}
	c := open(t, lab.URI)
	for n, sw := range map[*vnet.Network]vnet.Switch{&red: ovs, &lan: linux, &edge: {}, &out: {}} {
		mustEnsure(t, c, networkXML(t, *n, sw), on)
	}
	g := lab.Guest{Name: "web1", UUID: "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"}
	for _, nic := range nics() {
		g.NICs = append(g.NICs, lab.NIC{XML: interfaceXML(t, nic), DHCP: nic.Network == "out"})
	}
	if err := l.Boot(t.Context(), &g); err != nil {
		t.Fatal(err)
	}
	hookXML, err := os.ReadFile(filepath.Join(hooks, "qemu-web1-start"))
	if err != nil {
		t.Fatal(err)
	}
	atHook, err := libvirtnet.ParseDomain(hookXML)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("network hook", func(t *testing.T) { networkHook(t, c, hooks) })
	t.Run("list", func(t *testing.T) { listed(t, c, atHook) })
	t.Run("ports", func(t *testing.T) { ports(t, l, atHook) })
	t.Run("addresses", func(t *testing.T) { leased(t, c) })
	t.Run("attach and detach", func(t *testing.T) { attached(t, c) })
	t.Run("networks in use", func(t *testing.T) { inUse(t, l, c) })
}

// networkHook reads what the network hook was given.
func networkHook(t *testing.T, c *virtapi.Conn, dir string) {
	for name, want := range map[string]libvirtnet.HookNetwork{
		"lan":  {Name: "lan", Bridge: "br0", Owned: true, Port: &libvirtnet.HookPort{MAC: mac(2), Bridge: "br0"}},
		"edge": {Name: "edge", Owned: true, Port: &libvirtnet.HookPort{MAC: mac(3)}},
		"out":  {Name: "out", Bridge: "virbr0", Owned: true, Port: &libvirtnet.HookPort{MAC: mac(4), Bridge: "virbr0"}},
	} {
		data, err := os.ReadFile(filepath.Join(dir, "network-"+name+"-port-created"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := libvirtnet.ParseHookNetwork(data)
		if err != nil {
			t.Errorf("%v\n%s", err, data)
			continue
		}
		n, _ := network(t, c, name)
		want.UUID, want.Port.Owner = n.UUID, vnet.GuestRef{Name: "web1", UUID: "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(libvirtnet.HookPort{}, "UUID")); diff != "" {
			t.Errorf("network %s (-want +got):\n%s", name, diff)
		}
	}
}

// listed checks the guest as the API shows it, and that the hook saw the same.
func listed(t *testing.T, c *virtapi.Conn, atHook libvirtnet.Domain) {
	guests, err := c.Guests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	nic := func(i int, d libvirtnet.DomainNIC) libvirtnet.DomainNIC {
		d.Index, d.MAC = i, mac(byte(i+1))
		if d.Model == "" {
			d.Model = "virtio"
		}
		return d
	}
	want := libvirtnet.Domain{Name: "web1", UUID: "4dea22b3-1d52-d8f3-2516-782e98ab3fa0", NICs: []libvirtnet.DomainNIC{
		nic(0, libvirtnet.DomainNIC{
			Type: "bridge", Network: "red", Portgroup: "web", Bridge: "ovs0", VirtualPort: "openvswitch",
			Device: "vnet0", MTU: 1450, VLAN: &vnet.VLANSet{Access: 20},
		}),
		nic(1, libvirtnet.DomainNIC{Type: "bridge", Network: "lan", Bridge: "br0", Model: "e1000e", Device: "vnet1", Isolated: true}),
		nic(2, libvirtnet.DomainNIC{Type: "direct", Network: "edge", SourceDev: "eno1", SourceMode: "private", Device: "macvtap0"}),
		nic(3, libvirtnet.DomainNIC{Type: "network", Network: "out", Bridge: "virbr0", Device: "vnet2"}),
		nic(4, libvirtnet.DomainNIC{
			Type: "bridge", Network: "red", Bridge: "ovs0", VirtualPort: "openvswitch", Device: "vnet3", MTU: 1450, VLAN: &vnet.VLANSet{},
		}),
	}}
	made := cmpopts.IgnoreFields(libvirtnet.DomainNIC{}, "InterfaceID", "Alias")
	if diff := cmp.Diff(want, atHook, made); diff != "" {
		t.Errorf("the guest as the hook saw it (-want +got):\n%s", diff)
	}
	all := []virtapi.Guest{{GuestRef: want.Ref(), State: virtapi.StateRunning, Active: true, Domain: want}}
	if diff := cmp.Diff(all, guests, made); diff != "" {
		t.Errorf("guests (-want +got):\n%s", diff)
	}
	if text, err := c.DomainXML(t.Context(), want.UUID, true); err != nil || strings.Contains(text, "vnet0") {
		t.Errorf("definition by UUID: %v\n%s", err, text)
	}
	if _, err := c.DomainXML(t.Context(), "web2", false); !errors.Is(err, virtapi.ErrNoGuest) {
		t.Errorf("XML of a guest that is not there: %v", err)
	}
}

// ports checks what libvirt makes of the XML where no hook wires anything: in
// particular that untagged is untagged on Open vSwitch, and no trunk of all
// VLANs.
func ports(t *testing.T, l *lab.Lab, d libvirtnet.Domain) {
	for i, want := range map[int]string{0: "20", 4: "0"} {
		got, err := l.Vsctl(t.Context(), "get", "port", d.NICs[i].Device, "tag")
		if err != nil || strings.TrimSpace(got) != want {
			t.Errorf("NIC %d: tag %s, %v, want %s", i, got, err, want)
		}
	}
	for file, want := range map[string]string{
		"/sys/class/net/" + d.NICs[1].Device + "/brport/isolated": "1",
		"/sys/class/net/" + d.NICs[0].Device + "/mtu":             "1450",
	} {
		got, err := os.ReadFile(file)
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: %s, %v, want %s", file, got, err, want)
		}
	}
}

// leased waits for the guest's DHCP lease: the guest has no agent.
func leased(t *testing.T, c *virtapi.Conn) {
	deadline := time.Now().Add(20 * time.Second)
	for {
		got, err := c.Addresses(t.Context(), "web1", virtapi.SourceLease)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > 0 || time.Now().After(deadline) {
			addresses := got[mac(4)]
			if len(got) != 1 || len(addresses) != 1 || !out.Subnet.Contains(addresses[0].Addr()) {
				t.Errorf("addresses = %+v, want one lease in %s", got, out.Subnet)
			}
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	if got, err := c.Addresses(t.Context(), "web1", virtapi.SourceAgent); err != nil || len(got) > 0 {
		t.Errorf("addresses of a guest without an agent: %v, %v", got, err)
	}
	if g, err := c.Guest(t.Context(), "web1"); err != nil || g.Name != "web1" || !g.Active || g.State != virtapi.StateRunning {
		t.Errorf("guest %+v, %v", g, err)
	}
	if _, err := c.Guest(t.Context(), "web2"); !errors.Is(err, virtapi.ErrNoGuest) {
		t.Errorf("a guest that is not there: %v", err)
	}
	if _, err := c.Addresses(t.Context(), "web2", virtapi.SourceLease); !errors.Is(err, virtapi.ErrNoGuest) {
		t.Errorf("addresses of a guest that is not there: %v", err)
	}
}

func attached(t *testing.T, c *virtapi.Conn) {
	both := virtapi.Target{Live: true, Config: true}
	nic := vnet.NIC{Network: "red", Portgroup: "web", MAC: mac(9), Queues: 1}
	if err := c.AttachInterface(t.Context(), "web1", interfaceXML(t, nic), virtapi.Target{}); err == nil {
		t.Error("attached to nothing")
	}
	if err := c.AttachInterface(t.Context(), "web2", interfaceXML(t, nic), both); !errors.Is(err, virtapi.ErrNoGuest) {
		t.Errorf("attached to a guest that is not there: %v", err)
	}
	if err := c.AttachInterface(t.Context(), "web1", "<interface", both); err == nil {
		t.Error("attached no XML")
	}
	if err := c.DetachInterface(t.Context(), "web1", mac(9), both); !errors.Is(err, virtapi.ErrNoInterface) {
		t.Errorf("detached what is not there: %v", err)
	}
	if err := c.AttachInterface(t.Context(), "web1", interfaceXML(t, nic), both); err != nil {
		t.Fatal(err)
	}
	live, config := find(t, c, false), find(t, c, true)
	if live == nil || live.Bridge != "ovs0" || live.Device == "" || config == nil || config.Network != "red" {
		t.Fatalf("attached: live %+v, config %+v", live, config)
	}
	if err := c.DetachInterface(t.Context(), "web1", mac(9), virtapi.Target{Config: true}); err != nil {
		t.Error(err)
	}
	if live, config := find(t, c, false), find(t, c, true); live == nil || config != nil {
		t.Errorf("detached from the definition: live %+v, config %+v", live, config)
	}
	if err := c.DetachInterface(t.Context(), "web1", mac(9), both); err != nil { // which only the running guest has
		t.Error(err)
	}
	for deadline := time.Now().Add(20 * time.Second); find(t, c, false) != nil; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the guest does not let go of its interface")
		}
	}
}

// find returns the NIC that the test attaches, or nil.
func find(t *testing.T, c *virtapi.Conn, config bool) *libvirtnet.DomainNIC {
	t.Helper()
	text, err := c.DomainXML(t.Context(), "web1", config)
	if err != nil {
		t.Fatal(err)
	}
	d, err := libvirtnet.ParseDomain([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if nic, ok := d.NIC(mac(9)); ok {
		return &nic
	}
	return nil
}

// inUse: a network with guests on it is neither removed nor stopped.
func inUse(t *testing.T, l *lab.Lab, c *virtapi.Conn) {
	err := c.RemoveNetwork(t.Context(), "red")
	const want = "network red: remove: in use (guests on it: web1): shut them down or detach their interfaces first"
	if !errors.Is(err, virtapi.ErrInUse) || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
	changed := red
	changed.Portgroups = []vnet.Portgroup{{Name: "web", Policy: vlan(30)}}
	xml := networkXML(t, changed, ovs)
	done := mustEnsure(t, c, xml, on)
	if done.Outcome != virtapi.Updated || done.Restarted || done.RestartDue != 2 {
		t.Errorf("%+v, want it updated, and a restart due for 2 NICs", done)
	}
	if done := mustEnsure(t, c, xml, on); done.Outcome != virtapi.Unchanged || done.RestartDue != 2 {
		t.Errorf("once more: %+v, want the restart still due", done)
	}
	if err := l.Libvirtd().Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	c = open(t, lab.URI)
	if done := mustEnsure(t, c, xml, on); done.Restarted || done.RestartDue != 2 {
		t.Errorf("after a restart of the daemon: %+v, want the guest still known", done)
	}
	virsh(t, l, "dommemstat", "web1") // answered once the daemon has the guest back, which must not be disturbed before
	if err := l.DestroyGuest(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	if done := mustEnsure(t, c, xml, on); done.Outcome != virtapi.Unchanged || !done.Restarted {
		t.Errorf("without the guest: %+v, want it restarted", done)
	}
	guests, err := c.Guests(t.Context())
	if err != nil || len(guests) != 1 || guests[0].Active || guests[0].State != virtapi.StateShutOff {
		t.Errorf("guests = %+v, %v, want one that is off", guests, err)
	}
	if err := c.AttachInterface(t.Context(), "web1", interfaceXML(t, nics()[0]), virtapi.Target{Live: true}); err == nil {
		t.Error("attached live to a guest that is off")
	}
	if err := c.RemoveNetwork(t.Context(), "red"); err != nil {
		t.Error(err)
	}
}
