// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/golden"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/vm"
	"github.com/virt-vnet/virt-vnet/test/stage"
)

// vlanExample needs a kernel with VLAN filtering bridges.
const vlanExample = "../examples/linux-bridge-vlans"

// vlanHostLimit is some seven times what TestVLANHost takes on an idle machine.
const vlanHostLimit = 12 * time.Minute

// TestVLANHost is the whole product on the host that it is for: libvirtd, our
// hook and three real guests on a Linux bridge that filters VLANs, as the README
// of the example has it: plan, apply, hooks, boot, verify, and all taken back.
// Where the machine's kernel has no such bridge it runs itself again on Debian's,
// in a virtual machine with the machine's files. What it proves there is in
// vlanport_test.go.
func TestVLANHost(t *testing.T) {
	if vm.Inside() {
		insideVLANHost(t)
		return
	}
	lab.Need(t, lab.Libvirt, lab.Guests)
	// The lab's own, so that it goes with it however this ends. Unlike /run it
	// can be seen in the lab inside.
	t.Setenv("TMPDIR", "/var/cache")
	dir := t.TempDir()
	if err := stage.Programs(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	tests := filepath.Join(dir, "tests")
	if err := vm.Build(t.Context(), ".", tests); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), vlanHostLimit)
	defer cancel()
	// The tests give up first, as they have more to say.
	console, err := vm.RunOnHostFiles(ctx, dir, tests, "-test.v", "-test.run=^TestVLANHost$",
		"-test.timeout="+(vlanHostLimit-30*time.Second).String())
	tell(t, console, err, []string{
		"TestVLANHost/wired_before_the_guest_begins",
		"TestVLANHost/ports_have_their_VLAN_and_no_other",
		"TestVLANHost/uplink_follows_the_guests",
		"TestVLANHost/never_seen_in_another_VLAN",
		"TestVLANHost/same_VLAN_reaches",
		"TestVLANHost/other_VLAN_hears_nothing",
		"TestVLANHost/VLAN_1_is_never_heard",
		"TestVLANHost/verify_proves_it",
		"TestVLANHost/faults_of_VLANs_are_named",
		"TestVLANHost/nothing_is_left",
	})
}

func insideVLANHost(t *testing.T) {
	h := newHost(t, filepath.Join(vlanExample, "spec.yaml"))
	events := recordBridge(t)
	endSnapshots := snapshotAtStart(t)
	addStray(t, h)
	golden.Check(t, filepath.Join(vlanExample, "plan.txt"), h.must(0, "plan"))
	h.must(3, "plan", "--detailed-exitcode")
	h.must(0, "apply")
	h.must(0, "plan", "--detailed-exitcode")
	h.must(0, "hooks", "install", "--reload")
	h.boot()
	endSnapshots()
	h.must(0, "plan", "--detailed-exitcode")
	ports := h.ports()

	t.Run("VLAN 1 is never heard", func(t *testing.T) { strayUnheard(t, h) })
	t.Run("wired before the guest begins", func(t *testing.T) { wiredBefore(t, ports) })
	t.Run("ports have their VLAN and no other", func(t *testing.T) { vlansNow(t, ports) })
	t.Run("uplink follows the guests", uplinkFollows)
	t.Run("same VLAN reaches", func(t *testing.T) { sameVLAN(t, h) })
	t.Run("other VLAN hears nothing", func(t *testing.T) { otherVLAN(t, h) })
	t.Run("verify proves it", func(t *testing.T) { verifyProves(t, h) })
	t.Run("never seen in another VLAN", func(t *testing.T) { neverElsewhere(t, ports, events()) })
	t.Run("faults of VLANs are named", func(t *testing.T) { vlanFaults(t, h, ports) })
	t.Run("nothing is left", func(t *testing.T) {
		takeBack(t, h)
		bridgeAsBefore(t, ports)
	})
}
