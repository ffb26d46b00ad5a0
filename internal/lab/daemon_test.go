// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
)

// TestDaemons takes the daemons away under a guest, one after the other.
func TestDaemons(t *testing.T) {
	lab.Need(t, lab.Guests, lab.OVS)
	ctx := t.Context()
	l := labtest.Start(t, lab.Options{Libvirt: true, OVS: true})
	must(t, l.AddOVSBridge(ctx, "br0"))
	g := &lab.Guest{Name: "g", NICs: []lab.NIC{{Bridge: "br0"}}}
	must(t, l.DefineGuest(ctx, g))
	must(t, l.StartGuest(ctx, "g"))

	pid := l.Libvirtd().PID()
	must(t, l.Libvirtd().Kill(ctx))
	if _, err := l.Virsh(ctx, "list"); err == nil || l.Libvirtd().PID() != 0 {
		t.Fatal("libvirtd answers after it was killed")
	}
	must(t, l.Libvirtd().Start(ctx))
	if now := l.Libvirtd().PID(); now == pid || now == 0 {
		t.Errorf("libvirtd's pid: got %d after %d", now, pid)
	}
	if state, err := l.Virsh(ctx, "domstate", "g"); err != nil || state != "running" {
		t.Errorf("guest after a crash of libvirtd: got %q, %v, want running", state, err)
	}

	must(t, l.OVSDB().Kill(ctx))
	if _, err := l.Vsctl(ctx, "--timeout=1", "show"); err == nil {
		t.Error("OVSDB answers after it was killed")
	}
	must(t, l.Vswitchd().Kill(ctx))
	must(t, l.StartOVS(ctx))
	if out, err := l.Vsctl(ctx, "list-ports", "br0"); err != nil || out != "vnet0" {
		t.Errorf("ports after a crash of OVS: got %q, %v, want vnet0", out, err)
	}
	must(t, l.DestroyGuest(ctx, "g"))
}

func TestReloadFindsHook(t *testing.T) {
	lab.Need(t, lab.Guests)
	ctx := t.Context()
	l := labtest.Start(t, lab.Options{Libvirt: true})
	must(t, l.AddLinuxBridge(ctx, "lan0"))
	seen := filepath.Join(t.TempDir(), "seen")
	hook := "#!/bin/sh\necho \"$2\" >>" + seen + "\n[ \"$2\" != start ]\n"
	must(t, os.WriteFile("/etc/libvirt/hooks/qemu", []byte(hook), 0o755))
	must(t, l.Libvirtd().Reload(ctx))
	must(t, l.DefineGuest(ctx, &lab.Guest{Name: "g", NICs: []lab.NIC{{Bridge: "lan0"}}}))
	if err := l.StartGuest(ctx, "g"); err == nil {
		t.Error("the hook's refusal did not stop the start")
	}
	if text, err := os.ReadFile(seen); err != nil || !strings.HasPrefix(string(text), "prepare\nstart\n") {
		t.Errorf("operations: got %q, %v", text, err)
	}
}

func TestPausedDaemonStops(t *testing.T) {
	lab.Need(t, lab.OVS)
	l := labtest.Start(t, lab.Options{OVS: true})
	must(t, l.OVSDB().Pause())
	begin := time.Now()
	if _, err := l.Vsctl(t.Context(), "--timeout=1", "show"); err == nil {
		t.Error("a paused OVSDB answers")
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("gave up after %v", took)
	}
	must(t, l.OVSDB().Resume())
	if _, err := l.Vsctl(t.Context(), "show"); err != nil {
		t.Error(err)
	}
	must(t, l.OVSDB().Pause()) // Close must cope
}

// TestFreshAfterClose holds the second Lab of a process to what the first
// found.
func TestFreshAfterClose(t *testing.T) {
	lab.Need(t, lab.Libvirt, lab.OVS)
	ctx := t.Context()
	for range 2 {
		l, err := lab.Start(ctx, lab.Options{Libvirt: true, OVS: true})
		must(t, err)
		if _, err := lab.Start(ctx, lab.Options{}); err == nil {
			t.Error("two labs at a time in one namespace")
		}
		for _, args := range [][]string{{"list", "--all", "--name"}, {"net-list", "--all", "--name"}} {
			if out, err := l.Virsh(ctx, args...); err != nil || out != "" {
				t.Errorf("%s: got %q, %v, want nothing", args, out, err)
			}
		}
		must(t, l.AddOVSBridge(ctx, "br0"))
		must(t, l.AddLinuxBridge(ctx, "lan0"))
		must(t, l.AddVeth(ctx, "v0", "v1"))
		must(t, l.AddStation(ctx, &lab.Station{Name: "s", Bridge: "br0"}))
		must(t, l.DefineNetwork(ctx, natNetwork))
		must(t, os.WriteFile("/etc/virt-vnet/lan.yaml", nil, 0o600))
		must(t, l.Close(ctx))
		for _, dir := range []string{"/etc/virt-vnet", "/run/netns", "/etc/libvirt/qemu/networks"} {
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("%s: got %v, %v, want nothing", dir, left, err)
			}
		}
		if left, _ := filepath.Glob("/sys/class/net/*"); len(left) != 1 {
			t.Errorf("links: got %v, want lo", left)
		}
	}
}
