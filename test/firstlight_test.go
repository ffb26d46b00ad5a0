// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/verify"
)

// TestFirstLight is the story of the demo with its claims checked: on real
// guests, and by means other than our own.
func TestFirstLight(t *testing.T) {
	h := newHost(t, "../examples/first-light/spec.yaml")
	h.must(0, "apply")
	h.must(0, "hooks", "install", "--reload")
	h.boot()

	t.Run("ports are wired", func(t *testing.T) { wiredPorts(t, h) })
	t.Run("guests agree with verify", func(t *testing.T) { guestsAgree(t, h) })
	t.Run("reports are read", func(t *testing.T) { reportsAreRead(t, h) })
	t.Run("two faults are named", func(t *testing.T) { twoFaults(t, h) })
	t.Run("a port taken off the bridge is put back", func(t *testing.T) { portOffBridge(t, h) })
	t.Run("interface is added and removed live", func(t *testing.T) { liveInterface(t, h) })
	t.Run("guest that stops is unwired", func(t *testing.T) { stoppedGuest(t, h) })
	t.Run("stale ports are pruned", func(t *testing.T) { stalePorts(t, h) })
	t.Run("OVSDB gone refuses the start", func(t *testing.T) { ovsdbGone(t, h) })
	t.Run("libvirt gone is said", func(t *testing.T) { libvirtGone(t, h) })
}

// wiredPorts looks with the switches' own tools.
func wiredPorts(t *testing.T, h *host) {
	for _, want := range []struct{ guest, network, tag string }{{"web1", "red", "20"}, {"web2", "red", "20"}, {"db1", "blue", "30"}} {
		port := h.device(want.guest, want.network)
		if tag := h.vsctl("get", "port", port, "tag"); tag != want.tag {
			t.Errorf("%s on %s has tag %s, want %s", want.guest, want.network, tag, want.tag)
		}
		if mark := h.vsctl("get", "port", port, "external_ids:virt-vnet-network"); strings.Trim(mark, "\"") != want.network {
			t.Errorf("%s on %s is marked %s", want.guest, want.network, mark)
		}
	}
	for _, guest := range []string{"web1", "db1"} {
		master, err := os.Readlink("/sys/class/net/" + h.device(guest, "lan") + "/master")
		if err != nil || !strings.HasSuffix(master, "/br0") {
			t.Errorf("%s on lan is on %q, %v", guest, master, err)
		}
	}
}

// guestsAgree has the guests themselves ping, which verify never does.
func guestsAgree(t *testing.T, h *host) {
	for _, tt := range []struct {
		guest, address string
		answers        bool
	}{
		{"web1", "10.0.20.12", true},  // red to red
		{"web1", "10.0.20.1", true},   // red's gateway
		{"db1", "10.0.10.11", true},   // lan to lan
		{"web2", "10.0.40.13", true},  // edge to edge
		{"web1", "10.0.30.13", false}, // red to blue: no route, no VLAN
	} {
		_, err := h.Exec(t.Context(), tt.guest, "ping -c3 -W1 "+tt.address)
		if (err == nil) != tt.answers {
			t.Errorf("%s pings %s: %v, want answers %t", tt.guest, tt.address, err, tt.answers)
		}
	}
	r := verdict(t, h, 0)
	isolated := 0
	for _, p := range r.Pairs {
		if p.Expect == verify.ExpectIsolation && p.Status == verify.StatusPass {
			isolated++
			if !p.Entered || p.Control == "" || len(p.Delivered) > 0 {
				t.Errorf("%s to %s passes without proof: %+v", p.From, p.To, p)
			}
		}
	}
	if isolated == 0 {
		t.Error("no isolation was proved")
	}
}

// verdict runs verify and wants an exit code.
func verdict(t *testing.T, h *host, code int) verify.Report {
	t.Helper()
	out := h.must(code, "verify", "-o", "json")
	var r verify.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("verify -o json: %v\n%s", err, out)
	}
	return r
}

func codes(r verify.Report) []string {
	var list []string
	for _, p := range r.Problems {
		list = append(list, p.Code+" "+p.Affects[0].String())
	}
	slices.Sort(list)
	return list
}

