// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
)

func main() { os.Exit(run(context.Background())) }

// run has fixed directories: libvirt empties the environment of its hooks.
func run(ctx context.Context) int {
	if len(os.Args) == 2 && os.Args[1] == "-version" {
		_, _ = fmt.Fprintln(os.Stdout, version())
		return 0
	}
	// A collection would cost more than all the memory of one short run.
	debug.SetGCPercent(-1)
	log := slog.New(newSyslog("/dev/log"))
	store := state.Store{StateDir: state.DefaultStateDir, RunDir: state.DefaultRunDir}
	wirer := &hooks.Wirer{Store: store, Open: drivers.Open, StartUnit: hooks.StartUnit, Log: log, Now: now}
	return hooks.Main(ctx, hooks.Env{
		Args:   os.Args,
		Stdin:  os.Stdin,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		Now:    now,
		Log:    log,
		Record: store.PutRun,
	}, wirer.Handler())
}

// now spares the process the reading of the local time zone.
func now() time.Time { return time.Now().UTC() }

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "virt-vnet-hook"
	}
	return "virt-vnet-hook " + info.Main.Version
}
