// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package drivers_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestMain(m *testing.M) { lab.Main(m) }

// start starts a lab with the Linux bridge br0, and perhaps the OVS bridge ovs0.
func start(t *testing.T, withOVS bool) *lab.Lab {
	t.Helper()
	lab.Need(t, lab.OVS)
	l := labtest.Start(t, lab.Options{OVS: withOVS})
	if err := l.AddLinuxBridge(t.Context(), "br0"); err != nil {
		t.Fatal(err)
	}
	if !withOVS {
		return l
	}
	if err := l.AddOVSBridge(t.Context(), "ovs0"); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		name    string
		withOVS bool
		want    vnet.Driver
		err     string
	}{
		{"nosuch0", true, 0, "switch nosuch0: no such switch: the host has neither a Linux bridge nor an Open vSwitch bridge of that name"},
		{"nosuch0", false, 0, "switch nosuch0: no such switch: the host has no Linux bridge of that name, and Open vSwitch does not run"},
		{"lo", true, 0, "switch lo: no such switch: the host has neither"},
		{"br0", true, vnet.DriverLinux, ""},
		{"br0", false, vnet.DriverLinux, ""},
		{"ovs0", true, vnet.DriverOVS, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			start(t, c.withOVS)
			got, err := drivers.Detect(t.Context(), c.name)
			if got != c.want || (err == nil) != (c.err == "") {
				t.Fatalf("got %s and error %v, want %s and error %q", got, err, c.want, c.err)
			}
			if err != nil && (!errors.Is(err, switchcfg.ErrNoSwitch) || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("got error %q, want %q", err, c.err)
			}
		})
	}
}

// TestDetectOVN makes the bridge that of OVN, as ovn-controller reads it.
func TestDetectOVN(t *testing.T) {
	l := start(t, true)
	for _, c := range []struct {
		set  string
		want vnet.Driver
	}{
		{"external_ids:ovn-bridge=ovs0", vnet.DriverOVS}, // without a database nobody manages it
		{"external_ids:ovn-remote=unix:/run/ovn/ovnsb_db.sock", vnet.DriverOVN},
		{"external_ids:ovn-bridge=br-int", vnet.DriverOVS},
	} {
		if _, err := l.Vsctl(t.Context(), "set", "Open_vSwitch", ".", c.set); err != nil {
			t.Fatal(err)
		}
		if got, err := drivers.Detect(t.Context(), "ovs0"); got != c.want || err != nil {
			t.Errorf("%s: got %s, %v, want %s", c.set, got, err, c.want)
		}
	}
}

// TestDetectCannotTell checks that "could not look" is not taken for "is not
// there".
func TestDetectCannotTell(t *testing.T) {
	start(t, false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := drivers.Detect(ctx, "nosuch0"); err == nil || errors.Is(err, switchcfg.ErrNoSwitch) {
		t.Errorf("got error %v, want one that is not %q", err, switchcfg.ErrNoSwitch)
	}
}

func TestOpen(t *testing.T) {
	start(t, true)
	for _, c := range []struct {
		sw  vnet.Switch
		err error
	}{
		{vnet.Switch{Name: "br0", Driver: vnet.DriverOVS}, switchcfg.ErrNoSwitch},
		{vnet.Switch{Name: "ovs0", Driver: vnet.DriverLinux}, switchcfg.ErrNoSwitch},
		{vnet.Switch{Name: "br0", Driver: vnet.DriverLinux}, nil},
		{vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS}, nil},
	} {
		d, err := drivers.Open(t.Context(), c.sw)
		if !errors.Is(err, c.err) || (err != nil) != (d == nil) {
			t.Errorf("%+v: got driver %v and error %v, want error %v", c.sw, d, err, c.err)
		}
		if d == nil {
			continue
		}
		if got := d.Capabilities().Switch; got != c.sw.Name {
			t.Errorf("%+v: opened switch %q", c.sw, got)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if d, err := drivers.Open(t.Context(), vnet.Switch{Name: "br0"}); err == nil || d != nil {
		t.Errorf("no driver: got %v and error %v", d, err)
	}
}
