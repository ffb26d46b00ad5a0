// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
)

const (
	uuid1 = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
	uuid2 = "4dea22b3-1d52-d8f3-2516-782e98ab3fa1"

	domainXML  = `<domain type='qemu'><name>g1</name><uuid>` + uuid1 + `</uuid></domain>`
	networkXML = `<hookData><network><name>red</name></network><networkport><uuid>` + uuid2 + `</uuid>` +
		`<owner><name>g1</name><uuid>` + uuid1 + `</uuid></owner><group>web</group><mac address='52:54:00:00:00:01'/>` +
		`<plug type='bridge' bridge='br0'/></networkport></hookData>`
)

// called is one call of the hook without a process.
type called struct {
	code           int
	stdout, stderr string
	log            string
	runs           []state.Run
	reached        []string // the handler functions, with the guest
}

// call runs the hook as libvirt does. Each handler function does f.
func call(t *testing.T, driver, operation, stdin string, f func(context.Context) error) called {
	t.Helper()
	var c called
	var mu sync.Mutex // a handler that hangs is left behind
	var reached []string
	handle := func(name string) func(context.Context, libvirtnet.Domain) error {
		return func(ctx context.Context, dom libvirtnet.Domain) error {
			mu.Lock()
			reached = append(reached, name+" "+dom.Name)
			mu.Unlock()
			return f(ctx)
		}
	}
	h := hooks.Handler{
		Prepare: handle("prepare"), Start: handle("start"), Started: handle("started"),
		Stopped: handle("stopped"), Reconnect: handle("reconnect"), PortCreated: handle("port-created"),
		Network: func(ctx context.Context, n libvirtnet.HookNetwork) error {
			return handle("network")(ctx, libvirtnet.Domain{Name: n.Name})
		},
	}
	var stdout, stderr, log bytes.Buffer
	c.code = hooks.Main(t.Context(), hooks.Env{
		Args:   []string{"/etc/libvirt/hooks/" + driver + ".d/virt-vnet", "g1", operation, "begin", "-"},
		Stdin:  strings.NewReader(stdin),
		Stdout: &stdout,
		Stderr: &stderr,
		Now:    time.Now,
		Log:    slog.New(slog.NewTextHandler(&log, nil)),
		Limit:  100 * time.Millisecond,
		Record: func(r state.Run) error {
			c.runs = append(c.runs, r)
			return nil
		},
	}, h)
	mu.Lock()
	defer mu.Unlock()
	c.reached = reached
	c.stdout, c.stderr, c.log = stdout.String(), stderr.String(), log.String()
	return c
}

func payload(driver string) string {
	if driver == "network" {
		return networkXML
	}
	return domainXML
}

var errBroken = errors.New("network red: switch ovs0: OVSDB does not answer\nstart it")

