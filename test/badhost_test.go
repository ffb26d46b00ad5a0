// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/config"
)

// impossible is a spec that a host cannot carry out, and what is said of it.
type impossible struct{ name, spec, want string }

// TestHostThatCannot applies specs that this host cannot carry out. Each is one
// clear error, and nothing of it is applied.
func TestHostThatCannot(t *testing.T) {
	h := newHost(t, "testdata/two-bridges.yaml")
	tests := []impossible{
		{
			"no such bridge",
			"switches: {br7: {driver: linux}}\nnetworks: {red: {switch: br7}}",
			"network red: switch br7: no such switch: there is no device of that name",
		},
		{
			"a bridge of another kind",
			"switches: {br0: {driver: ovs}}\nnetworks: {red: {switch: br0}}",
			"network red: switch br0: no such switch",
		},
		{
			"a VLAN on a bridge without them",
			"switches: {br0: {driver: linux}}\nnetworks: {red: {switch: br0, vlan: 20}}",
			"; network red needs VLAN access 20",
		},
		{
			"a VLAN in a portgroup only",
			"switches: {br0: {driver: linux}}\nnetworks: {red: {switch: br0, portgroups: {a: {vlan: 30}}}}",
			"network red needs VLAN access 30",
		},
		{
			"a priority on a switch without",
			"switches: {ovs0: {driver: ovs}}\nnetworks: {red: {switch: ovs0, qos: {priority: 3}}}",
			"ovs0: Open vSwitch gives the frames of a port no priority of the host's; network red needs qos priority: 3",
		},
		{
			"one good network beside a bad one",
			"switches: {br0: {driver: linux}, br7: {driver: linux}}\nnetworks: {good: {switch: br0}, red: {switch: br7}}",
			"network red: switch br7: no such switch",
		},
	}
	if exec.CommandContext(t.Context(), "ip", "link", "add", "brtry", "type", "bridge", "vlan_filtering", "1").Run() != nil {
		tests = append(tests, impossible{
			"a bridge of ours on a kernel without VLANs",
			"switches: {br0: {driver: linux, bridge: {vlan_filtering: true}}}\nnetworks: {red: {switch: br0}}",
			"br0: this kernel has no bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING); the spec needs vlan_filtering: true",
		})
	}
	if exec.CommandContext(t.Context(), "tc", "actions", "add", "action", "police", "rate", "1mbit", "burst", "64kb").Run() != nil {
		tests = append(tests, impossible{
			"a rate that the kernel cannot keep guests to",
			"switches: {br0: {driver: linux}}\nnetworks: {red: {switch: br0, qos: {outbound: 10mbit}}}",
			"br0: this kernel has no outbound rate (CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_MATCHALL, CONFIG_NET_ACT_POLICE, Linux 4.8); " +
				"network red needs qos outbound: 10mbit",
		})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "spec.yaml")
			if err := os.WriteFile(file, []byte(tt.spec), 0o600); err != nil {
				t.Fatal(err)
			}
			_, stderr, code := h.run("apply", "-f", file)
			if code != 1 || !strings.Contains(stderr, tt.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, want one line with %q:\n%s", code, tt.want, stderr)
			}
			nothingApplied(t, h)
		})
	}
	t.Run("Open vSwitch is gone", func(t *testing.T) {
		if err := h.OVSDB().Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, stderr, code := h.run("apply"); code != 1 || !strings.Contains(stderr, "switch ovs0") || !strings.Contains(stderr, "does not answer") {
			t.Errorf("exit code %d:\n%s", code, stderr)
		}
		nothingApplied(t, h)
		stdout, stderr, code := h.run("plan")
		if code != 0 || !strings.HasPrefix(stdout, "switch ovs0\n    ! stale ports are not known: switch ovs0: ") ||
			!strings.Contains(stdout, "\nnetwork red          + create\n") || stderr != "" {
			t.Errorf("plan: exit code %d:\n%s%s", code, stdout, stderr)
		}
		stdout, stderr, code = h.run("repair")
		if code != 0 || stdout != "" || !strings.HasPrefix(stderr, "virt-vnet: warning: stale ports are not known: switch ovs0: ") {
			t.Errorf("repair: exit code %d:\n%s%s", code, stdout, stderr)
		}
		if _, stderr, code := h.run("repair", "--prune"); code != 1 || !strings.Contains(stderr, "switch ovs0: ") {
			t.Errorf("repair --prune: exit code %d:\n%s", code, stderr)
		}
		if err := h.StartOVS(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.must(0, "apply")
	})
	t.Run("not root", func(t *testing.T) { notRoot(t, h) })
}

func nothingApplied(t *testing.T, h *host) {
	t.Helper()
	if networks := strings.Fields(h.virsh("net-list", "--all", "--name")); len(networks) > 0 {
		t.Errorf("libvirt has %v", networks)
	}
	if records, err := filepath.Glob("/var/lib/virt-vnet/networks/*"); err != nil || len(records) > 0 {
		t.Errorf("records %v, %v", records, err)
	}
}

