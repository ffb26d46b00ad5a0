// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/verify"
)

// snapshotDir has what [snapshotAtStart] finds, by guest.
const snapshotDir = "/run/snapshots"

// snapshotScript runs at the end of libvirt's "start" operation, after our hook
// and before there is a QEMU: libvirt runs the hooks of a directory by name.
const snapshotScript = `#!/bin/sh
[ "$2" = start ] || exit 0
cat >` + snapshotDir + `/$1.xml
bridge -j vlan show >` + snapshotDir + `/$1.json
! [ -e /run/libvirt/qemu/$1.pid ] && ! grep -lz "[g]uest=$1," /proc/[0-9]*/cmdline >` + snapshotDir + `/$1.running
`

// port is where a guest's only NIC is plugged in, and the VLAN it is to be in.
type port struct {
	guest, device, mac string
	vlan               int
}

// ports finds the ports of all guests.
func (h *host) ports() []port {
	h.t.Helper()
	var list []port
	for _, g := range h.spec.Topology.Guests {
		nic := g.NICs[0]
		n, _ := h.spec.Topology.Network(nic.Network)
		list = append(list, port{g.Name, h.device(g.Name, nic.Network), nic.MAC.String(), int(n.Policy.VLAN.Access)})
	}
	return list
}

// vlanTable is what "bridge -j vlan show" prints, in words like "20 PVID Egress
// Untagged", by device.
type vlanTable map[string][]string

func parseVLANs(t *testing.T, text []byte) vlanTable {
	t.Helper()
	var raw []struct {
		Ifname string
		Vlans  []struct {
			Vlan, VlanEnd int // VlanEnd is 0 when it is one VLAN
			Flags         []string
		}
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		t.Fatalf("bridge -j vlan show: %v\n%s", err, text)
	}
	table := vlanTable{}
	for _, r := range raw {
		for _, v := range r.Vlans {
			ids := strconv.Itoa(v.Vlan)
			if v.VlanEnd != 0 {
				ids += "-" + strconv.Itoa(v.VlanEnd)
			}
			table[r.Ifname] = append(table[r.Ifname], ids+" "+strings.Join(v.Flags, " "))
		}
	}
	return table
}

// access checks that the ports are access ports of their VLANs, and nothing else.
func (table vlanTable) access(t *testing.T, ports ...port) {
	t.Helper()
	for _, p := range ports {
		want := []string{fmt.Sprintf("%d PVID Egress Untagged", p.vlan)}
		if diff := cmp.Diff(want, table[p.device]); diff != "" {
			t.Errorf("VLANs of %s, port of %s (-want +got):\n%s", p.device, p.guest, diff)
		} else {
			t.Logf("%s, port of %s: VLAN %s, no other", p.device, p.guest, want[0])
		}
	}
}

// snapshotAtStart installs the hook that takes a snapshot of every guest's start.
func snapshotAtStart(t *testing.T) (remove func()) {
	t.Helper()
	for _, dir := range []string{snapshotDir, hooks.DefaultHooksDir + "/qemu.d"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := hooks.DefaultHooksDir + "/qemu.d/zz-snapshot"
	if err := os.WriteFile(file, []byte(snapshotScript), 0o755); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(file); err != nil {
			t.Error(err)
		}
	}
}

// wiredBefore looks at the snapshots: the guest was not there yet, its port was,
// and was all it has to be.
func wiredBefore(t *testing.T, ports []port) {
	for _, p := range ports {
		file := filepath.Join(snapshotDir, p.guest)
		if running, err := os.ReadFile(file + ".running"); err != nil || len(running) > 0 {
			t.Errorf("%s ran already: %s, %v", p.guest, running, err)
		}
		text, err := os.ReadFile(file + ".xml")
		if err != nil {
			t.Fatal(err)
		}
		d, err := libvirtnet.ParseDomain(text)
		if err != nil || len(d.NICs) != 1 || d.NICs[0].Device != p.device {
			t.Fatalf("the domain of the snapshot, %v, is not on %s:\n%s", err, p.device, text)
		}
		table, err := os.ReadFile(file + ".json")
		if err != nil {
			t.Fatal(err)
		}
		parseVLANs(t, table).access(t, p)
	}
}

func vlansNow(t *testing.T, ports []port) {
	table := parseVLANs(t, bridgeJSON(t, "vlan", "show"))
	table.access(t, ports...)
	// The bridge itself is as the kernel makes one, and we can see VLAN 1.
	if diff := cmp.Diff([]string{"1 PVID Egress Untagged"}, table["br0"]); diff != "" {
		t.Errorf("VLANs of br0 (-want +got):\n%s", diff)
	}
}

// uplinkFollows checks that the uplink carries the guests' VLANs, with a tag, and
// what it carried before. [bridgeAsBefore] checks that they go with the guests.
func uplinkFollows(t *testing.T) {
	want := []string{"1 PVID Egress Untagged", "20 ", "30 "}
	if diff := cmp.Diff(want, parseVLANs(t, bridgeJSON(t, "vlan", "show"))["eth1"]); diff != "" {
		t.Errorf("VLANs of the uplink (-want +got):\n%s", diff)
	}
}

