// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	bpflink "github.com/cilium/ebpf/link"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestOpenErrors(t *testing.T) {
	start(t)
	ip(t, "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
	for name, want := range map[string]string{
		"br7":                          "switch br7: no such switch: there is no device of that name: ip link add br7 type bridge",
		"veth0":                        "switch veth0: no such switch: the device veth0 is no Linux bridge but a device of kind veth",
		"lo":                           "switch lo: no such switch: the device lo is no Linux bridge but a plain device",
		"":                             "switch : no such switch: there is no device of that name: ip link add  type bridge",
		"a-name-that-no-device-can-be": "there is no device of that name",
	} {
		d, err := linux.Open(t.Context(), vnet.Switch{Name: name, Driver: vnet.DriverLinux})
		if err == nil {
			t.Errorf("opened %q", name)
			_ = d.Close()
			continue
		}
		if !errors.Is(err, switchcfg.ErrNoSwitch) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %q, want %q", name, err, want)
		}
	}
}

// TestBridgeGone checks that a driver whose bridge is deleted says so.
func TestBridgeGone(t *testing.T) {
	start(t)
	d := openBR0(t)
	ip(t, "link", "del", "br0")
	if _, err := d.Observe(t.Context(), switchcfg.Scope{}); !errors.Is(err, switchcfg.ErrNoSwitch) {
		t.Errorf("observe: got error %v, want %v", err, switchcfg.ErrNoSwitch)
	}
	plan := switchcfg.Plan{Switch: "br0", Changes: []switchcfg.Change{{Device: "vnet0"}}}
	if _, err := d.Apply(t.Context(), plan); !errors.Is(err, switchcfg.ErrNoSwitch) {
		t.Errorf("apply: got error %v, want %v", err, switchcfg.ErrNoSwitch)
	}
}

// neverThere is how many features no bridge of the kernel's has: VLAN tunnels,
// bonds, flow export, mirrors and ports of its spanning tree.
const neverThere = 5

func TestCapabilities(t *testing.T) {
	start(t)
	kernel := "this kernel has no bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)"
	bridgeOff := "vlan_filtering is off on br0: bridge: {vlan_filtering: true} at the switch in the spec, or: " +
		"ip link set br0 type bridge vlan_filtering 1"
	want := kernel
	if canFilter(t) {
		want = bridgeOff
	}
	caps := openBR0(t).Capabilities()
	if got := caps.Missing[switchcfg.FeatureVLAN]; got != want || caps.Switch != "br0" || len(caps.Missing) != 1+neverThere {
		t.Errorf("got %+v, want VLAN missing because %s", caps, want)
	}
	if want == kernel {
		return
	}
	// What the reason says to do must help.
	command := strings.Fields(bridgeOff[strings.Index(bridgeOff, "ip ")+len("ip "):])
	ip(t, command...)
	if got := openBR0(t).Capabilities(); got.Missing[switchcfg.FeatureVLAN] != "" || len(got.Missing) != neverThere {
		t.Errorf("after %v: still missing %v", command, got.Missing)
	}
}

func TestPermission(t *testing.T) {
	start(t)
	ip(t, "tuntap", "add", "dev", "vnet0", "mode", "tap")
	ip(t, "link", "set", "vnet0", "master", "br0")
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	got := helper(t, "vnet0", nobody)
	want := "switch br0: port vnet0: set alias: not permitted: needs root or CAP_NET_ADMIN\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := helper(t, "vnet0", nil); got != "" {
		t.Errorf("as root: %s", got)
	}
}