func twoFaults(t *testing.T, h *host) {
	port, link := h.device("web1", "red"), h.device("db1", "lan")
	h.vsctl("set", "port", port, "tag=30")
	h.virsh("domif-setlink", "db1", link, "down")
	want := []string{"LINK_DOWN db1 (lan)", "WRONG_VLAN web1 (red)"}
	if got := codes(verdict(t, h, 5)); !slices.Equal(got, want) {
		t.Errorf("problems %v, want %v", got, want)
	}
	h.vsctl("set", "port", port, "tag=99")
	if got := codes(verdict(t, h, 4)); !slices.Equal(got, want) {
		t.Errorf("in a VLAN nobody uses: problems %v, want %v", got, want)
	}
	if out := h.must(0, "repair", "web1"); !strings.Contains(out, "access 99 -> access 20") {
		t.Errorf("repair says %q", out)
	}
	h.virsh("domif-setlink", "db1", link, "up")
	// Libvirt takes a port off its bridge and puts it back when a link is set,
	// which loses the flags of the port.
	if got := codes(verdict(t, h, 4)); !slices.Equal(got, []string{"WRONG_SETTINGS db1 (lan)"}) {
		t.Errorf("without its BPDU guard: problems %v", got)
	}
	if out := h.must(0, "repair", "db1"); !strings.Contains(out, "bpdu guard: off -> on") {
		t.Errorf("repair says %q", out)
	}
	if out := h.must(0, "repair"); !strings.Contains(out, "nothing to repair") {
		t.Errorf("the second repair says %q", out)
	}
	verdict(t, h, 0)
}

// portOffBridge takes taps off both kinds of switch, and has a port of somebody
// else beside them that nobody may touch.
func portOffBridge(t *testing.T, h *host) {
	if err := h.AddVeth(t.Context(), "foreign0", "foreign1"); err != nil {
		t.Fatal(err)
	}
	h.vsctl("add-port", "ovs0", "foreign0", "tag=77", "--", "set", "port", "foreign0", "external_ids:who=somebody")
	before := h.vsctl("--columns=name,tag,trunks,external_ids", "list", "port", "foreign0")
	h.vsctl("del-port", "ovs0", h.device("web2", "red"))
	if got := codes(verdict(t, h, 4)); !slices.Equal(got, []string{"WRONG_BRIDGE web2 (red)"}) {
		t.Errorf("problems %v", got)
	}
	h.must(0, "repair")
	verdict(t, h, 0)
	if after := h.vsctl("--columns=name,tag,trunks,external_ids", "list", "port", "foreign0"); after != before {
		t.Errorf("a foreign port changed:\n%s\n%s", before, after)
	}
	h.vsctl("del-port", "ovs0", "foreign0")
}

