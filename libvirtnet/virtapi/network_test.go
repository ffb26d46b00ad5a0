// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/vnet"
)

var on = virtapi.EnsureOptions{Autostart: true, Start: true}

// TestNetworks takes networks through their life in a real libvirtd.
func TestNetworks(t *testing.T) {
	lab.Need(t, lab.Libvirt, lab.OVS)
	l := labtest.Start(t, lab.Options{Libvirt: true, OVS: true})
	if err := errors.Join(
		l.AddLinuxBridge(t.Context(), "br0"), l.AddOVSBridge(t.Context(), "ovs0"), l.AddVeth(t.Context(), "eno1", "fabric"),
	); err != nil {
		t.Fatal(err)
	}
	c := open(t, lab.URI)
	t.Run("every kind", func(t *testing.T) { everyKind(t, c) })
	t.Run("one that libvirt refuses", func(t *testing.T) { refused(t, c) })
	t.Run("foreign", func(t *testing.T) { foreignNetwork(t, l, c) })
	t.Run("edited by hand", func(t *testing.T) { editedByHand(t, l, c) })
	t.Run("undefined by hand", func(t *testing.T) { undefinedByHand(t, l, c) })
	t.Run("does not start", func(t *testing.T) { doesNotStart(t, c) })
}

// everyKind defines and starts each network that libvirtnet can write, finds
// nothing to do a second time, and removes them again.
func everyKind(t *testing.T, c *virtapi.Conn) {
	definitions := golden(t, c.Version().String())
	names := slices.Sorted(maps.Keys(definitions))
	var xmls []string
	for _, name := range names {
		xmls = append(xmls, definitions[name])
	}
	for _, want := range []virtapi.Ensured{
		{Outcome: virtapi.Created, Started: true, AutostartSet: true},
		{Outcome: virtapi.Unchanged},
	} {
		done, err := c.EnsureNetworks(t.Context(), xmls, on)
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range done {
			want.Name = names[i]
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", names[i], diff)
			}
		}
	}
	for _, name := range names {
		n, ok := network(t, c, name)
		if !ok || !n.Owned || !n.Active || !n.Autostart || n.UUID == "" {
			t.Errorf("%s: %+v, want it ours, active, with autostart", name, n)
		}
		if err := c.RemoveNetwork(t.Context(), name); err != nil {
			t.Error(err)
		}
		if err := c.RemoveNetwork(t.Context(), name); !errors.Is(err, virtapi.ErrNoNetwork) {
			t.Errorf("removed %s twice: %v", name, err)
		}
	}
	if list, err := c.Networks(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("left over: %+v, %v", list, err)
	}
}

// refused checks that the version gates are needed, and that one refusal does
// not keep other networks from being made.
func refused(t *testing.T, c *virtapi.Conn) {
	if c.Version() >= 11_000_000 {
		t.Fatal("this libvirt has VLANs on Linux bridges: the test needs another thing it refuses")
	}
	newer := golden(t, "11.0.0")
	done, err := c.EnsureNetworks(t.Context(), []string{newer["linux-access"], newer["linux-plain"]}, on)
	const want = "network linux-access: define: unsupported configuration: <vlan> element specified for network linux-access, whose type doesn't support vlan configuration"
	if err == nil || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
	if len(done) != 2 || done[0].Outcome != 0 || done[1].Outcome != virtapi.Created {
		t.Errorf("done = %+v, want the second created", done)
	}
	if err := c.RemoveNetwork(t.Context(), "linux-plain"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "<network><name>", "<network><name>red</name></network>"} {
		if done, err := c.EnsureNetwork(t.Context(), bad, on); err == nil {
			t.Errorf("%q: %+v", bad, done)
		}
	}
}

func foreignNetwork(t *testing.T, l *lab.Lab, c *virtapi.Conn) {
	virsh(t, l, "net-define", write(t, "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>"))
	before := virsh(t, l, "net-dumpxml", "lan")
	xml := networkXML(t, vnet.Network{Name: "lan", Mode: vnet.ModeBridge}, vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS})
	if done, err := c.EnsureNetwork(t.Context(), xml, on); !errors.Is(err, virtapi.ErrForeign) {
		t.Errorf("ensured a foreign network: %+v, %v", done, err)
	}
	if err := c.RemoveNetwork(t.Context(), "lan"); !errors.Is(err, virtapi.ErrForeign) {
		t.Errorf("removed a foreign network: %v", err)
	}
	if diff := cmp.Diff(before, virsh(t, l, "net-dumpxml", "lan")); diff != "" {
		t.Errorf("the foreign network changed (-want +got):\n%s", diff)
	}
	if n, ok := network(t, c, "lan"); !ok || n.Owned || n.Active || n.Autostart {
		t.Errorf("listed as %+v", n)
	}
	virsh(t, l, "net-undefine", "lan")
}

