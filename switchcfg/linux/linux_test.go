// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/internal/vm"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux/hostside"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// helperEnv makes the test binary play another process instead of testing.
const helperEnv = "VIRT_VNET_TEST_HELPER"

func TestMain(m *testing.M) {
	if what := os.Getenv(helperEnv); what != "" {
		if err := help(context.Background(), what); err != nil {
			fmt.Fprintln(os.Stdout, err)
		}
		return
	}
	lab.Main(m)
}

// help opens br0 and leaves a vantage behind, or wires the device named what.
func help(ctx context.Context, what string) error {
	d, err := linux.Open(ctx, br0, linux.WithHostJoiner(hostside.Join))
	if err != nil {
		return err
	}
	if what == "vantage" {
		_, err := d.OpenVantage(ctx, 0)
		return err
	}
	_, err = d.Apply(ctx, switchcfg.Plan{Switch: "br0", Changes: []switchcfg.Change{{
		Device: what,
		Before: switchcfg.Port{Device: what, Switch: "br0"},
		After:  switchcfg.Port{Device: what, Switch: "br0", Owner: switchcfg.Owner{Guest: "u1", Network: "red"}},
	}}})
	return err
}

// helper runs the test binary as another process and returns what it printed.
func helper(t *testing.T, what string, attr *syscall.SysProcAttr) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"="+what)
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("helper: %v: %s", err, out)
	}
	return string(out)
}

var br0 = vnet.Switch{Name: "br0", Driver: vnet.DriverLinux}

// start starts a lab with the bridges br0 and br1.
func start(t *testing.T) *lab.Lab {
	t.Helper()
	lab.Need(t)
	l := labtest.Start(t, lab.Options{})
	for _, name := range []string{"br0", "br1"} {
		if err := l.AddLinuxBridge(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func open(ctx context.Context, sw vnet.Switch) (switchcfg.Driver, error) {
	d, err := linux.Open(ctx, sw, linux.WithHostJoiner(hostside.Join))
	if err != nil {
		return nil, err
	}
	return d, nil
}

// ip and bridge run iproute2, an independent pair of hands and eyes.
func ip(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, "ip", args...)
}

func bridge(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, "bridge", args...)
}

// try runs a program that may fail.
func try(t *testing.T, argv ...string) error {
	t.Helper()
	return exec.CommandContext(t.Context(), argv[0], argv[1:]...).Run()
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestConformance runs the suite on a plain bridge and, where the kernel has
// VLAN filtering, on a filtering one with each kind of default PVID.
func TestConformance(t *testing.T) {
	start(t)
	t.Run("plain", func(t *testing.T) { switchtest.Conformance(t, fixture()) })
	if !canFilter(t) {
		t.Log("this kernel has no bridge VLAN filtering: only plain bridges")
		return
	}
	for _, pvid := range []string{"1", "0", "7"} {
		t.Run("filtering, default PVID "+pvid, func(t *testing.T) {
			for _, name := range []string{"br0", "br1"} {
				ip(t, "link", "del", name)
				ip(t, "link", "add", name, "up", "type", "bridge", "vlan_filtering", "1", "vlan_default_pvid", pvid)
			}
			switchtest.Conformance(t, fixture())
		})
	}
}

// canFilter reports whether the kernel has bridge VLAN filtering, by trying.
// In the virtual machine, which is there for that, it must have.
func canFilter(t *testing.T) bool {
	t.Helper()
	const spare = "brtry"
	err := exec.CommandContext(t.Context(), "ip", "link", "add", spare, "type", "bridge", "vlan_filtering", "1").Run()
	_ = exec.CommandContext(t.Context(), "ip", "link", "del", spare).Run() // there when it could
	if err != nil && vm.Inside() {
		t.Fatalf("make a VLAN filtering bridge: %v", err)
	}
	return err == nil
}

// timeless is what ip says of a link without what changes by itself: timers, and
// the carrier, which a tap without a guest loses some time after it is made.
func timeless(shown string) string {
	return regexp.MustCompile(`[a-z_]+_timer +[0-9.]+|state \w+|<[A-Z,_-]*>`).ReplaceAllString(shown, "")
}

// limits is what tc says of a port.
func limits(t *testing.T, device string) string {
	t.Helper()
	return run(t, "tc", "qdisc", "show", "dev", device) + run(t, "tc", "filter", "show", "dev", device, "ingress")
}

func fixture() switchtest.Fixture {
	return switchtest.Fixture{
		Switch: br0,
		Open:   open,
		AddDevice: func(t *testing.T, device string) {
			ip(t, "tuntap", "add", "dev", device, "mode", "tap")
			ip(t, "link", "set", device, "up")
		},
		Plug: func(t *testing.T, device string, elsewhere bool) {
			name := "br0"
			if elsewhere {
				name = "br1"
			}
			ip(t, "link", "set", device, "master", name)
		},
		Remove: func(t *testing.T, device string) {
			_ = exec.CommandContext(context.WithoutCancel(t.Context()), "ip", "link", "del", device).Run() // may be gone
		},
		Look: func(t *testing.T, device string) string {
			return timeless(ip(t, "-d", "link", "show", "dev", device)) +
				bridge(t, "vlan", "show", "dev", device) + limits(t, device)
		},
		MarkForeign: func(t *testing.T, device string) {
			ip(t, "link", "set", device, "alias", "to the printer")
		},
	}
}