func liveInterface(t *testing.T, h *host) {
	const mac = "52:54:00:00:20:99"
	h.must(0, "define", "interface", "db1", "--network", "red", "--mac", mac, "--live")
	port := h.device("db1", "red")
	if tag := h.vsctl("get", "port", port, "tag"); tag != "20" {
		t.Errorf("the new interface has tag %s", tag)
	}
	if _, stderr, code := h.run("define", "interface", "web1", "--network", "red", "--mac", mac); code != 2 {
		t.Errorf("a MAC that is taken: exit code %d, %s", code, stderr)
	}
	h.must(0, "undefine", "interface", "db1", "--mac", mac, "--live")
	deadline := time.Now().Add(20 * time.Second) // the guest has to let go
	for strings.Contains(h.virsh("domiflist", "db1"), mac) {
		if time.Now().After(deadline) {
			t.Fatal("the interface is still there")
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func stoppedGuest(t *testing.T, h *host) {
	port := h.device("web2", "red")
	h.virsh("destroy", "web2")
	if ports := h.vsctl("list-ports", "ovs0"); slices.Contains(strings.Fields(ports), port) {
		t.Errorf("port %s is still there: %s", port, ports)
	}
	if got := codes(verdict(t, h, 4)); !slices.Contains(got, "DOMAIN_DOWN web2 (edge)") {
		t.Errorf("problems %v", got)
	}
}

// stalePorts leaves ports of a guest behind that does not run, as a libvirt does
// that is killed, and one of somebody else, and looks what repair makes of them.
func stalePorts(t *testing.T, h *host) {
	uuid := strings.TrimSpace(h.virsh("domuuid", "web2"))
	for _, port := range []string{"gone0", "left0", "alien0"} {
		peer := strings.TrimSuffix(port, "0") + "1"
		if err := h.AddVeth(t.Context(), port, peer); err != nil {
			t.Fatal(err)
		}
		h.vsctl("add-port", "ovs0", port, "tag=20")
		if port != "alien0" {
			h.vsctl("set", "port", port, "external_ids:virt-vnet-guest="+uuid, "external_ids:virt-vnet-network=red")
		}
		if port == "left0" {
			tool(t, "ip", "link", "set", peer, "down")
			continue
		}
		tool(t, "ip", "link", "delete", peer)
	}
	const alien = "--columns=name,tag,external_ids"
	before := h.vsctl(alien, "list", "port", "alien0")
	prune := func(want string) {
		t.Helper()
		want = strings.ReplaceAll(want, "UUID", uuid)
		if got := h.must(0, "repair", "--prune"); got != want {
			t.Errorf("repair --prune says:\n%swant:\n%s", got, want)
		}
	}
	const (
		gone = "switch ovs0: port gone0 of guest UUID, network red: its device is gone: "
		left = "switch ovs0: port left0 of guest UUID, network red: no running guest has it: "
		stay = "seen for the first time, so it stays: if it is still there, virt-vnet repair --prune removes it\n"
	)
	prune(gone + stay + left + stay)
	for _, port := range []string{"gone0", "left0"} {
		if mark := h.vsctl("get", "port", port, "external_ids:virt-vnet-network"); mark != "red" {
			t.Errorf("%s is marked %q after the first look", port, mark)
		}
	}
	prune(gone + "removed\n" + left + "released\n")
	ports := strings.Fields(h.vsctl("list-ports", "ovs0"))
	if slices.Contains(ports, "gone0") || !slices.Contains(ports, "left0") {
		t.Errorf("ports %v, want left0 and not gone0", ports)
	}
	if ids := h.vsctl("get", "port", "left0", "external_ids"); strings.Contains(ids, "virt-vnet") {
		t.Errorf("left0 has %s, want no mark", ids)
	}
	prune("nothing to repair: every port is as its network says\n")
	if after := h.vsctl(alien, "list", "port", "alien0"); after != before {
		t.Errorf("a port of somebody else changed:\n%s\n%s", before, after)
	}
	h.vsctl("del-port", "ovs0", "alien0", "--", "del-port", "ovs0", "left0")
	tool(t, "ip", "link", "delete", "left0")
}

// ovsdbGone stops OVSDB's process before the start: libvirt's own step with
// ovs-vsctl works, because it is continued in between, or the hook's does not.
// Either way the guest must not run half-wired.
func ovsdbGone(t *testing.T, h *host) {
	if err := h.OVSDB().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := codes(verdict(t, h, 4)); !slices.Contains(got, "SWITCH_DOWN db1 (blue)") {
		t.Errorf("problems %v", got)
	}
	_, err := h.Virsh(t.Context(), "start", "web2")
	if err == nil {
		t.Fatal("web2 started without OVSDB")
	}
	t.Log(err)
	if err := h.StartOVS(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.virsh("start", "web2")
	if err := h.WaitUp(t.Context(), "web2"); err != nil {
		t.Fatal(err)
	}
	out := h.must(0, "hooks", "status", "-o", "json")
	var status hooks.Status
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		t.Fatal(err)
	}
	for _, hook := range status.Hooks {
		if !hook.Installed || !hook.Active || hook.LastRun == nil {
			t.Errorf("hook status %+v", hook)
		}
	}
}

func libvirtGone(t *testing.T, h *host) {
	if err := h.Libvirtd().Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := h.run("verify")
	if code != 1 || !strings.Contains(stderr, "libvirt") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if err := h.Libvirtd().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.must(0, "plan")
}
