// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/vm"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux"
)

// TestOnDebianKernel runs, in a virtual machine, the tests of the packages whose
// behaviour depends on what the kernel has. Each of their tests is a sub-test
// here.
func TestOnDebianKernel(t *testing.T) {
	for _, tt := range []struct {
		pkg  string
		must []string // what the package is run here for
	}{
		{"switchcfg/linux", []string{
			"TestIsolatedTraffic",
			"TestVLANTraffic",
			"TestConformance/filtering,_default_PVID_0/VLANs",
			"TestConformance/filtering,_default_PVID_1/VLANs",
			"TestConformance/filtering,_default_PVID_7/VLANs",
			"TestConformance/filtering,_default_PVID_1/settings",
			"TestVLANChangeEmptiesQueue",
		}},
		{"switchcfg/internal/guard", []string{"TestTraffic/full"}},
	} {
		t.Run(tt.pkg, func(t *testing.T) {
			lab.Need(t, lab.Guests)
			t.Setenv("TMPDIR", "/run") // the lab's own: it goes with it, however this ends
			dir := t.TempDir()
			binary := filepath.Join(dir, "tests")
			if err := vm.Build(t.Context(), "../"+tt.pkg, binary); err != nil {
				t.Fatal(err)
			}
			console, err := vm.Run(t.Context(), dir, binary)
			tell(t, console, err, tt.must)
			if tt.pkg == "switchcfg/linux" {
				tellProofs(t, console)
			}
		})
	}
}

// tellProofs prints what the driver's tests have proved: for each property that
// the driver has, what may pass, and what may not and does not.
func tellProofs(t *testing.T, console string) {
	t.Helper()
	proved := map[string][]string{}
	for line := range strings.Lines(console) {
		if _, proof, ok := strings.Cut(line, "proof: "); ok {
			name, both, _ := strings.Cut(strings.TrimSpace(proof), " | ")
			proved[name] = append(proved[name], both)
		}
	}
	var b strings.Builder
	for _, p := range linux.Properties() {
		if len(proved[p.Name]) == 0 {
			t.Errorf("%s is not proved", p.Name)
		}
		for _, both := range proved[p.Name] {
			may, mayNot, _ := strings.Cut(both, " | ")
			fmt.Fprintf(&b, "%s\n    passes: %s\n    does not: %s\n", p.Name, may, mayNot)
		}
	}
	t.Logf("proved on Debian's kernel, both ways:\n%s", b.String())
}

// tell gives the tests that ran in a virtual machine, with what its console
// showed and the error of running it, sub-tests here. Those of the names in must
// have to be among them.
func tell(t *testing.T, console string, err error, must []string) {
	t.Helper()
	left := map[string]bool{}
	for _, name := range must {
		left[name] = true
	}
	replay(t, "", vm.Parse(console), left)
	switch {
	case err != nil && t.Failed():
		t.Error(err)
	case err != nil: // for no reason that a test could give
		t.Errorf("%v; the console:\n%s", err, console)
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		t.Errorf("%s did not run", name)
	}
}

// replay gives each result a sub-test of the same fate, and takes its name off
// the list of those that are left to run.
func replay(t *testing.T, parent string, results []*vm.Result, left map[string]bool) {
	t.Helper()
	for _, r := range results {
		delete(left, r.Name)
		t.Run(strings.TrimPrefix(r.Name, parent), func(t *testing.T) {
			if r.Output != "" {
				t.Logf("inside the virtual machine:\n%s", r.Output)
			}
			replay(t, r.Name+"/", r.Subs, left)
			switch r.Verdict {
			case "PASS":
			case "SKIP":
				t.Error("was skipped inside the virtual machine, where nothing may be")
			case "FAIL":
				t.Error("failed inside the virtual machine")
			default:
				t.Error("did not end inside the virtual machine")
			}
		})
	}
}
