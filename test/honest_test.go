// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

// TestHonestGuests lets real guests try to be somebody else, in a network with
// anti-spoofing, and takes the guard away behind virt-vnet's back.
func TestHonestGuests(t *testing.T) {
	h := newHost(t, "testdata/honest.yaml")
	h.must(0, "apply")
	h.must(0, "hooks", "install", "--reload")
	h.boot()
	h.must(0, "verify")

	inGuest := func(guest, command string) {
		t.Helper()
		if _, err := h.Exec(t.Context(), guest, command); err != nil {
			t.Error(err)
		}
	}
	// pings reports whether b answers a's pings, with further arguments.
	pings := func(from, to string) bool {
		t.Helper()
		_, err := h.Exec(t.Context(), "a", "ping -c 1 -W 2 -I "+from+" "+to)
		var status *lab.ExecError
		if err != nil && !errors.As(err, &status) {
			t.Fatal(err)
		}
		return err == nil
	}
	if !pings("10.0.70.11", "10.0.70.12") {
		t.Error("a's own address does not reach b")
	}
	inGuest("a", "ip addr add 10.0.70.99/24 dev eth0")
	if pings("10.0.70.99", "10.0.70.12") {
		t.Error("an address that is not a's reaches b")
	}
	inGuest("b", "ip addr add 10.0.70.100/24 dev eth0")
	if !pings("10.0.70.11", "10.0.70.100") {
		t.Error("an address that b is allowed does not answer")
	}
	inGuest("a", "ip link set eth0 down; ip link set eth0 address 52:54:00:00:70:99; ip link set eth0 up")
	if pings("10.0.70.11", "10.0.70.12") {
		t.Error("a MAC address that is not a's reaches b")
	}
	inGuest("a", "ip link set eth0 down; ip link set eth0 address 52:54:00:00:70:11; ip link set eth0 up")

	h.must(0, "plan", "--detailed-exitcode")
	tool(t, "nft", "delete", "table", "bridge", "virt_vnet")
	if !pings("10.0.70.99", "10.0.70.12") {
		t.Error("without the guard a forged address does not reach b either: the probe shows nothing")
	}
	if plan := h.must(3, "plan", "--detailed-exitcode"); !strings.Contains(plan, "sources: any -> 52:54:00:00:70:11 10.0.70.11") {
		t.Errorf("the plan does not say that the guard is gone:\n%s", plan)
	}
	// The table that is gone is one cause, of both.
	if r := verdict(t, h, 4); !slices.Equal(codes(r), []string{"WRONG_SETTINGS a (lan)"}) || len(r.Problems[0].Affects) != 2 {
		t.Errorf("without the guard: problems %+v, want one that a and b have", r.Problems)
	}
	h.must(0, "repair")
	h.must(0, "plan", "--detailed-exitcode")
	if pings("10.0.70.99", "10.0.70.12") {
		t.Error("repaired, and a forged address reaches b")
	}
	if limits := tool(t, "tc", "qdisc", "show", "dev", h.device("a", "lan")); !strings.Contains(limits, "tbf 7677: root") || !strings.Contains(limits, "rate 500Mbit") {
		t.Errorf("limits of a: %s", limits)
	}
	takeBack(t, h)
	if left := tool(t, "nft", "list", "tables"); strings.Contains(left, "virt_vnet") {
		t.Errorf("left in nftables: %s", left)
	}
}

// tool runs a program of the host.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}
