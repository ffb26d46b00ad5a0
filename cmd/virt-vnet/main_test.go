// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/virt-vnet/virt-vnet/internal/golden"
	"github.com/virt-vnet/virt-vnet/internal/report"
	"github.com/virt-vnet/virt-vnet/verify"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"virt-vnet": main})
}

// TestScripts runs every testdata/script/*.txtar: commands, their output and
// their exit codes, as a user has them. They use libvirt's test driver and need
// no privilege.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") == "1",
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup: func(env *testscript.Env) error {
			// Sockets that are not there: no script may reach a real daemon.
			env.Setenv("LIBVIRT_DEFAULT_URI", "test:///default")
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
	})
}

// exits runs a command and wants a certain exit code: exits CODE COMMAND...
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("exits: %v", err)
	}
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		found := regexp.MustCompile(`exit status (\d+)`).FindStringSubmatch(err.Error())
		if found == nil {
			ts.Fatalf("%v", err)
		}
		got, _ = strconv.Atoi(found[1])
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// TestCLIPage makes docs/cli.md from the commands.
func TestCLIPage(t *testing.T) {
	app := newApp(stdio{})
	app.Version = ""
	page, err := app.ToMarkdown()
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "../../docs/cli.md", page)
}

// TestExitCodesPage holds docs/exit-codes.md against the code.
func TestExitCodesPage(t *testing.T) {
	data, err := os.ReadFile("../../docs/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(string(data), -1) {
		listed = append(listed, m[1])
	}
	var known []string
	for _, code := range []int{exitOK, exitFailed, exitUsage, exitPending, exitCheckFailed, exitLeak, exitInconclusive} {
		known = append(known, fmt.Sprint(code))
	}
	if !slices.Equal(listed, known) {
		t.Errorf("docs/exit-codes.md lists %v, the code has %v", listed, known)
	}
	for _, v := range []verify.Verdict{verify.VerdictPass, verify.VerdictFail, verify.VerdictInconclusive} {
		state := report.NagiosStateOf(v)
		if row := fmt.Sprintf("| %s | %d |", state, state); !strings.Contains(string(data), row) {
			t.Errorf("docs/exit-codes.md has no row %q", row)
		}
	}
}