func bridgeJSON(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "bridge", append([]string{"-j"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sameVLAN has the guests of VLAN 20 ping each other.
func sameVLAN(t *testing.T, h *host) {
	for _, pair := range [][2]string{{"web1", "10.0.20.12"}, {"web2", "10.0.20.11"}, {"web1", "10.0.20.1"}, {"db1", "10.0.30.1"}} {
		if out, err := h.Exec(t.Context(), pair[0], "ping -c1 -W20 "+pair[1]); err != nil {
			t.Error(err)
		} else {
			t.Logf("%s reaches %s: %s", pair[0], pair[1], lastLine(out))
		}
	}
}

func lastLine(text string) string { return text[strings.LastIndexByte(text, '\n')+1:] }

// otherVLAN gives web1, in VLAN 20, an address in the subnet of db1, in VLAN 30,
// so that nothing but VLANs keeps them apart. That web1's frames are sent and
// understood is proved by somebody in VLAN 20 with such an address too, and that
// db1 would answer by somebody in VLAN 30.
func otherVLAN(t *testing.T, h *host) {
	const web1, db1, twin = "10.0.30.99", "10.0.30.13", "10.0.30.2"
	if out, err := exec.CommandContext(t.Context(), "ip", "-n", "gw-red", "address", "add", twin+"/24", "dev", "eth0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := h.Exec(t.Context(), "web1", "ip addr add "+web1+"/24 dev eth0"); err != nil {
		t.Fatal(err)
	}
	if out, err := h.Exec(t.Context(), "web1", "ping -c1 -W20 "+twin); err != nil {
		t.Errorf("web1 cannot send to that subnet at all: %v", err)
	} else {
		t.Logf("web1 as %s reaches %s in VLAN 20: %s", web1, twin, lastLine(out))
	}
	if out, err := h.Exec(t.Context(), "web1", "ping -c3 -W3 "+db1); err == nil {
		t.Errorf("web1, in VLAN 20, reaches db1, in VLAN 30: %s", out)
	} else {
		t.Logf("web1 as %s does not reach %s in VLAN 30: %v", web1, db1, err)
	}
	// An ARP request for its address leaves its mark, whether answered or not.
	heard := h.neighbours(t, "db1")
	if slices.Contains(heard, web1) {
		t.Errorf("db1, in VLAN 30, has heard %s, in VLAN 20: it knows %v", web1, heard)
	}
	if !slices.Contains(heard, "10.0.30.1") {
		t.Errorf("db1 has not even heard its gateway: it knows %v", heard)
	}
	t.Logf("db1 has heard of %v, and not of %s", heard, web1)
}

// neighbours returns the addresses whose ARP a guest has heard or sent.
func (h *host) neighbours(t *testing.T, guest string) []string {
	t.Helper()
	out, err := h.Exec(t.Context(), guest, "cat /proc/net/arp")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, line := range strings.Split(out, "\n")[1:] {
		if words := strings.Fields(line); len(words) > 0 {
			list = append(list, words[0])
		}
	}
	return list
}

// verifyProves wants the verdict, and the proof of isolation, of verify.
func verifyProves(t *testing.T, h *host) {
	t.Logf("\n%s", h.must(0, "verify"))
	r := verdict(t, h, 0)
	apart := 0
	for _, p := range r.Pairs {
		if p.Expect == verify.ExpectIsolation && p.Status == verify.StatusPass && p.Entered && p.Control != "" && len(p.Delivered) == 0 {
			apart++
		}
	}
	if apart == 0 {
		t.Errorf("no isolation was proved: %+v", r.Pairs)
	}
}

// bridgeAsBefore checks that the guests' ports and addresses are gone, and that
// the others are still there.
func bridgeAsBefore(t *testing.T, ports []port) {
	table := parseVLANs(t, bridgeJSON(t, "vlan", "show"))
	want := vlanTable{
		"br0": {"1 PVID Egress Untagged"}, "to-stray": {"1 PVID Egress Untagged"}, "to-echo": {"1 PVID Egress Untagged"},
		"eth1":      {"1 PVID Egress Untagged"},
		"to-gw-red": {"20 PVID Egress Untagged"}, "to-gw-blue": {"30 PVID Egress Untagged"},
	}
	if diff := cmp.Diff(want, table); diff != "" {
		t.Errorf("ports of br0 (-want +got):\n%s", diff)
	}
	if filtering, err := os.ReadFile("/sys/class/net/br0/bridge/vlan_filtering"); err != nil || string(filtering) != "0\n" {
		t.Errorf("br0 still filters VLANs: %q, %v", filtering, err)
	}
	fdb := string(bridgeJSON(t, "fdb", "show"))
	for _, p := range ports {
		if strings.Contains(fdb, p.mac) {
			t.Errorf("%s of %s is still known: %s", p.mac, p.guest, fdb)
		}
	}
}
