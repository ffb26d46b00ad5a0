// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// realHost is a lab with the hook program installed, a Linux bridge br0 with
// network lan (isolated ports), and, with OVS, ovs0 with network red (VLAN 20).
type realHost struct {
	*lab.Lab
	state.Store
}

func newRealHost(t *testing.T, opts lab.Options) realHost {
	t.Helper()
	l := labtest.Start(t, opts)
	h := realHost{l, state.Store{StateDir: state.DefaultStateDir, RunDir: state.DefaultRunDir}}
	if _, err := hooks.Install(t.Context(), hooks.Options{Binary: hookProgram(t), Store: h.Store}); err != nil {
		t.Fatal(err)
	}
	if err := l.AddLinuxBridge(t.Context(), "br0"); err != nil {
		t.Fatal(err)
	}
	h.network(t, "lan", vnet.Switch{Name: "br0", Driver: vnet.DriverLinux}, vnet.Policy{Isolated: true})
	if opts.OVS {
		if err := l.AddOVSBridge(t.Context(), "ovs0"); err != nil {
			t.Fatal(err)
		}
		h.network(t, "red", vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS}, vnet.Policy{VLAN: vnet.VLANSet{Access: 20}})
	}
	return h
}

func (h realHost) network(t *testing.T, name string, sw vnet.Switch, policy vnet.Policy) {
	t.Helper()
	n := vnet.Network{Name: name, Mode: vnet.ModeBridge, Switch: sw.Name, Policy: policy}
	if err := h.PutNetwork(state.Network{Network: n, Switch: sw}); err != nil {
		t.Fatal(err)
	}
}

// plug makes a device and plugs it in, as libvirt does.
func (h realHost) plug(t *testing.T, device, sw string) {
	t.Helper()
	if err := h.AddVeth(t.Context(), device, "p"+device); err != nil {
		t.Fatal(err)
	}
	if sw == "ovs0" {
		if _, err := h.Vsctl(t.Context(), "add-port", sw, device); err != nil {
			t.Fatal(err)
		}
		return
	}
	if out, err := exec.CommandContext(t.Context(), "ip", "link", "set", device, "master", sw).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// ports observes a switch.
func (h realHost) ports(t *testing.T, sw vnet.Switch) map[string]switchcfg.Port {
	t.Helper()
	d, err := drivers.Open(t.Context(), sw)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // it was only looked at
	have, err := d.Observe(t.Context(), switchcfg.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	return have.Ports
}

func (h realHost) br0(t *testing.T) map[string]switchcfg.Port {
	t.Helper()
	return h.ports(t, vnet.Switch{Name: "br0", Driver: vnet.DriverLinux})
}

func (h realHost) ovs0(t *testing.T) map[string]switchcfg.Port {
	t.Helper()
	return h.ports(t, vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS})
}

// xmlOf is the live XML of a guest with NICs, each "device network switch".
func xmlOf(name, uuid string, nics ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<domain type='qemu' id='1'><name>%s</name><uuid>%s</uuid><devices>", name, uuid)
	for i, nic := range nics {
		f := strings.Fields(nic)
		fmt.Fprintf(&b, "<interface type='bridge'><mac address='52:54:00:%s:%s:%02x'/><source network='%s' bridge='%s'/>"+
			"<target dev='%s'/></interface>", uuid[:2], uuid[2:4], i, f[1], f[2], f[0])
	}
	return b.String() + "</devices></domain>"
}

// hookCall is the installed program, called as libvirt does: with an empty
// environment and both outputs in pipes.
func hookCall(ctx context.Context, driver, object, operation, stdin string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	cmd := exec.CommandContext(ctx, filepath.Join(hooks.DefaultHooksDir, driver+".d", "virt-vnet"), object, operation, "begin", "-")
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	return cmd, &stdout, &stderr
}

// runHook calls the program and returns its exit code and stderr. Anything on
// stdout fails the test.
func runHook(t *testing.T, driver, object, operation, stdin string) (int, string) {
	t.Helper()
	cmd, stdout, stderr := hookCall(t.Context(), driver, object, operation, stdin)
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if stdout.Len() > 0 {
		t.Errorf("%s %s: stdout %q, want none", driver, operation, stdout)
	}
	return cmd.ProcessState.ExitCode(), stderr.String()
}

func mustHook(t *testing.T, operation, stdin string) {
	t.Helper()
	if code, stderr := runHook(t, "qemu", "g1", operation, stdin); code != 0 || stderr != "" {
		t.Fatalf("%s: exit code %d, stderr %q", operation, code, stderr)
	}
}

func TestProcessBadInput(t *testing.T) {
	lab.Need(t)
	h := newRealHost(t, lab.Options{})
	big := "<domain>" + strings.Repeat("<a/>", 2_500_000)
	for name, tc := range map[string]struct {
		driver, operation, stdin string
		code                     int
	}{
		"start, empty":          {"qemu", "start", "", 1},
		"start, truncated":      {"qemu", "start", xmlOf("g1", uuid1, "vnet0 lan br0")[:200], 1},
		"start, 10 MB":          {"qemu", "start", big, 1},
		"start, network XML":    {"qemu", "start", networkXML, 1},
		"stopped, 10 MB":        {"qemu", "stopped", big, 0},
		"reconnect, truncated":  {"qemu", "reconnect", "<domain", 0},
		"port-created, garbage": {"network", "port-created", "\x00\xff", 1},
		"migrate, 10 MB":        {"qemu", "migrate", big, 0},
		"migrate":               {"qemu", "migrate", domainXML, 0},
		"restore":               {"qemu", "restore", domainXML, 0},
		"unknown":               {"qemu", "frobnicate", "", 0},
		"network started":       {"network", "started", networkXML, 0},
	} {
		t.Run(name, func(t *testing.T) {
			code, stderr := runHook(t, tc.driver, "g1", tc.operation, tc.stdin)
			if code != tc.code || strings.Count(stderr, "\n") != tc.code {
				t.Errorf("exit code %d, stderr %q, want %d and as many lines", code, stderr, tc.code)
			}
		})
	}
	if guests, err := h.Guests(); err != nil || len(guests) > 0 {
		t.Errorf("records %v, %v, want none", guests, err)
	}
}

func TestProcessGarbageArguments(t *testing.T) {
	lab.Need(t)
	newRealHost(t, lab.Options{})
	for _, args := range [][]string{{}, {"g1"}, {"g1", "start"}, {"", "", "", ""}, {"a", "b", "c", "d", "e"}} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(hooks.DefaultHooksDir, "qemu.d/virt-vnet"), args...)
		out, err := cmd.Output()
		if err != nil || len(out) > 0 {
			t.Errorf("%q: %v, stdout %q, want success and nothing", args, err, out)
		}
	}
	out, err := exec.CommandContext(t.Context(), hookProgram(t), "-version").Output()
	if err != nil || !strings.HasPrefix(string(out), "virt-vnet-hook ") {
		t.Errorf("-version: %q, %v", out, err)
	}
}

