// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// recordBridge has "bridge monitor" write down what happens to bridges, from now
// on. The function returns the lines so far.
func recordBridge(t *testing.T) func() []string {
	t.Helper()
	const file = "/run/bridge-events"
	log, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "bridge", "monitor", "all")
	cmd.Stdout = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		_ = log.Close()
	})
	lines := func() []string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(string(text), "\n")
	}
	waitRecording(t, lines)
	return lines
}

// waitRecording waits until a change to a VLAN is seen.
func waitRecording(t *testing.T, lines func() []string) {
	t.Helper()
	const device, vlan = "to-gw-red", "4000"
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		for _, verb := range []string{"add", "del"} {
			if out, err := exec.CommandContext(t.Context(), "bridge", "vlan", verb, "dev", device, "vid", vlan).CombinedOutput(); err != nil {
				t.Fatalf("bridge vlan %s: %v: %s", verb, err, out)
			}
		}
		if slices.ContainsFunc(lines(), func(line string) bool { return readBridgeEvent(line) == bridgeEvent{"VLAN", true, device, vlan, ""} }) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("bridge monitor sees nothing: %q", lines())
		}
	}
}

// bridgeEvent is a line of "bridge monitor": a port joined or left a VLAN
// ("VLAN"), or an address was learned or forgotten on a port ("NEIGH").
type bridgeEvent struct {
	kind         string
	deleted      bool
	device, vlan string
	mac          string // of NEIGH
}

// readBridgeEvent takes apart "[VLAN]Deleted vnet0 1" or "[NEIGH]MAC dev vnet0
// vlan 20 master br0". Of other lines the kind is empty.
func readBridgeEvent(line string) bridgeEvent {
	var e bridgeEvent
	kind, rest, _ := strings.Cut(strings.TrimPrefix(line, "["), "]")
	words := strings.Fields(rest)
	if len(words) > 0 && words[0] == "Deleted" {
		e.deleted, words = true, words[1:]
	}
	switch {
	case kind == "VLAN" && len(words) >= 2:
		e.kind, e.device, e.vlan = kind, words[0], words[1]
	case kind == "NEIGH" && len(words) >= 3 && words[1] == "dev":
		e.kind, e.mac, e.device = kind, words[0], words[2]
		if len(words) >= 5 && words[3] == "vlan" {
			e.vlan = words[4]
		}
	}
	return e
}

// neverElsewhere goes through all that happened to the ports until now. Each was
// in VLAN 1 at first, where the kernel puts it, and had left it for its own, and
// for good, when its guest's address was first learned.
func neverElsewhere(t *testing.T, ports []port, lines []string) {
	for _, p := range ports {
		own, in, learned := strconv.Itoa(p.vlan), map[string]bool{}, 0
		everIn1 := false
		for _, line := range lines {
			e := readBridgeEvent(line)
			switch {
			case e.kind == "VLAN" && e.device == p.device:
				in[e.vlan] = !e.deleted
				everIn1 = everIn1 || in["1"]
			case e.kind == "NEIGH" && e.mac == p.mac && !e.deleted:
				learned++
				if e.device != p.device || e.vlan != own {
					t.Errorf("%s of %s was learned on %s in VLAN %s, want %s in %s", p.mac, p.guest, e.device, e.vlan, p.device, own)
				}
			}
			if now := members(in); learned > 0 && !slices.Equal(now, []string{own}) {
				t.Errorf("%s of %s is in VLANs %v once its guest has spoken, want %s: %q", p.device, p.guest, now, own, line)
				break
			}
		}
		if !everIn1 || learned == 0 {
			t.Errorf("%s of %s: seen in VLAN 1: %t, its guest learned: %d times", p.device, p.guest, everIn1, learned)
			continue
		}
		t.Logf("%s of %s left VLAN 1 for %s before its guest spoke; learned %d times, always there", p.device, p.guest, own, learned)
	}
}

// members lists the VLANs that are true.
func members(in map[string]bool) []string {
	var list []string
	for vlan, member := range in {
		if member {
			list = append(list, vlan)
		}
	}
	return list
}
