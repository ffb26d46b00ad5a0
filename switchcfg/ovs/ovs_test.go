// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/ovs"
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

// help opens ovs0, and leaves a vantage behind if what says so.
func help(ctx context.Context, what string) error {
	d, err := ovs.Open(ctx, ovs0)
	if err == nil && what == "vantage" {
		_, err = d.OpenVantage(ctx, 0)
	}
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

var ovs0 = vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS}

// start starts a lab with the bridges ovs0 and ovs1.
func start(t *testing.T) *lab.Lab {
	t.Helper()
	lab.Need(t, lab.OVS)
	l := labtest.Start(t, lab.Options{OVS: true})
	for _, name := range []string{"ovs0", "ovs1"} {
		if err := l.AddOVSBridge(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func open(ctx context.Context, sw vnet.Switch) (switchcfg.Driver, error) {
	d, err := ovs.Open(ctx, sw)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// vsctl runs ovs-vsctl, an independent pair of hands and eyes.
func vsctl(t *testing.T, l *lab.Lab, args ...string) string {
	t.Helper()
	out, err := l.Vsctl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestConformance(t *testing.T) {
	switchtest.Conformance(t, fixture(start(t)))
}

func fixture(l *lab.Lab) switchtest.Fixture {
	return switchtest.Fixture{
		Switch: ovs0,
		Open:   open,
		AddDevice: func(t *testing.T, device string) {
			ip(t, "tuntap", "add", "dev", device, "mode", "tap")
			ip(t, "link", "set", device, "up")
		},
		Plug: func(t *testing.T, device string, elsewhere bool) {
			bridge := "ovs0"
			if elsewhere {
				bridge = "ovs1"
			}
			vsctl(t, l, "add-port", bridge, device)
		},
		Remove: func(t *testing.T, device string) {
			ctx := context.WithoutCancel(t.Context())
			if _, err := l.Vsctl(ctx, "--if-exists", "del-port", device); err != nil {
				t.Error(err)
			}
			_ = exec.CommandContext(ctx, "ip", "link", "del", device).Run() // may be gone
		},
		Look: func(t *testing.T, device string) string {
			return vsctl(t, l, "--columns=name,tag,trunks,vlan_mode,protected,external_ids", "list", "Port", device) +
				vsctl(t, l, "port-to-br", device)
		},
	}
}