// Every way to fail, at every operation: only those of the table that refuse do.
func TestMainFailures(t *testing.T) {
	const refuses = "prepare start port-created plugged"
	ways := map[string]struct {
		stdin string // empty: the right one
		f     func(context.Context) error
	}{
		"error":     {"", func(context.Context) error { return errBroken }},
		"panic":     {"", func(context.Context) error { panic("boom") }},
		"hangs":     {"", func(context.Context) error { select {} }},
		"deadline":  {"", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
		"truncated": {domainXML[:40], func(context.Context) error { return nil }},
		"no XML":    {"hello", func(context.Context) error { return nil }},
		"blank":     {" ", func(context.Context) error { return nil }},
		"10 MB":     {"<domain>" + strings.Repeat(" ", 10_000_000), func(context.Context) error { return nil }},
	}
	for _, op := range hooks.Operations() {
		for way, tc := range ways {
			t.Run(op.Driver+" "+op.Name+" "+way, func(t *testing.T) {
				if tc.stdin == "" {
					tc.stdin = payload(op.Driver)
				}
				c := call(t, op.Driver, op.Name, tc.stdin, tc.f)
				refused := slices.Contains(strings.Fields(refuses), op.Name)
				if refused != (op.OnFailure == hooks.Refuse) {
					t.Errorf("the table says %v", op.OnFailure)
				}
				checkFailure(t, c, refused)
				idle := op.Name == "migrate" || op.Name == "restore"
				if !idle && c.runs[0].Error == "" {
					t.Errorf("run %+v, want an error", c.runs[0])
				}
			})
		}
	}
}

func checkFailure(t *testing.T, c called, refused bool) {
	t.Helper()
	if c.stdout != "" {
		t.Errorf("stdout %q, want none: libvirt takes it for XML", c.stdout)
	}
	if len(c.runs) != 1 || (c.runs[0].Result == state.ResultRefused) != refused {
		t.Errorf("runs %+v, want one that says whether it was refused", c.runs)
	}
	if !refused {
		if c.code != 0 || c.stderr != "" {
			t.Errorf("exit code %d, stderr %q, want 0 and nothing", c.code, c.stderr)
		}
		return
	}
	if c.code == 0 || !strings.HasPrefix(c.stderr, "virt-vnet: refused to ") || strings.Count(c.stderr, "\n") != 1 {
		t.Errorf("exit code %d, stderr %q, want a refusal on one line", c.code, c.stderr)
	}
}

func TestMainRefusalLine(t *testing.T) {
	c := call(t, "qemu", "start", domainXML, func(context.Context) error { return errBroken })
	want := "virt-vnet: refused to start guest g1: network red: switch ovs0: OVSDB does not answer; start it\n"
	if c.stderr != want {
		t.Errorf("stderr %q, want %q", c.stderr, want)
	}
	if !strings.Contains(c.log, "hook refused") {
		t.Errorf("log %q, want the refusal", c.log)
	}
}

// A handler that runs into its deadline has time left to undo.
func TestMainReservesTimeToUndo(t *testing.T) {
	c := call(t, "qemu", "start", domainXML, func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(10 * time.Millisecond)
		return errBroken
	})
	if !strings.Contains(c.stderr, "OVSDB") {
		t.Errorf("stderr %q, want the handler's own error", c.stderr)
	}
}

// A failure that the network's policy lets pass refuses nothing.
func TestMainWarning(t *testing.T) {
	c := call(t, "qemu", "start", domainXML, func(context.Context) error {
		return fmt.Errorf("%w", &hooks.Warning{Err: errBroken})
	})
	checkFailure(t, c, false)
	if c.runs[0].Result != state.ResultWarned || !strings.Contains(c.log, "OVSDB") {
		t.Errorf("run %+v, log %q, want the warning in both", c.runs[0], c.log)
	}
}

func TestMainReachesHandler(t *testing.T) {
	for _, tc := range []struct{ driver, operation, want string }{
		{"qemu", "frobnicate", ""},
		{"qemu", "attach", ""},
		{"qemu", "migrate", ""},
		{"qemu", "restore", ""},
		{"lxc", "start", ""},
		{"daemon", "shutdown", ""},
		{"network", "start", ""},
		{"network", "port-deleted", ""},
		{"network", "updated", ""},
		{"qemu", "prepare", "prepare g1"},
		{"qemu", "start", "start g1"},
		{"qemu", "started", "started g1"},
		{"qemu", "stopped", "stopped g1"},
		{"qemu", "release", "stopped g1"},
		{"qemu", "reconnect", "reconnect g1"},
		{"network", "started", "network red"},
		{"network", "port-created", "network red,port-created g1"},
		{"network", "plugged", "network red,port-created g1"},
	} {
		c := call(t, tc.driver, tc.operation, payload(tc.driver), func(context.Context) error { return nil })
		if got := strings.Join(c.reached, ","); got != tc.want {
			t.Errorf("%s %s reached %q, want %q", tc.driver, tc.operation, got, tc.want)
		}
		if c.code != 0 || c.stdout != "" || c.stderr != "" {
			t.Errorf("%s %s: exit code %d, stdout %q, stderr %q", tc.driver, tc.operation, c.code, c.stdout, c.stderr)
		}
		if len(c.runs) != 1 || c.runs[0].Result != state.ResultOK || c.runs[0].Operation != tc.operation {
			t.Errorf("%s %s: runs %+v, want one", tc.driver, tc.operation, c.runs)
		}
	}
}

