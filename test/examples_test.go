// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/golden"
	"github.com/virt-vnet/virt-vnet/test/stage"
)

// TestExamples follows the README of every example on real guests: plan (as
// plan.txt has it), apply, hooks, boot, verify, and take it all back.
func TestExamples(t *testing.T) {
	dirs, err := filepath.Glob("../examples/*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, dir := range dirs {
		switch filepath.Base(dir) {
		case filepath.Base(vlanExample):
			continue // TestVLANHost follows it, on a kernel that can
		case filepath.Base(ovnExample):
			continue // TestOVN follows it, on two hosts
		case filepath.Base(trunkExample):
			continue // TestTrunkAppliance follows it, with a router
		}
		t.Run(filepath.Base(dir), func(t *testing.T) { runExample(t, dir) })
	}
}

func runExample(t *testing.T, dir string) {
	h := newHost(t, filepath.Join(dir, "spec.yaml"))
	golden.Check(t, filepath.Join(dir, "plan.txt"), h.must(0, "plan"))
	h.must(3, "plan", "--detailed-exitcode")
	h.must(0, "apply")
	h.must(0, "plan", "--detailed-exitcode")
	h.must(0, "hooks", "install", "--reload")
	h.boot()
	h.must(0, "plan", "--detailed-exitcode")
	h.must(0, "verify")
	takeBack(t, h)
}

// takeBack undoes all that a user does with a spec, and looks for what is left.
func takeBack(t *testing.T, h *host) {
	t.Helper()
	for _, g := range stage.Guests(h.spec.Topology) {
		h.virsh("destroy", g.Name)
	}
	for _, n := range h.spec.Topology.Networks {
		h.must(0, "undefine", "network", n.Name)
	}
	h.must(0, "hooks", "uninstall")
	if left := strings.Fields(h.virsh("net-list", "--all", "--name")); len(left) > 0 {
		t.Errorf("networks left: %v", left)
	}
	for _, pattern := range []string{"/etc/libvirt/hooks/*.d/*", "/var/lib/virt-vnet/networks/*", "/run/virt-vnet/guests/*"} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left of %s: %v, %v", pattern, left, err)
		}
	}
}