// notRoot runs commands as a user without any right. The programs are in a
// directory that only root may enter, so they are copied.
func notRoot(t *testing.T, h *host) {
	const dir = "/run/programs"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"virt-vnet", "virt-vnet-hook"} {
		program, err := os.ReadFile(filepath.Join(h.bin, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		args []string
		code int
		want string
	}{
		{[]string{"verify"}, 6, "operation not permitted"},
		{[]string{"apply"}, 1, "permi"},
		{[]string{"hooks", "install", "--libvirt-version", "9.0.0"}, 1, "permission denied"},
		{[]string{"schema"}, 0, ""},
		{[]string{"define", "network", "x", "--mode", "isolated", "--print-xml"}, 0, ""},
	}
	for _, tt := range tests {
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "virt-vnet"), tt.args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != tt.code || !strings.Contains(string(out), tt.want) {
			t.Errorf("%v as nobody: exit code %d, want %d and %q:\n%s", tt.args, got, tt.code, tt.want, out)
		} else if tt.code != 0 {
			t.Logf("%v: %s", tt.args, out)
		}
	}
}

// TestDefineByFlags defines networks as in the README's first example, and
// takes them back.
func TestDefineByFlags(t *testing.T) {
	h := newHost(t, "testdata/two-bridges.yaml")
	if err := os.Remove(filepath.Join(config.Dir, "site.yaml")); err != nil {
		t.Fatal(err)
	}
	h.must(0, "define", "network", "red", "--switch", "ovs0", "--vlan", "20", "--subnet", "10.0.20.0/24")
	h.must(0, "define", "network", "blue", "--switch", "ovs0", "--vlan", "30")
	h.must(0, "define", "network", "lan", "--switch", "br0")
	if out := h.must(0, "define", "network", "red", "--switch", "ovs0", "--vlan", "20", "--subnet", "10.0.20.0/24"); out != "network red: unchanged\n" {
		t.Errorf("the second time: %q", out)
	}
	if out := h.must(0, "define", "network", "red", "--switch", "ovs0", "--vlan", "21"); !strings.Contains(out, "updated") {
		t.Errorf("another VLAN: %q", out)
	}
	spec, err := config.Load(config.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := spec.Topology.Network("red"); !ok || n.Policy.VLAN.Access != 21 {
		t.Errorf("the spec has %+v", n)
	}
	if sw, ok := spec.Topology.Switch("br0"); !ok || sw.Driver.String() != "linux" {
		t.Errorf("br0 was recognised as %+v", sw)
	}
	h.must(0, "plan", "--detailed-exitcode")
	otherFilesStay(t, h)
	for _, name := range []string{"red", "blue", "lan"} {
		h.must(0, "undefine", "network", name)
	}
	nothingApplied(t, h)
	if _, stderr, code := h.run("undefine", "network", "red"); code != 1 || !strings.Contains(stderr, "no such network") {
		t.Errorf("a second time: exit code %d, %s", code, stderr)
	}
}

// otherFilesStay checks that define and undefine never take along what else a
// user keeps in a file of the network's name, nor the files of this machine when
// libvirt is another's.
func otherFilesStay(t *testing.T, h *host) {
	t.Helper()
	shared := filepath.Join(config.Dir, "green.yaml")
	const text = "# by hand\nnetworks:\n  green: {mode: isolated}\n  grey: {mode: isolated}\n"
	if err := os.WriteFile(shared, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"green", "grey"} {
		if _, stderr, code := h.run("define", "network", name, "--switch", "br0"); code != 2 || !strings.Contains(stderr, "green.yaml") {
			t.Errorf("define of what %s declares: exit code %d, %s", shared, code, stderr)
		}
	}
	h.must(0, "apply")
	h.must(0, "undefine", "network", "green")
	h.must(0, "undefine", "network", "grey")
	if now, err := os.ReadFile(shared); err != nil || string(now) != text {
		t.Errorf("%s is now %q, %v", shared, now, err)
	}
	if err := os.WriteFile(shared, []byte("guests: {g: {}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := h.run("define", "network", "green", "--mode", "isolated"); code != 2 || !strings.Contains(stderr, "holds something else") {
		t.Errorf("define over another file: exit code %d, %s", code, stderr)
	}
	if err := os.Remove(shared); err != nil {
		t.Fatal(err)
	}
	if _, _, code := h.run("-c", "test:///default", "undefine", "network", "red"); code != 1 {
		t.Errorf("red of another machine: exit code %d, want 1", code)
	}
	if _, err := os.Stat(filepath.Join(config.Dir, "red.yaml")); err != nil {
		t.Error(err)
	}
}
