// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/internal/state"
)

// startedUnits has the site note the units that are started.
func (s *site) startedUnits(err error) *[]string {
	var units []string
	s.StartUnit = func(ctx context.Context, template, instance string) error {
		deadline, ok := ctx.Deadline()
		if left := time.Until(deadline); !ok || left > 500*time.Millisecond {
			err = errors.Join(err, errors.New("no deadline of half a second"))
		}
		units = append(units, template+" "+instance)
		return err
	}
	return &units
}

// Guests are checked after their start when the user wants it, and those of ours
// only.
func TestStartedChecks(t *testing.T) {
	s := newSite(t)
	s.plug(map[string]string{"vnet0": "br0"})
	dom := guestWith(nic(1, "lan", "vnet0"))
	dom.Name = "a b-c"
	if err := s.Wire(t.Context(), dom); err != nil {
		t.Fatal(err)
	}
	units := s.startedUnits(nil)
	start := func(want int) {
		t.Helper()
		if err := s.Started(t.Context(), dom); err != nil || len(*units) != want {
			t.Errorf("started %q, %v, want %d", *units, err, want)
		}
	}
	start(0)
	for _, on := range []bool{true, false} {
		if err := s.Store.PutHookSettings(state.HookSettings{VerifyOnStart: on}); err != nil {
			t.Fatal(err)
		}
		start(1)
	}
	if want := "virt-vnet-verify@.service a b-c"; (*units)[0] != want {
		t.Errorf("started %s, want %s", (*units)[0], want)
	}
	if err := s.Store.PutHookSettings(state.HookSettings{VerifyOnStart: true}); err != nil {
		t.Fatal(err)
	}
	other := guestWith(nic(2, "foreign", "vnet1"))
	other.UUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa1"
	if err := s.Started(t.Context(), other); err != nil || len(*units) != 1 {
		t.Errorf("a guest that is not ours: started %q, %v", *units, err)
	}
	s.startedUnits(errors.New("no systemd"))
	if err := s.Started(t.Context(), dom); err == nil || !strings.Contains(err.Error(), "not checked: no systemd") {
		t.Errorf("error %v", err)
	}
	if record, err := s.Store.Guest(uuid1); err != nil || record.Started.IsZero() {
		t.Errorf("without a check the start is not noted: %+v, %v", record, err)
	}
}

// Install remembers the wish, an install without one keeps it, and uninstall
// forgets it.
func TestVerifyOnStartIsKept(t *testing.T) {
	dir := t.TempDir()
	o := hooks.Options{
		HooksDir: filepath.Join(dir, "hooks"), Binary: hookProgram(t), Root: dir,
		Store: state.Store{StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run")},
	}
	check := func(wish *bool, want bool, unit string) {
		t.Helper()
		o.VerifyOnStart = wish
		if _, err := hooks.Install(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		status, err := hooks.GetStatus(o)
		if err != nil || status.VerifyOnStart != want || status.CheckUnit != unit {
			t.Errorf("status %+v, %v, want %v, %q", status, err, want, unit)
		}
	}
	yes, no := true, false
	check(nil, false, "")
	check(&yes, true, "")
	unit := filepath.Join(dir, "/usr/local/lib/systemd/system", hooks.CheckUnit)
	if err := errors.Join(os.MkdirAll(filepath.Dir(unit), 0o755), os.WriteFile(unit, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	check(nil, true, unit)
	check(&no, false, unit)
	check(&yes, true, unit)
	if _, err := hooks.Uninstall(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Store.HookSettings(); err == nil {
		t.Error("the setting outlives the hook")
	}
}

// startEnv makes the test binary start an instance of a unit, print what came of
// it, and do nothing else: a process that systemd sees.
const startEnv = "VIRT_VNET_TEST_START"

func startUnit(spec string) {
	template, instance, _ := strings.Cut(spec, " ")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	began := time.Now()
	err := hooks.StartUnit(ctx, template, instance)
	_, _ = fmt.Fprintln(os.Stdout, "result:", err, "in a second:", time.Since(began) < time.Second)
}

// A real systemd runs what the hook asks for, with the name of the guest, and as
// no child of the hook.
func TestStartUnit(t *testing.T) {
	lab.Need(t, lab.Libvirt)
	l := labtest.Start(t, lab.Options{})
	if err := hooks.StartUnit(t.Context(), hooks.CheckUnit, "a"); err == nil || !strings.Contains(err.Error(), "systemd does not run here") {
		t.Errorf("without systemd: %v", err)
	}
	if err := l.StartSystemd(t.Context()); err != nil {
		t.Fatal(err)
	}
	start := func(template, instance, want string) {
		t.Helper()
		argv := l.BesideSystemd(os.Args[0])
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), startEnv+"="+template+" "+instance)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("start %s %s: %v: %s, want %q", template, instance, err, out, want)
		}
	}
	const out = "/run/started" // the lab's own
	// The parent is systemd, and the colon leaves a dollar alone.
	const unit = "[Service]\nType=oneshot\nExecStart=:/bin/sh /run/say %I\n"
	const say = `[ "$1" != web1 ] || sleep 1.5; echo "$PPID <$1>" >` + out
	if err := errors.Join(os.WriteFile("/run/say", []byte(say), 0o644),
		os.WriteFile(filepath.Join(lab.UnitDir, hooks.CheckUnit), []byte(unit), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web1", "a b-c", "a/b", ".x", "-x", `50%I "$HOME" ${HOME} \`, "größe", "%i"} {
		_ = os.Remove(out)
		start(hooks.CheckUnit, name, "result: <nil> in a second: true")
		if got, want := waitFor(t, out), "1 <"+name+">\n"; got != want {
			t.Errorf("the unit for %q said %q, want %q", name, got, want)
		}
	}
	start("nosuch@.service", "a", "Unit nosuch@a.service not found")
	if err := l.Systemd().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := hooks.StartUnit(t.Context(), hooks.CheckUnit, "a"); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("with a systemd that is gone: %v", err)
	}
}

// waitFor returns the text of a file as soon as it is there.
func waitFor(t *testing.T, path string) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if text, err := os.ReadFile(path); err == nil && bytes.HasSuffix(text, []byte("\n")) {
			return string(text)
		}
	}
	t.Fatalf("%s never came", path)
	return ""
}