// OVSDB dies when the first switch is wired already: nothing stays half-wired.
func TestProcessOVSDBGone(t *testing.T) {
	lab.Need(t, lab.OVS)
	h := newRealHost(t, lab.Options{OVS: true})
	h.plug(t, "tap0", "br0")
	h.plug(t, "tap1", "ovs0")
	before := h.br0(t)["tap0"]
	guest := xmlOf("g1", uuid1, "tap0 lan br0", "tap1 red ovs0")

	for name, down := range map[string]func() error{
		"killed": func() error { return h.OVSDB().Kill(t.Context()) },
		// The transaction is taken, and never put in force.
		"vswitchd hangs": func() error { return h.Vswitchd().Pause() },
	} {
		t.Run(name, func(t *testing.T) {
			if err := down(); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			code, stderr := runHook(t, "qemu", "g1", "start", guest)
			if code != 1 || !strings.HasPrefix(stderr, "virt-vnet: refused to start guest g1: network red: switch ovs0: ") {
				t.Errorf("exit code %d, stderr %q, want a refusal that names the switch", code, stderr)
			}
			if took := time.Since(began); took > hooks.DefaultLimit+time.Second {
				t.Errorf("it took %v, want less than %v", took, hooks.DefaultLimit)
			}
			if name == "killed" {
				if err := h.StartOVS(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else if err := h.Vswitchd().Resume(); err != nil {
				t.Fatal(err)
			}
			if now := h.br0(t)["tap0"]; !reflect.DeepEqual(now, before) {
				t.Errorf("br0 tap0: %+v, want it as before: %+v", now, before)
			}
			if owner := h.ovs0(t)["tap1"].Owner; !owner.IsZero() {
				t.Errorf("ovs0 tap1 is marked %v", owner)
			}
			mustHook(t, "stopped", guest)
			mustHook(t, "start", guest)
			if now := h.ovs0(t)["tap1"]; now.Settings.VLAN == nil || now.Settings.VLAN.Access != 20 {
				t.Errorf("ovs0 tap1: %+v, want VLAN 20 once it is back", now)
			}
			mustHook(t, "stopped", guest)
		})
	}
}

// The hook is killed when it has wired the first NIC and waits for the second
// switch. The next run, whichever it is, finishes or cleans up.
func TestProcessKilledBetweenNICs(t *testing.T) {
	lab.Need(t, lab.OVS)
	h := newRealHost(t, lab.Options{OVS: true})
	h.plug(t, "tap0", "br0")
	h.plug(t, "tap1", "ovs0")
	before := h.br0(t)["tap0"]
	guest := xmlOf("g1", uuid1, "tap0 lan br0", "tap1 red ovs0")
	for _, next := range []string{"start", "reconnect", "stopped"} {
		t.Run(next, func(t *testing.T) {
			killBetween(t, h, guest)
			record, err := h.Guest(uuid1)
			if err != nil || record.Complete {
				t.Fatalf("record %+v, %v, want one that is not complete", record, err)
			}
			if h.br0(t)["tap0"].Owner.IsZero() {
				t.Fatal("tap0 was not wired when the hook was killed")
			}
			mustHook(t, next, guest)
			if next != "stopped" {
				if record, err = h.Guest(uuid1); err != nil || !record.Complete {
					t.Errorf("record %+v, %v, want a complete one", record, err)
				}
				if now := h.ovs0(t)["tap1"]; now.Settings.VLAN == nil || now.Settings.VLAN.Access != 20 || now.Owner.Guest != uuid1 {
					t.Errorf("tap1: %+v, want it wired", now)
				}
				mustHook(t, "stopped", guest)
			}
			if now := h.br0(t)["tap0"]; !reflect.DeepEqual(now, before) {
				t.Errorf("tap0: %+v, want it as before: %+v", now, before)
			}
			if now := h.ovs0(t)["tap1"]; !now.Owner.IsZero() {
				t.Errorf("tap1: %+v, want it released", now)
			}
			if _, err := h.Guest(uuid1); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("record: %v, want none", err)
			}
		})
	}
}

// startWithoutVswitchd runs the hook while ovs-vswitchd does not answer, and
// returns when tap0 is wired and the hook waits for tap1.
func startWithoutVswitchd(t *testing.T, h realHost, guest string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	if err := h.Vswitchd().Pause(); err != nil {
		t.Fatal(err)
	}
	cmd, _, stderr := hookCall(t.Context(), "qemu", "g1", "start", guest)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); h.br0(t)["tap0"].Owner.IsZero(); {
		if time.Now().After(deadline) {
			t.Fatalf("tap0 is not wired: %s", stderr)
		}
		time.Sleep(time.Millisecond)
	}
	return cmd, stderr
}

