// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package leftovers_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

// startUntil starts the command and returns when it has printed the line. The
// reader gives what it prints afterwards.
func startUntil(t *testing.T, cmd *exec.Cmd, line string) *bufio.Reader {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	for {
		got, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("before %q: %v", line, err)
		}
		if strings.TrimSpace(got) == line {
			return r
		}
		t.Logf("it says: %s", got)
	}
}

func TestKilledLabLeavesNothing(t *testing.T) {
	need(t)
	before := traces(t)
	cmd := scenario(t, "guest")
	startUntil(t, cmd, "running")
	first := labOf(t, cmd.Process.Pid)

	// The control: the look that must find nothing later finds all of it now.
	running := members(t, first)
	for _, want := range []string{"qemu-system-x86", "libvirtd", "ovs-vswitchd", "ovsdb-server"} {
		if !slices.Contains(running, want) {
			t.Fatalf("in the lab: got %v, want %s among them", running, want)
		}
	}
	if diff := cmp.Diff(before, traces(t), ignoreTaps()); diff != "" {
		t.Errorf("a running lab shows outside (-before +now):\n%s", diff)
	}
	cable := plugInto(t, first.pid)
	if !cable.exists(t) {
		t.Fatal("no link into the lab's network namespace")
	}

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	// The kernel takes network namespaces down in the background.
	deadline := time.Now().Add(10 * time.Second)
	for (len(members(t, first)) > 0 || cable.exists(t)) && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	if left := members(t, first); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
	if cable.exists(t) {
		t.Error("the network namespace is left")
	}
	if diff := cmp.Diff(before, traces(t), ignoreTaps()); diff != "" {
		t.Errorf("a killed lab leaves something (-before +now):\n%s", diff)
	}
}

// ignoreTaps leaves /dev/tapN out: the kernel makes one for each macvtap in the
// machine's only devtmpfs, whichever namespace the link is in, and takes it
// away with the link. Other tests' labs have some too.
func ignoreTaps() cmp.Option {
	return cmpopts.IgnoreSliceElements(func(path string) bool { return strings.HasPrefix(path, "/dev/tap") })
}

func TestSignalArrivesOnce(t *testing.T) {
	need(t)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := scenario(t, "wait")
		out := startUntil(t, cmd, "running")
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(out)
		if err := errors.Join(err, cmd.Wait()); err != nil {
			t.Errorf("%v: %v: %s", s, err, rest)
		}
	}
}

func TestExitStatus(t *testing.T) {
	need(t)
	out, err := scenario(t, "fail").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 42 || string(out) != "as told\n" {
		t.Errorf("got %q, %v, want status 42", out, err)
	}
}

func TestWithoutPrivilege(t *testing.T) {
	need(t)
	cmd := scenario(t, "fail")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 99 || !strings.Contains(string(out), "needs root, runs as uid 65534") {
		t.Errorf("got %q, %v, want status 99 and the reason", out, err)
	}
}

func TestLabsSideBySide(t *testing.T) {
	need(t)
	before := traces(t)
	results := make(chan error, 2)
	for range 2 {
		cmd := scenario(t, "ping")
		go func() {
			out, err := cmd.CombinedOutput()
			if err != nil {
				err = errors.Join(err, errors.New(string(out)))
			}
			results <- err
		}()
	}
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(before, traces(t), ignoreTaps()); diff != "" {
		t.Errorf("left behind (-before +now):\n%s", diff)
	}
}

func TestNeedOutsideSkips(t *testing.T) {
	tb := &verdict{}
	lab.Need(tb)
	required := os.Getenv(lab.RequireEnv) == "1"
	if tb.skipped == required || tb.failed != required {
		t.Errorf("got %+v with %s=%q", tb, lab.RequireEnv, os.Getenv(lab.RequireEnv))
	}
}

// verdict stands in for a testing.T.
type verdict struct{ skipped, failed bool }

func (*verdict) Helper()        {}
func (v *verdict) Skip(...any)  { v.skipped = true }
func (v *verdict) Fatal(...any) { v.failed = true }
