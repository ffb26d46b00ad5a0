// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vm_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/vm"
)

func TestMain(m *testing.M) { lab.Main(m) }

// TestVerdict runs shell scripts in the place of test binaries.
func TestVerdict(t *testing.T) {
	lab.Need(t, lab.Guests)
	// By its path, as busybox's shell prefers an applet of the same name.
	const look = `uname -r; ip link add br0 type bridge vlan_filtering 1; bridge vlan show
/sbin/tc qdisc add dev br0 root tbf rate 1mbit burst 10k latency 1s || exit
nft add table bridge t && nft add chain bridge t c '{ type filter hook forward priority 0; }' &&
	nft add rule bridge t c meta ibrname br0 limit rate 1/second counter || exit`
	for _, tt := range []struct {
		name, first, second string
		shows               string
		err                 error
	}{
		{"one fails", "exit 3", "exit 0", "vm: first ended with status 3", vm.ErrFailed},
		{"no verdict", "echo going; poweroff -f", "exit 0", "going", vm.ErrFailed},
		{"pass", look, "[ $VIRT_VNET_VM$VIRT_VNET_REQUIRE_LAB = 11 ]", "br0  ", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var programs []string
			for name, script := range map[string]string{"first": tt.first, "second": tt.second} {
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
				programs = append(programs, path)
			}
			console, err := vm.Run(t.Context(), dir, programs...)
			if !errors.Is(err, tt.err) || !strings.Contains(console, tt.shows) {
				t.Errorf("got error %v, want %v, and want %q in the console:\n%s", err, tt.err, tt.shows, console)
			}
		})
	}
}

// TestHostFiles looks around in the machine with this one's files.
func TestHostFiles(t *testing.T) {
	lab.Need(t, lab.Guests)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	mine := filepath.Join("/var/lib", filepath.Base(filepath.Dir(dir)))
	for _, tt := range []struct {
		name, script string
		args         []string
		shows        string
		err          error
	}{
		{"working directory, arguments and environment", `echo "$VIRT_VNET_VM$VIRT_VNET_REQUIRE_LAB $(pwd) $*"`, []string{"a'b", `$c "d`}, "11 " + here + ` a'b $c "d`, nil},
		{"modules on demand", "ip link add br0 type bridge vlan_filtering 1 && bridge vlan show && nft list ruleset", nil, "1 PVID Egress Untagged", nil},
		{"changes stay inside", "uname -n; touch " + mine + " && ls " + mine, nil, mine, nil},
		{"its status", "exit 3", nil, "vm: sh ended with status 3", vm.ErrFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			console, err := vm.RunOnHostFiles(t.Context(), t.TempDir(), append([]string{"sh", "-c", tt.script, "sh"}, tt.args...)...)
			if !errors.Is(err, tt.err) || !strings.Contains(console, tt.shows) {
				t.Errorf("got error %v, want %v, and want %q in the console:\n%s", err, tt.err, tt.shows, console)
			}
		})
	}
	if _, err := os.Stat(mine); !os.IsNotExist(err) {
		t.Errorf("%s is there outside, %v", mine, err)
	}
}

// TestLimit checks that the end of the context is the end of the machine.
func TestLimit(t *testing.T) {
	lab.Need(t, lab.Guests)
	dir := t.TempDir()
	program := filepath.Join(dir, "sleep")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nsleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := vm.Run(ctx, dir, program); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, output string
		want         []*vm.Result
	}{
		{"nothing", "", nil},
		{"no test", "Kernel panic\n--- what is this\n=== x y z\nPASS\n", nil},
		{"end of an unknown test", "--- PASS: TestA (0.00s)\n", nil},
		{"did not end", "=== RUN   TestA\npanic: oh\n", []*vm.Result{{Name: "TestA", Output: "panic: oh\n"}}},
		{"cut line", "=== RUN   TestA\n--- PASS: Te", []*vm.Result{{Name: "TestA", Output: "--- PASS: Te"}}},
		{
			"each verdict",
			"=== RUN   TestA\n--- PASS: TestA (0.01s)\n=== RUN   TestB\n    b.go:1: no\n--- FAIL: TestB (1.00s)\n" +
				"=== RUN   TestC\n--- SKIP: TestC (0.00s)\nFAIL\n",
			[]*vm.Result{
				{Name: "TestA", Verdict: "PASS"},
				{Name: "TestB", Verdict: "FAIL", Output: "    b.go:1: no\n"},
				{Name: "TestC", Verdict: "SKIP"},
			},
		},
		{
			"sub-tests, one with a slash in its name",
			"=== RUN   TestA\n=== RUN   TestA/x\n=== RUN   TestA/y/z\n    one\n=== NAME  TestA/x\n    two\n" +
				"--- PASS: TestA (0.01s)\n    --- PASS: TestA/x (0.01s)\n    --- PASS: TestA/y/z (0.01s)\n",
			[]*vm.Result{{Name: "TestA", Verdict: "PASS", Subs: []*vm.Result{
				{Name: "TestA/x", Verdict: "PASS", Output: "    two\n"},
				{Name: "TestA/y/z", Verdict: "PASS", Output: "    one\n"},
			}}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, vm.Parse(tt.output)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
