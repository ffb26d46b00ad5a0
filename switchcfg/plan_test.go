// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/internal/golden"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestDiff runs every directory of testdata/diff: want.json and have.json are
// states, owner is the guest, if there is one, and plan.txt is what must come
// out: the plan, and its reverse, or the error.
func TestDiff(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/diff/*")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, dir := range cases {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			want, have := state(t, dir, "want.json"), state(t, dir, "have.json")
			owner, err := os.ReadFile(filepath.Join(dir, "owner"))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			golden.Check(t, filepath.Join(dir, "plan.txt"), outcome(want, have, strings.TrimSpace(string(owner))))
		})
	}
}

func outcome(want, have switchcfg.State, owner string) string {
	plan, err := switchcfg.Diff(want, have, owner)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	if plan.Empty() {
		return "nothing to do\n"
	}
	text := plan.String()
	for _, line := range plan.Warnings {
		text += "warning: " + line + "\n"
	}
	return text + "reverse:\n" + plan.Reverse().String()
}

func state(t *testing.T, dir, name string) switchcfg.State {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	var s switchcfg.State
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for device, port := range s.Ports {
		port.Device = device
		s.Ports[device] = port
	}
	return s
}

// TestDiffIsStable checks that a plan, once made, leaves nothing to do, for
// every case that has one.
func TestDiffIsStable(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/diff/*")
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	for _, dir := range cases {
		want, have := state(t, dir, "want.json"), state(t, dir, "have.json")
		plan, err := switchcfg.Diff(want, have, "g1")
		if err != nil || plan.Empty() {
			continue
		}
		made++
		before, after := clone(have), clone(have)
		for _, c := range plan.Changes {
			after.Ports[c.Device] = c.After
		}
		if again, err := switchcfg.Diff(want, after, "g1"); err != nil || !again.Empty() {
			t.Errorf("%s: after the plan there is still to do:\n%s%v", dir, again, err)
		}
		for _, c := range plan.Reverse().Changes {
			after.Ports[c.Device] = c.After
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%s: the reverse does not lead back (-before +after):\n%s", dir, diff)
		}
	}
	if made == 0 {
		t.Error("no case has a plan")
	}
}

func clone(s switchcfg.State) switchcfg.State {
	ports := make(map[string]switchcfg.Port, len(s.Ports))
	for device, port := range s.Ports {
		ports[device] = port
	}
	s.Ports = ports
	return s
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	before := switchcfg.Port{Device: "vnet0", Switch: "br0"}
	after := before
	after.Switch, after.Owner = "br1", switchcfg.Owner{Guest: "g1", Network: "red"}
	change := switchcfg.Change{Device: "vnet0", Before: before, After: after}
	for name, c := range map[string]struct {
		found switchcfg.Port
		err   string
	}{
		"foreign mark": {
			switchcfg.Port{Switch: "br0", Foreign: "uplink"},
			`not ours to change: it is marked "uplink"`,
		},
		"another guest": {
			switchcfg.Port{Switch: "br0", Owner: switchcfg.Owner{Guest: "g2", Network: "red"}},
			"not ours to change: it is now of guest g2, network red: plan again",
		},
		"another switch": {
			switchcfg.Port{Switch: "br2"},
			"not ours to change: it is now on switch br2: plan again",
		},
		"off every switch": {
			switchcfg.Port{},
			"not ours to change: it is now on switch none: plan again",
		},
		"as before":    {before, ""},
		"as after":     {after, ""},
		"half way":     {switchcfg.Port{Switch: "br1"}, ""},
		"VLANs differ": {switchcfg.Port{Switch: "br0", Settings: switchcfg.Settings{MTU: 9000}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := change.Admit(c.found)
			if text(err) != c.err {
				t.Errorf("got error %q, want %q", text(err), c.err)
			}
			if err != nil && !errors.Is(err, switchcfg.ErrNotOwned) {
				t.Errorf("%v is not ErrNotOwned", err)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestCapabilitiesCheck(t *testing.T) {
	t.Parallel()
	const reason = "this kernel has no bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)"
	noVLAN := map[switchcfg.Feature]string{switchcfg.FeatureVLAN: reason}
	for name, c := range map[string]struct {
		missing map[switchcfg.Feature]string
		policy  vnet.Policy
		err     string
	}{
		"access": {
			noVLAN,
			vnet.Policy{VLAN: vnet.VLANSet{Access: 20}},
			"not supported here: br0: " + reason + "; network red needs VLAN access 20",
		},
		"trunk": {
			noVLAN,
			vnet.Policy{VLAN: vnet.VLANSet{Trunk: vnet.AllVLANs(), Native: 10}},
			"not supported here: br0: " + reason + "; network red needs VLAN trunk 1-4094 native 10",
		},
		"isolated": {
			map[switchcfg.Feature]string{switchcfg.FlagIsolated.Feature(): "old kernel"},
			vnet.Policy{Isolated: true},
			"not supported here: br0: old kernel; network red needs isolated: true",
		},
		"learning off": {
			map[switchcfg.Feature]string{switchcfg.FlagLearning.Feature(): "no such setting"},
			vnet.Policy{Learning: vnet.ToggleOff},
			"not supported here: br0: no such setting; network red needs learning: false",
		},
		"flood off": {
			map[switchcfg.Feature]string{switchcfg.FlagFlood.Feature(): "no such setting"},
			vnet.Policy{Flood: vnet.ToggleOff},
			"not supported here: br0: no such setting; network red needs flood: false",
		},
		"BPDU guard by default": {
			map[switchcfg.Feature]string{switchcfg.FlagBPDUGuard.Feature(): "no such setting"},
			vnet.Policy{},
			"not supported here: br0: no such setting; network red needs bpdu_guard: true",
		},
		"untagged":        {noVLAN, vnet.Policy{}, ""},
		"learning on":     {map[switchcfg.Feature]string{switchcfg.FlagLearning.Feature(): "x"}, vnet.Policy{Learning: vnet.ToggleOn}, ""},
		"nothing missing": {nil, vnet.Policy{VLAN: vnet.VLANSet{Access: 20}, Isolated: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := vnet.Port{Device: "vnet0", Switch: "br0", Network: "red", Policy: c.policy}
			want, err := switchcfg.Desired([]vnet.Port{port}, vnet.Switch{Name: "br0", Driver: vnet.DriverLinux})
			if err != nil {
				t.Fatal(err)
			}
			err = switchcfg.Capabilities{Switch: "br0", Missing: c.missing}.Check(t.Context(), want)
			if text(err) != c.err {
				t.Errorf("got error  %q\nwant error %q", text(err), c.err)
			}
			if err != nil && !errors.Is(err, switchcfg.ErrUnsupported) {
				t.Errorf("%v is not ErrUnsupported", err)
			}
		})
	}
}

func TestDesired(t *testing.T) {
	t.Parallel()
	good := vnet.Port{Device: "vnet0", Switch: "br0"}
	for name, c := range map[string]struct {
		ports []vnet.Port
		err   string
	}{
		"no device":    {[]vnet.Port{{Switch: "br0"}}, `port "" of switch "br0" cannot be wired on switch "br0"`},
		"other switch": {[]vnet.Port{{Device: "vnet0", Switch: "br1"}}, `port "vnet0" of switch "br1" cannot be wired on switch "br0"`},
		"twice":        {[]vnet.Port{good, good}, "switch br0: two guest NICs claim port vnet0"},
		"none":         {nil, ""},
		"one":          {[]vnet.Port{good}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := switchcfg.Desired(c.ports, vnet.Switch{Name: "br0", Driver: vnet.DriverLinux})
			if text(err) != c.err {
				t.Errorf("got error  %q\nwant error %q", text(err), c.err)
			}
		})
	}
}

// TestDesiredBPDUGuard checks the one setting that depends on the switch.
func TestDesiredBPDUGuard(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		driver      vnet.Driver
		asked, want vnet.Toggle
	}{
		{vnet.DriverLinux, vnet.ToggleLeave, vnet.ToggleOn},
		{vnet.DriverLinux, vnet.ToggleOff, vnet.ToggleOff},
		{vnet.DriverOVS, vnet.ToggleLeave, vnet.ToggleLeave},
		{vnet.DriverOVS, vnet.ToggleOn, vnet.ToggleOn},
	} {
		port := vnet.Port{Device: "vnet0", Switch: "s", Policy: vnet.Policy{BPDUGuard: c.asked}}
		state, err := switchcfg.Desired([]vnet.Port{port}, vnet.Switch{Name: "s", Driver: c.driver})
		if err != nil {
			t.Fatal(err)
		}
		if got := state.Ports["vnet0"].Settings.Flags[switchcfg.FlagBPDUGuard]; got != c.want {
			t.Errorf("%s, asked %s: got %s, want %s", c.driver, c.asked, got, c.want)
		}
	}
}
