// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/internal/vm"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/test/stage"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestMain(m *testing.M) { lab.Main(m) }

// host is a lab with our programs built, and a spec in place.
type host struct {
	*lab.Lab
	t    *testing.T
	bin  string
	spec *config.Spec
}

// newHost starts a lab, with Open vSwitch if the spec names such a switch, builds
// what the spec takes for granted and puts the spec where virt-vnet looks for it.
// Nothing of virt-vnet has run yet.
func newHost(t *testing.T, specFile string) *host {
	t.Helper()
	spec, err := config.Load(specFile)
	if err != nil {
		t.Fatal(err)
	}
	parts := []lab.Part{lab.Libvirt, lab.Guests}
	ovs := slices.ContainsFunc(spec.Topology.Switches, func(s vnet.Switch) bool { return s.Driver == vnet.DriverOVS })
	if ovs {
		parts = append(parts, lab.OVS)
	}
	lab.Need(t, parts...)
	h := &host{t: t, bin: programs(t), spec: spec}
	h.Lab = labtest.Start(t, lab.Options{Libvirt: true, OVS: ovs})
	if err := stage.Build(t.Context(), h.Lab, spec.Topology); err != nil {
		t.Fatal(err)
	}
	if err := config.Write(filepath.Join(config.Dir, "site.yaml"), spec.Topology); err != nil {
		t.Fatal(err)
	}
	return h
}

// programs returns the directory of our programs. Inside the virtual machine,
// whoever started it has built them beside the tests, as Go's compiler would
// take all day there.
func programs(t *testing.T) string {
	t.Helper()
	if vm.Inside() {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Dir(self)
	}
	dir := t.TempDir()
	if err := stage.Programs(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// with is the same for another test.
func (h *host) with(t *testing.T) *host {
	t.Helper()
	with := *h
	with.t = t
	return &with
}

// run executes virt-vnet and returns its output and exit code.
func (h *host) run(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(h.bin, "virt-vnet"), args...)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("virt-vnet %v: %v", args, err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// must runs virt-vnet, wants an exit code and returns standard output.
func (h *host) must(want int, args ...string) string {
	h.t.Helper()
	stdout, stderr, code := h.run(args...)
	if code != want {
		h.t.Fatalf("virt-vnet %v: exit code %d, want %d\n%s%s", args, code, want, stdout, stderr)
	}
	return stdout
}

// boot starts all guests of the spec and waits until they are up.
func (h *host) boot() {
	h.t.Helper()
	if err := h.Boot(h.t.Context(), stage.Guests(h.spec.Topology)...); err != nil {
		h.t.Fatal(err)
	}
}

// device is the host's device of a guest's NIC in a network.
func (h *host) device(guest, network string) string {
	h.t.Helper()
	xml, err := h.Virsh(h.t.Context(), "dumpxml", guest)
	if err != nil {
		h.t.Fatal(err)
	}
	domain, err := libvirtnet.ParseDomain([]byte(xml))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, nic := range domain.NICs {
		if nic.Network == network {
			return nic.Device
		}
	}
	h.t.Fatalf("guest %s has no NIC in network %s", guest, network)
	return ""
}

// vsctl runs ovs-vsctl.
func (h *host) vsctl(args ...string) string {
	h.t.Helper()
	out, err := h.Vsctl(h.t.Context(), args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// virsh runs virsh.
func (h *host) virsh(args ...string) string {
	h.t.Helper()
	out, err := h.Virsh(h.t.Context(), args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}