// TestSweep checks that a vantage whose process has died goes with the next
// one, and that a living process keeps its own.
func TestSweep(t *testing.T) {
	start(t)
	d := openBR0(t)
	mine, err := d.OpenVantage(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if out := helper(t, "vantage", nil); out != "" {
		t.Fatal(out)
	}
	before := vantages(t, d)
	if len(before) != 2 {
		t.Fatalf("there are vantages %v, want mine and the dead process's", before)
	}
	second, err := d.OpenVantage(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := vantages(t, d); len(got) != 2 || got[0] != mine+"p" || got[1] != second+"p" {
		t.Errorf("there are vantages %v, want %sp and %sp", got, mine, second)
	}
}

func vantages(t *testing.T, d *linux.Driver) []string {
	t.Helper()
	state, err := d.Observe(t.Context(), switchcfg.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	return state.Devices()
}

// TestVantageKeepsMTU checks that lending a vantage does not lower the bridge.
func TestVantageKeepsMTU(t *testing.T) {
	start(t)
	ip(t, "tuntap", "add", "dev", "vnet0", "mode", "tap")
	ip(t, "link", "set", "vnet0", "mtu", "9000", "master", "br0")
	d := openBR0(t)
	device, err := d.OpenVantage(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"br0", device} {
		if got := ip(t, "link", "show", name); !strings.Contains(got, "mtu 9000") {
			t.Errorf("want mtu 9000: %s", got)
		}
	}
}

// TestVantageOnDeadBridge checks that there is no vantage that sees nothing,
// and that nothing is left of the attempt.
func TestVantageOnDeadBridge(t *testing.T) {
	start(t)
	d := openBR0(t)
	ip(t, "link", "set", "br0", "down")
	if device, err := d.OpenVantage(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "ip link set br0 up") {
		t.Errorf("got vantage %q and error %v, want one that says how to bring br0 up", device, err)
	}
	if got := vantages(t, d); len(got) > 0 {
		t.Errorf("there are vantages %v", got)
	}
}

// TestVantageDespiteSTP checks that a bridge with the longest forward delay is
// looked at from at once, whether or not the host has a part in it, that answers
// are not flooded, and that nothing stays, of a process that died either.
func TestVantageDespiteSTP(t *testing.T) {
	l := start(t)
	a, b := station(t, l, "a", 1), station(t, l, "b", 2)
	reaches(t, a, b)
	delay := func(hundredths string) {
		ip(t, "link", "set", "br0", "type", "bridge", "stp_state", "1", "forward_delay", hundredths)
	}
	delay("200")
	for _, s := range []*lab.Station{a, b} {
		awaitForwarding(t, s.Device)
	}
	reaches(t, a, b)
	delay("3000")
	d := openBR0(t)
	fdb := func() string { return bridge(t, "fdb", "show", "br", "br0") }
	before := fdb()
	if out := helper(t, "vantage", nil); out != "" {
		t.Fatal(out)
	}
	if fdb() == before {
		t.Error("the bridge does not know the dead process's vantage as one of the host's")
	}
	begun := time.Now()
	device, err := d.OpenVantage(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("took %v", took)
	}
	if got := ip(t, "-d", "link", "show", "type", "macvlan"); strings.Count(got, "virt-vnet vantage") != 1 {
		t.Errorf("want one vantage: %s", got)
	}
	if got := ip(t, "-s", "-d", "link", "show", "br0"); !strings.Contains(got, "topology_change 0") {
		t.Errorf("the topology has changed: %s", got)
	}
	ip(t, "addr", "add", "10.9.0.77/24", "dev", device)
	listener, err := b.Listen()
	if err != nil {
		t.Fatal(err)
	}
	run(t, "busybox", "ping", "-c1", "-W3", address(1).String())
	unicast := func(frame []byte) bool { return frame[0]&1 == 0 && bytes.Equal(frame[6:12], a.MAC) } // a also announces itself
	flooded, err := listener.Sees(unicast, silenceLimit)
	if err = errors.Join(err, listener.Close()); err != nil || flooded {
		t.Errorf("b hears what a answers: %t, %v", flooded, err)
	}
	if err := d.CloseVantage(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	if got := ip(t, "link", "show", "type", "macvlan"); got != "" || strings.Count(fdb(), "permanent") != strings.Count(before, "permanent") {
		t.Errorf("left behind: %s, and of %s now %s", got, before, fdb())
	}

	if _, err := bpflink.QueryPrograms(bpflink.QueryOptions{Target: 1, Attach: ebpf.AttachTCXEgress}); err != nil {
		t.Logf("before Linux 6.6 the vantage where the host has an address is a port: %v", err)
		return
	}
	ip(t, "addr", "flush", "dev", "br0")
	ip(t, "addr", "add", "10.9.0.9/24", "dev", "br0")
	if out := helper(t, "vantage", nil); out != "" {
		t.Fatal(out)
	}
	begun = time.Now()
	device, err = d.OpenVantage(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("took %v where the host has an address", took)
	}
	seesHost(t, device)
	if got := programsAt(t, "br0"); got != 1 {
		t.Errorf("%d programs at br0, want one of ours and none of the dead process", got)
	}
	if err := d.CloseVantage(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	if got := programsAt(t, "br0"); got != 0 {
		t.Errorf("%d programs are left behind at br0", got)
	}

	// Without CAP_BPF the macvlan would not see the host: then it is a port.
	delay("200")
	cmd := exec.CommandContext(t.Context(), "setpriv", "--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin", os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"=vantage")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	if got := vantages(t, d); len(got) != 3 {
		t.Errorf("the ports are %v: want those of the stations and a vantage, which sees the host", got)
	}
}

// programsAt is how many programs look at what leaves through a device.
func programsAt(t *testing.T, device string) int {
	t.Helper()
	at, err := net.InterfaceByName(device)
	if err != nil {
		t.Fatal(err)
	}
	found, err := bpflink.QueryPrograms(bpflink.QueryOptions{Target: at.Index, Attach: ebpf.AttachTCXEgress})
	if err != nil {
		t.Fatal(err)
	}
	return len(found.Programs)
}

// seesHost checks that the host answers who asks it from a vantage.
func seesHost(t *testing.T, device string) {
	t.Helper()
	// The exit code says whether the address is free.
	out, _ := exec.CommandContext(t.Context(), "busybox", "arping", "-c1", "-w3", "-D", "-I", device, "10.9.0.9").CombinedOutput()
	if !strings.Contains(string(out), "reply from 10.9.0.9") {
		t.Errorf("the host does not answer: %s", out)
	}
}

// awaitForwarding waits for spanning tree to let a port pass frames.
func awaitForwarding(t *testing.T, port string) {
	t.Helper()
	for range 100 {
		if strings.Contains(bridge(t, "link", "show", "dev", port), "state forwarding") {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s does not forward", port)
}