// killBetween kills the hook when it has wired tap0 and not yet tap1.
func killBetween(t *testing.T, h realHost, guest string) {
	t.Helper()
	cmd, _ := startWithoutVswitchd(t, h, guest)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the hook ended before it was killed")
	}
	if err := h.Vswitchd().Resume(); err != nil {
		t.Fatal(err)
	}
}

// OVSDB dies while the hook waits for its transaction to be in force: the start
// is refused at once and the other switch put back. What OVSDB has taken cannot
// be undone while it is gone, so the record stays, and the next operation that
// finds OVSDB again releases the port.
func TestProcessOVSDBDiesInTheMiddle(t *testing.T) {
	lab.Need(t, lab.OVS)
	h := newRealHost(t, lab.Options{OVS: true})
	h.plug(t, "tap0", "br0")
	h.plug(t, "tap1", "ovs0")
	before := h.br0(t)["tap0"]
	guest := xmlOf("g1", uuid1, "tap0 lan br0", "tap1 red ovs0")

	cmd, stderr := startWithoutVswitchd(t, h, guest)
	if err := h.OVSDB().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("the hook ended with %v, want exit code 1", err)
	}
	if took := time.Since(killed); took > 3*time.Second {
		t.Errorf("it took %v to notice", took)
	}
	if text := stderr.String(); !strings.HasPrefix(text, "virt-vnet: refused to start guest g1: network red: switch ovs0: ") ||
		strings.Count(text, "\n") != 1 {
		t.Errorf("stderr %q, want one line that names the switch", text)
	}
	if now := h.br0(t)["tap0"]; !reflect.DeepEqual(now, before) {
		t.Errorf("br0 tap0: %+v, want it as before: %+v", now, before)
	}
	if err := errors.Join(h.Vswitchd().Resume(), h.StartOVS(t.Context())); err != nil {
		t.Fatal(err)
	}
	mustHook(t, "stopped", guest)
	if now := h.ovs0(t)["tap1"]; !now.Owner.IsZero() {
		t.Errorf("tap1: %+v, want it released", now)
	}
	if _, err := h.Guest(uuid1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("record: %v, want none", err)
	}
	mustHook(t, "start", guest)
	mustHook(t, "stopped", guest)
}