// editedByHand checks that an edit is seen and undone, and that the network
// keeps what is its own and what is somebody else's.
func editedByHand(t *testing.T, l *lab.Lab, c *virtapi.Conn) {
	n := vnet.Network{Name: "out", Mode: vnet.ModeNAT, Subnet: prefix("192.168.160.0/24")}
	xml := networkXML(t, n, vnet.Switch{})
	mustEnsure(t, c, xml, on)
	before, _ := network(t, c, "out")
	edited := strings.Replace(before.XML, "</metadata>", `<o:note xmlns:o="https://other/">keep</o:note></metadata>`, 1)
	edited = strings.Replace(edited, "<mac", "<dns enable='no'/><mac", 1)
	virsh(t, l, "net-define", write(t, edited))

	done := mustEnsure(t, c, xml, on)
	want := virtapi.Ensured{Name: "out", Outcome: virtapi.Updated, Changes: []string{`- dns enable="no"`}}
	if diff := cmp.Diff(want, done); diff != "" {
		t.Errorf("after the edit (-want +got):\n%s", diff)
	}
	after, _ := network(t, c, "out")
	kept := strings.Replace(before.XML, `format="1"/>`, `format="1"/>`+"\n    "+`<o:note xmlns:o="https://other/">keep</o:note>`, 1)
	if diff := cmp.Diff(kept, after.XML); diff != "" {
		t.Errorf("the definition afterwards (-want +got):\n%s", diff)
	}

	n.Subnet = prefix("192.168.161.0/24")
	xml = networkXML(t, n, vnet.Switch{})
	if done := mustEnsure(t, c, xml, on); done.Outcome != virtapi.Updated || !done.Restarted {
		t.Errorf("a new subnet and no guest: %+v, want it updated and restarted", done)
	}
	if live := virsh(t, l, "net-dumpxml", "out"); !strings.Contains(live, "192.168.161.1") || !strings.Contains(live, before.UUID) {
		t.Errorf("running with %s", live)
	}
	if done := mustEnsure(t, c, xml, on); done.Outcome != virtapi.Unchanged || done.Restarted {
		t.Errorf("once more: %+v", done)
	}
	if err := c.RemoveNetwork(t.Context(), "out"); err != nil {
		t.Error(err)
	}
}

// undefinedByHand: a network that was undefined while it runs is transient.
func undefinedByHand(t *testing.T, l *lab.Lab, c *virtapi.Conn) {
	xml := networkXML(t, vnet.Network{Name: "lab", Mode: vnet.ModeIsolated}, vnet.Switch{})
	mustEnsure(t, c, xml, on)
	virsh(t, l, "net-undefine", "lab")
	done := mustEnsure(t, c, xml, on)
	want := virtapi.Ensured{Name: "lab", Outcome: virtapi.Updated, Changes: []string{"+ persistent"}, AutostartSet: true}
	if diff := cmp.Diff(want, done); diff != "" {
		t.Errorf("after net-undefine (-want +got):\n%s", diff)
	}
	virsh(t, l, "net-undefine", "lab")
	if err := c.RemoveNetwork(t.Context(), "lab"); err != nil {
		t.Errorf("remove a transient network: %v", err)
	}
	if n, ok := network(t, c, "lab"); ok {
		t.Errorf("still there: %+v", n)
	}
}

func doesNotStart(t *testing.T, c *virtapi.Conn) {
	first := networkXML(t, vnet.Network{Name: "one", Mode: vnet.ModeNAT, Subnet: prefix("192.168.162.0/24")}, vnet.Switch{})
	second := networkXML(t, vnet.Network{Name: "two", Mode: vnet.ModeNAT, Subnet: prefix("192.168.162.0/25")}, vnet.Switch{})
	mustEnsure(t, c, first, on)
	done, err := c.EnsureNetwork(t.Context(), second, on)
	if err == nil || !strings.HasPrefix(err.Error(), "network two: defined, but cannot be started: ") || done.Outcome != virtapi.Created {
		t.Errorf("a subnet that is taken: %+v, %v", done, err)
	}
	for _, name := range []string{"one", "two"} {
		if err := c.RemoveNetwork(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
}

func virsh(t *testing.T, l *lab.Lab, args ...string) string {
	t.Helper()
	out, err := l.Virsh(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "definition.xml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
