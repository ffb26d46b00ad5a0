// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vantage_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/vantage"
)

func TestStale(t *testing.T) {
	t.Parallel()
	mine, err := vantage.Mark()
	if err != nil {
		t.Fatal(err)
	}
	// A process that has been, and is no more.
	ended := exec.CommandContext(t.Context(), "true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	pid := fmt.Sprintf("pid=%d ", os.Getpid())
	gone := strings.Replace(mine, pid, fmt.Sprintf("pid=%d ", ended.Process.Pid), 1)
	start := strings.Fields(mine)[3]
	if !strings.Contains(mine, pid) || !strings.HasPrefix(start, "start=") {
		t.Fatalf("no process in mark %q", mine)
	}
	for name, c := range map[string]struct {
		text        string
		mark, stale bool
	}{
		"empty":                        {"", false, false},
		"foreign":                      {"to the printer", false, false},
		"a guest's":                    {"virt-vnet guest=u1 mac= network=red", false, false},
		"cut off":                      {mine[:len(mine)/2], false, false},
		"mine":                         {mine, true, false},
		"ended":                        {gone, true, true},
		"pid used again":               {strings.Replace(mine, start, "start=1", 1), true, true},
		"in another process namespace": {gone + "x", true, false},
	} {
		if got := vantage.IsMark(c.text); got != c.mark {
			t.Errorf("%s: is a mark: %t, want %t", name, got, c.mark)
		}
		if got := vantage.Stale(c.text); got != c.stale {
			t.Errorf("%s: is stale: %t, want %t", name, got, c.stale)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for name := range vantage.Names() {
		if seen[name] || len(name)+1 > 15 {
			t.Fatalf("name %q: twice, or too long for a device and a letter", name)
		}
		seen[name] = true
	}
	if len(seen) < 100 {
		t.Errorf("only %d names", len(seen))
	}
	for one := range vantage.Names() {
		for other := range vantage.Names() {
			if one == other {
				t.Errorf("two ask at the same time, and both get %s", one)
			}
			break
		}
		break
	}
}
