// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/test/stage"
)

// hosts is a cluster whose administrator has our programs and a spec, and whose
// hosts have our hooks and guests, and nothing else of virt-vnet.
type hosts struct {
	*lab.Cluster
	t    *testing.T
	bin  string
	spec string // its file
	// places is the hosts that guests are on, by their number.
	places map[string]int
}

func newHosts(t *testing.T, specFile string) *hosts {
	t.Helper()
	lab.Need(t, lab.Libvirt, lab.Guests, lab.OVS)
	ctx := t.Context()
	h := &hosts{t: t, bin: programs(t)}
	h.Cluster = labtest.StartCluster(t, lab.ClusterOptions{Hosts: 2, Each: lab.Options{Libvirt: true, OVS: true}})
	for _, err := range []error{h.AddOVSBridge(ctx, "br0"), h.AddLinuxBridge(ctx, "lan0")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(specFile)
	if err != nil {
		t.Fatal(err)
	}
	h.useSpec(string(text))
	return h
}

func (h *hosts) write(spec string) {
	h.t.Helper()
	if err := os.WriteFile(h.spec, []byte(spec), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// on runs a program on a host.
func (h *hosts) on(host *lab.Host, argv ...string) string {
	h.t.Helper()
	out, err := host.Run(h.t.Context(), argv...)
	if err != nil {
		h.t.Fatalf("%s: %v: %v: %s", host.Name, argv, err, out)
	}
	return out
}

// virtVnet is a command of the administrator's, which ends with that exit code.
func (h *hosts) virtVnet(want int, args ...string) (stdout, stderr string) {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), filepath.Join(h.bin, "virt-vnet"), args...)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	_ = cmd.Run() // the exit code says it
	if code := cmd.ProcessState.ExitCode(); code != want {
		h.t.Fatalf("virt-vnet %v: exit code %d, want %d\n%s%s", args, code, want, &out, &errOut)
	}
	return out.String(), errOut.String()
}

func (h *hosts) apply(want int) (stdout, stderr string) {
	h.t.Helper()
	return h.virtVnet(want, "apply", "-f", h.spec)
}

// pings reports whether a guest of a host reaches an address, with a source of
// its own or of somebody else's.
func (h *hosts) pings(host *lab.Host, guest, to, from string) bool {
	h.t.Helper()
	_, err := host.Exec(h.t.Context(), guest, "ping -c 3 -i 0.2 -W 2 -I "+from+" "+to)
	return err == nil
}

// TestHosts applies one spec to two hosts, through their libvirts alone, and
// moves a guest between them.
func TestHosts(t *testing.T) {
	h := newHosts(t, "testdata/two-hosts.yaml")
	ctx := t.Context()
	spec, err := config.Load(h.spec)
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range stage.Guests(spec.Topology) {
		if err := h.Hosts[i].DefineGuest(ctx, g); err != nil {
			t.Fatal(err)
		}
	}
	h.applies()
	for i, name := range []string{"a", "b"} {
		if err := h.Hosts[i].StartGuest(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"a", "b"} {
		if err := h.Hosts[i].WaitUp(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	h.wired(h.Hosts[0])
	h.refuses()
	h.moves()
	h.failsAlone()
}

// applies defines the networks on both hosts, and finds nothing more to do then.
func (h *hosts) applies() {
	h.t.Helper()
	out, talk := h.apply(0)
	want := `host host1
  guest a: what its hook knows of the spec updated
  network lan: created, autostarted, started
  network red: created, autostarted, started
host host2
  guest b: what its hook knows of the spec updated
  network lan: created, autostarted, started
  network red: created, autostarted, started
`
	if out != want || talk != "" {
		h.t.Errorf("apply said\n%s%s", out, talk)
	}
	if out, _ := h.apply(0); strings.Count(out, "unchanged") != 4 || strings.Contains(out, "guest") {
		h.t.Errorf("apply again said\n%s", out)
	}
}

// wired looks at what the hook of the host with guest a made of what libvirt had
// told it.
func (h *hosts) wired(host *lab.Host) {
	h.t.Helper()
	ctx := h.t.Context()
	tag, err := host.Vsctl(ctx, "--bare", "--columns=tag", "find", "Port", `external_ids:virt-vnet-mac="52:54:00:00:20:11"`)
	if err != nil || strings.TrimSpace(tag) != "20" {
		h.t.Errorf("%s: the port of guest a has tag %q, %v", host.Name, tag, err)
	}
	for _, to := range []string{"10.0.20.12", "10.0.30.12"} {
		if !h.pings(host, "a", to, strings.TrimSuffix(to, "2")+"1") {
			h.t.Errorf("guest a on %s does not reach %s", host.Name, to)
		}
	}
	if _, err := host.Exec(ctx, "a", "ip addr add 10.0.30.99/24 dev eth1"); err != nil {
		h.t.Fatal(err)
	}
	if h.pings(host, "a", "10.0.30.12", "10.0.30.99") {
		h.t.Errorf("guest a on %s sends from an address that the spec does not give it", host.Name)
	}
	if _, err := host.Exec(ctx, "a", "ip addr del 10.0.30.99/24 dev eth1"); err != nil {
		h.t.Fatal(err)
	}
}

// refuses migrates guest a to a host where its ports cannot be wired: the guest
// stays where it is, and nothing of it is left there.
func (h *hosts) refuses() {
	h.t.Helper()
	ctx := h.t.Context()
	from, to := h.Hosts[0], h.Hosts[1]
	ping, err := from.StartPing(ctx, "a", netip.MustParseAddr("10.0.20.12"), 50*time.Millisecond)
	if err != nil {
		h.t.Fatal(err)
	}
	const records = state.DefaultStateDir + "/networks/"
	h.on(to, "sed", "-i.bak", `s/"format":1/"format":99/`, records+"red.json")
	err = from.Migrate(ctx, "a", to)
	if err == nil || !strings.Contains(err.Error(), "virt-vnet: refused to start guest a: network red: record "+records+"red.json: ") {
		h.t.Errorf("migration to a host with the record of a newer virt-vnet: %v", err)
	}
	time.Sleep(time.Second) // of traffic after it
	loss, err := from.StopPing(ctx, ping)
	if err != nil || loss.Lost > 0 || loss.Sent < 10 {
		h.t.Errorf("while %s refused guest a: %v, %v", to.Name, loss, err)
	}
	ports, err := to.Vsctl(ctx, "--bare", "--columns=name", "find", "Port", `external_ids:virt-vnet-mac="52:54:00:00:20:11"`)
	if err != nil || strings.TrimSpace(ports) != "" {
		h.t.Errorf("%s: ports of guest a: %s, %v", to.Name, ports, err)
	}
	guests, err := filepath.Glob(to.Path("/run/virt-vnet/guests/*.json"))
	if err != nil || len(guests) != 1 {
		h.t.Errorf("%s: guests' records: %v, %v, want that of guest b", to.Name, guests, err)
	}
	h.wired(from)

	// Records that are damaged come back: for the guest that migrates with the
	// network, and by repair with libvirt's definition.
	h.on(to, "mv", records+"red.json.bak", records+"red.json")
	h.on(to, "sh", "-c", "echo '{' >"+records+"red.json")
	h.on(to, "sh", "-c", "echo '{' >"+records+"lan.json")
	if out := h.on(to, filepath.Join(h.bin, "virt-vnet"), "repair"); !strings.Contains(out, "network lan: record written anew\nnetwork red: record written anew\n") {
		h.t.Errorf("%s: repair said\n%s", to.Name, out)
	}
	h.on(to, "sh", "-c", "echo '{' >"+records+"red.json")
}

// moves migrates guest a, which takes along what the spec says of it. On Open
// vSwitch it is away for not much longer than on the Linux bridge.
func (h *hosts) moves() {
	h.t.Helper()
	ctx := h.t.Context()
	from, to := h.Hosts[0], h.Hosts[1]
	var pings []*lab.GuestPing
	for _, address := range []string{"10.0.30.11", "10.0.20.11"} {
		ping, err := to.StartPing(ctx, "b", netip.MustParseAddr(address), 50*time.Millisecond)
		if err != nil {
			h.t.Fatal(err)
		}
		pings = append(pings, ping)
	}
	if err := from.Migrate(ctx, "a", to); err != nil {
		h.t.Fatal(err)
	}
	var losses []lab.PingLoss
	for _, ping := range pings {
		loss, err := to.StopPing(ctx, ping)
		if err != nil {
			h.t.Fatal(err)
		}
		losses = append(losses, loss)
	}
	if bridge, ovs := losses[0].Gap, losses[1].Gap; bridge > 3*time.Second || ovs > bridge+time.Second {
		h.t.Errorf("while guest a moved: Linux bridge %v, Open vSwitch %v", losses[0], losses[1])
	}
	h.t.Logf("while guest a moved: Linux bridge %v, Open vSwitch %v", losses[0], losses[1])
	h.wired(to)
	for host, want := range map[*lab.Host]int{from: 0, to: 2} {
		records, err := filepath.Glob(host.Path("/run/virt-vnet/guests/*.json"))
		if err != nil || len(records) != want {
			h.t.Errorf("%s: guests' records: %v, %v, want %d", host.Name, records, err, want)
		}
	}
}

// failsAlone applies while one host does not answer.
func (h *hosts) failsAlone() {
	h.t.Helper()
	ctx := h.t.Context()
	text, err := os.ReadFile(h.spec)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(strings.Replace(string(text), "vlan: 20", "vlan: 21", 1))
	if err := h.Hosts[1].Libvirtd().Kill(ctx); err != nil {
		h.t.Fatal(err)
	}
	out, talk := h.apply(1)
	if !strings.Contains(out, "host host1\n  network lan: unchanged\n  network red: updated, restarted\n") {
		h.t.Errorf("host1: apply said\n%s", out)
	}
	for _, want := range []string{"virt-vnet: host host2: libvirt qemu+tcp://host2/system: ", "virt-vnet: 1 of 2 hosts failed\n"} {
		if !strings.Contains(talk, want) {
			h.t.Errorf("apply said\n%swant %s", talk, want)
		}
	}
	record, err := os.ReadFile(h.Hosts[0].Path("/var/lib/virt-vnet/networks/red.json"))
	if err != nil || !strings.Contains(string(record), `"access":21`) {
		h.t.Errorf("host1: the record of network red is %s, %v", record, err)
	}
	if err := h.Hosts[1].Libvirtd().Start(ctx); err != nil {
		h.t.Fatal(err)
	}
	out, _ = h.apply(0)
	if !strings.Contains(out, "host host2\n  network lan: unchanged\n  network red: updated\n") || !strings.Contains(out, "go on with the old definition") {
		h.t.Errorf("host2, with guests: apply said\n%s", out)
	}
}