// Twenty-four guests start at once, every hook twice: each port is wired for
// its guest, and foreign ports are left alone.
func TestProcessesAtOnce(t *testing.T) {
	lab.Need(t)
	h := newRealHost(t, lab.Options{})
	h.plug(t, "foreign0", "br0")
	h.plug(t, "foreign1", "br0")
	mark := exec.CommandContext(t.Context(), "ip", "link", "set", "foreign1", "alias", "leave me alone")
	if out, err := mark.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	before := h.br0(t)
	const guests = 24
	uuidOf := func(i int) string { return fmt.Sprintf("%02x%s", i, uuid1[2:]) }
	for i := range guests {
		h.plug(t, fmt.Sprintf("tap%d", i), "br0")
	}
	all := func(operation string) {
		var wg sync.WaitGroup
		for i := range guests {
			guest := xmlOf(fmt.Sprintf("g%d", i), uuidOf(i), fmt.Sprintf("tap%d lan br0", i))
			for range 2 {
				wg.Go(func() {
					if code, stderr := runHook(t, "qemu", fmt.Sprintf("g%d", i), operation, guest); code != 0 || stderr != "" {
						t.Errorf("g%d %s: exit code %d, stderr %q", i, operation, code, stderr)
					}
				})
			}
		}
		wg.Wait()
	}
	all("start")
	ports := h.br0(t)
	for i := range guests {
		port := ports[fmt.Sprintf("tap%d", i)]
		if port.Owner.Guest != uuidOf(i) || port.Settings.Flags[switchcfg.FlagIsolated] != vnet.ToggleOn {
			t.Errorf("%+v, want it isolated, of %s", port, uuidOf(i))
		}
	}
	for _, foreign := range []string{"foreign0", "foreign1"} {
		if !reflect.DeepEqual(ports[foreign], before[foreign]) {
			t.Errorf("%+v, want %+v", ports[foreign], before[foreign])
		}
	}
	if records, err := h.Guests(); err != nil || len(records) != guests {
		t.Errorf("%d records, %v, want %d", len(records), err, guests)
	}
	all("stopped")
	for device, port := range h.br0(t) {
		if !port.Owner.IsZero() || port.Settings.Flags[switchcfg.FlagIsolated] != vnet.ToggleOff {
			t.Errorf("%s: %+v, want it released", device, port)
		}
	}
	left, err := filepath.Glob(filepath.Join(h.RunDir, "*", "*"))
	if err != nil || strings.Join(left, " ") != h.RunDir+"/hooks/qemu.json "+h.RunDir+"/locks/switch-br0.lock" {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A foreign mark on the guest's own port refuses the start.
func TestProcessForeignPort(t *testing.T) {
	lab.Need(t)
	h := newRealHost(t, lab.Options{})
	h.plug(t, "tap0", "br0")
	if out, err := exec.CommandContext(t.Context(), "ip", "link", "set", "tap0", "alias", "mine").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	before := h.br0(t)["tap0"]
	code, stderr := runHook(t, "qemu", "g1", "start", xmlOf("g1", uuid1, "tap0 lan br0"))
	if code != 1 || !strings.Contains(stderr, `marked "mine"`) {
		t.Errorf("exit code %d, stderr %q, want a refusal that names the mark", code, stderr)
	}
	if now := h.br0(t)["tap0"]; !reflect.DeepEqual(now, before) {
		t.Errorf("%+v, want it untouched: %+v", now, before)
	}
}

// The program needs no more than libvirt's AppArmor and SELinux policies give:
// it is one static file.
func TestProgramIsStatic(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "ldd", hookProgram(t)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not a dynamic executable") {
		t.Errorf("ldd: %s, %v, want that it is static", out, err)
	}
	if info, err := os.Stat(hookProgram(t)); err != nil || info.Size() > 8<<20 {
		t.Errorf("size %v, %v, want less than 8 MB", info.Size(), err)
	}
}
