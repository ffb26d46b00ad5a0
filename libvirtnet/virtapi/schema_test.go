// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"libvirt.org/go/libvirt"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
)

// TestSchema holds every definition that libvirtnet writes against libvirt's
// own schema.
func TestSchema(t *testing.T) {
	lab.Need(t, lab.Libvirt)
	if err := validate(t, "<network><name>red</name><vlan><tag id='4096'/></vlan></network>"); err == nil {
		t.Fatal("virt-xml-validate takes anything")
	}
	for _, version := range []string{"8.0.0", "9.0.0", "11.0.0"} {
		for name, text := range golden(t, version) {
			if err := validate(t, text); err != nil {
				t.Errorf("%s for libvirt %s: %v", name, version, err)
			}
		}
	}
}

func validate(t *testing.T, text string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "network.xml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), "virt-xml-validate", file, "network").Run()
}

// TestTestDriver defines everything in libvirt's test driver, which needs no
// daemon and no root.
func TestTestDriver(t *testing.T) {
	for _, version := range []string{"8.0.0", "11.0.0"} {
		t.Run(version, func(t *testing.T) {
			c := open(t, "test:///default")
			raw, err := libvirt.NewConnect("test:///default")
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close() //nolint:errcheck // the test driver's is only memory
			if c.URI() != "test:///default" || c.Version() < 5_000_000 {
				t.Errorf("connected to %s, libvirt %s", c.URI(), c.Version())
			}
			for name, text := range golden(t, version) {
				n, err := raw.NetworkDefineXMLFlags(text, libvirt.NETWORK_DEFINE_VALIDATE)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				if err := errors.Join(n.Undefine(), n.Free()); err != nil {
					t.Fatal(err)
				}
				done := mustEnsure(t, c, text, virtapi.EnsureOptions{Start: true})
				if done.Outcome != virtapi.Created || !done.Started {
					t.Errorf("%s: %+v, want it created and started", name, done)
				}
				done = mustEnsure(t, c, text, virtapi.EnsureOptions{Start: true})
				if done.Outcome != virtapi.Unchanged || done.Started || done.Restarted || done.RestartDue != 0 {
					t.Errorf("%s, once more: %+v, want nothing done", name, done)
				}
				if err := c.RemoveNetwork(t.Context(), name); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