// Called by anybody but libvirt, the hook says so and stops nothing.
func TestMainGarbageArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"x"}, {"/bin/virt-vnet-hook", "-h"}, {"/x/qemu", "\x00", "\xff"}} {
		var stderr bytes.Buffer
		code := hooks.Main(t.Context(), hooks.Env{
			Args: args, Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: &stderr, Now: time.Now,
			Record: func(r state.Run) error { t.Errorf("recorded %+v", r); return nil },
		}, hooks.Handler{})
		if code != 0 || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%q: exit code %d, stderr %q, want 0 and one line", args, code, stderr.String())
		}
	}
}

// The script we are chained before runs as libvirt would run it.
func TestMainChained(t *testing.T) {
	for name, tc := range map[string]struct {
		script    string
		mode      os.FileMode
		operation string
		want      called
	}{
		"refuses":        {"cat >/dev/null; echo no >&2; exit 3", 0o755, "start", called{code: 3, stderr: "no\n", reached: []string{"start g1"}}},
		"killed":         {"kill -9 $$", 0o755, "start", called{code: 1, reached: []string{"start g1"}}},
		"fails, stopped": {"exit 4", 0o755, "stopped", called{code: 4, reached: []string{"stopped g1"}}},
		"not executable": {"exit 3", 0o644, "start", called{reached: []string{"start g1"}}},
		"filters":        {"sed s/g1/g2/", 0o755, "migrate", called{stdout: strings.ReplaceAll(domainXML, "g1", "g2")}},
		"sees arguments": {`cat >/dev/null; echo "$# $*" >&2`, 0o755, "release", called{
			stderr: "4 g1 release begin -\n", reached: []string{"stopped g1"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "qemu")
			script := []byte("#!/bin/sh\n" + tc.script + "\n")
			if err := os.WriteFile(program+".virt-vnet-chained", script, tc.mode); err != nil {
				t.Fatal(err)
			}
			var reached []string
			handle := func(op string) func(context.Context, libvirtnet.Domain) error {
				return func(context.Context, libvirtnet.Domain) error {
					reached = append(reached, op+" g1")
					return nil
				}
			}
			var stdout, stderr bytes.Buffer
			code := hooks.Main(t.Context(), hooks.Env{
				Args:  []string{program, "g1", tc.operation, "begin", "-"},
				Stdin: strings.NewReader(domainXML), Stdout: &stdout, Stderr: &stderr, Now: time.Now,
			}, hooks.Handler{Start: handle("start"), Stopped: handle("stopped")})
			if code != tc.want.code || stdout.String() != tc.want.stdout || stderr.String() != tc.want.stderr ||
				!slices.Equal(reached, tc.want.reached) {
				t.Errorf("code %d, stdout %q, stderr %q, reached %q; want %+v",
					code, stdout.String(), stderr.String(), reached, tc.want)
			}
		})
	}
}

// A document beyond our limit reaches a chained script whole.
func TestMainChainedLargeInput(t *testing.T) {
	program := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(program+".virt-vnet-chained", []byte("#!/bin/sh\nwc -c\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	code := hooks.Main(t.Context(), hooks.Env{
		Args:  []string{program, "g1", "migrate", "begin", "-"},
		Stdin: strings.NewReader(strings.Repeat("x", 10_000_000)), Stdout: &stdout, Stderr: &stderr, Now: time.Now,
	}, hooks.Handler{})
	if code != 0 || strings.TrimSpace(stdout.String()) != "10000000" {
		t.Errorf("code %d, stdout %q, stderr %q, want 10000000 bytes to have arrived", code, stdout.String(), stderr.String())
	}
}
