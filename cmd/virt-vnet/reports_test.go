// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/report"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// withReports runs do with the reports that the arguments ask for, and returns
// what went to standard output.
func withReports(t *testing.T, do func(*cli.Context, reports), args ...string) string {
	t.Helper()
	var out bytes.Buffer
	std := stdio{out: &out}
	app := &cli.App{Name: "virt-vnet", Writer: &out, Flags: append(globalFlags(), reportFlags()...), Action: func(c *cli.Context) error {
		opened, err := openReports(c, std)
		if err != nil {
			return err
		}
		defer opened.discard()
		do(c, opened)
		return nil
	}}
	if err := app.Run(append([]string{"virt-vnet"}, args...)); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func oneNIC() report.Result {
	return newResult(verify.Report{Version: verify.ReportVersion, Started: time.Now(), NICs: []verify.NICResult{
		{Endpoint: verify.Endpoint{Guest: "web1", Network: "red", MAC: vnet.MAC{0x52, 0x54}}, Status: verify.StatusPass},
	}}, nil)
}

// TestReportsInManyForms writes all that a nightly run wants, at once.
func TestReportsInManyForms(t *testing.T) {
	dir := t.TempDir()
	// A service's umask must not hide the metrics from who collects them.
	defer syscall.Umask(syscall.Umask(0o077))
	old := filepath.Join(dir, "vnet.prom")
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-o", "nagios", "--write", "prometheus=" + old}
	for _, form := range report.Formats() {
		args = append(args, "--write", form+"="+filepath.Join(dir, form))
	}
	out := withReports(t, func(_ *cli.Context, r reports) {
		if data, err := os.ReadFile(old); string(data) != "old" || err != nil {
			t.Errorf("%q, %v before the report is there; want the old one", data, err)
		}
		if err := r.write(oneNIC()); err != nil {
			t.Error(err)
		}
	}, args...)
	if !strings.HasPrefix(out, "VIRT-VNET OK - 1 of 1 NIC fine") {
		t.Errorf("standard output %q", out)
	}
	for name, want := range map[string]string{
		"vnet.prom": "virt_vnet_verify_success 1\n", "prometheus": `virt_vnet_nic_up{guest="web1",mac="52:54:00:00:00:00",network="red"} 1`,
		"table": "PASS  1 of 1 NIC", "json": `"verdict": "pass"`, "junit": `<testsuite name="run"`, "nagios": "VIRT-VNET OK - ",
	} {
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s: %v, has no %q:\n%s", name, err, want, data)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: mode %v, %v; want 0644", name, info.Mode(), err)
		}
	}
	entries, err := os.ReadDir(dir)
	if want := len(report.Formats()) + 1; err != nil || len(entries) != want {
		t.Errorf("%d files are left, %v; want %d", len(entries), err, want)
	}
}

// TestOutputFile leaves standard output alone.
func TestOutputFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	out := withReports(t, func(_ *cli.Context, r reports) {
		if err := r.write(oneNIC()); err != nil {
			t.Error(err)
		}
	}, "-o", "json", "--output-file", file)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var back report.Result
	if err := json.Unmarshal(data, &back); err != nil || back.Program != "virt-vnet "+version() || len(back.NICs) != 1 {
		t.Errorf("%v, %+v", err, back)
	}
	if out != "" {
		t.Errorf("standard output %q, want nothing", out)
	}
}

// TestReportsToNoFile writes devices and pipes as they are, and replaces none.
func TestReportsToNoFile(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan string)
	go func() {
		data, _ := os.ReadFile(pipe)
		read <- string(data)
	}()
	null := filepath.Join(t.TempDir(), "null")
	if err := os.Symlink("/dev/null", null); err != nil {
		t.Fatal(err)
	}
	withReports(t, func(_ *cli.Context, r reports) {
		if err := r.write(oneNIC()); err != nil {
			t.Error(err)
		}
	}, "--write", "nagios="+pipe, "--write", "json="+null)
	if got := <-read; !strings.HasPrefix(got, "VIRT-VNET OK") {
		t.Errorf("the pipe got %q", got)
	}
	for path, kind := range map[string]fs.FileMode{pipe: fs.ModeNamedPipe, null: fs.ModeSymlink} {
		if info, err := os.Lstat(path); err != nil || info.Mode().Type() != kind {
			t.Errorf("%s is %v now, %v", path, info.Mode(), err)
		}
	}
}

// TestReportsAllButTheFullDisk prints the verdict although a file cannot be
// written, and says so.
func TestReportsAllButTheFullDisk(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good")
	out := withReports(t, func(_ *cli.Context, r reports) {
		err := r.write(oneNIC())
		if !errors.Is(err, syscall.ENOSPC) || !strings.HasPrefix(err.Error(), "--write json=/dev/full: ") {
			t.Errorf("error %v", err)
		}
	}, "--write", "json=/dev/full", "--write", "junit="+good)
	if !strings.HasPrefix(out, "PASS") {
		t.Errorf("standard output %q", out)
	}
	if _, err := os.Stat(good); err != nil {
		t.Error(err)
	}
}

func TestVerdictError(t *testing.T) {
	for _, tt := range []struct {
		verdict       verify.Verdict
		table, nagios int
	}{
		{verify.VerdictPass, 0, 0},
		{verify.VerdictInconclusive, 6, 3},
		{verify.VerdictFail, 4, 2},
		{verify.VerdictLeak, 5, 2},
	} {
		for form, want := range map[string]int{"table": tt.table, "json": tt.table, "nagios": tt.nagios} {
			withReports(t, func(c *cli.Context, _ reports) {
				got := 0
				var exit *exitError
				if errors.As(verdictError(c, tt.verdict), &exit) {
					got = exit.code
				}
				if got != want {
					t.Errorf("-o %s, %s: exit code %d, want %d", form, tt.verdict, got, want)
				}
			}, "-o", form)
		}
	}
}

// TestWholeReport has runs that could not remove something of theirs, and one
// that could tell nothing.
func TestWholeReport(t *testing.T) {
	left := errors.New("remove macvlan vvs1.0:\noperation not permitted")
	var talk strings.Builder
	if err := whole(stdio{err: &talk}, failing(), left); err != nil || talk.String() != "virt-vnet: warning: remove macvlan vvs1.0: operation not permitted\n" {
		t.Errorf("with a report: error %v, talk %q", err, talk.String())
	}
	talk.Reset()
	if err := whole(stdio{err: &talk}, verify.Report{}, left); !errors.Is(err, left) || talk.Len() > 0 {
		t.Errorf("without a report: error %v, talk %q", err, talk.String())
	}
}
