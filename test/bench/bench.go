// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/state"
)

//go:embed peers/*.sh
var scripts embed.FS

// builtHook is where make build puts the hook program.
const builtHook = "bin/virt-vnet-hook"

// bench is the host that everything is measured on. Its switches are made by
// the first group that needs them.
type bench struct {
	lab   *lab.Lab
	store state.Store
	// hook, noop and the scripts are programs in a tmpfs, the hook under the
	// name that libvirt calls it by.
	hook, noop string
	scriptDir  string
	// linuxReady and ovsReady are set when those switches and ports exist.
	linuxReady, ovsReady bool
	// segment is nil until a group needs it.
	segment *segment
}

// newBench starts an empty lab and puts the programs in place.
func newBench(ctx context.Context) (b *bench, err error) {
	const programs = "/run/bench"
	b = &bench{
		store: state.Store{StateDir: state.DefaultStateDir, RunDir: state.DefaultRunDir},
		hook:  "/etc/libvirt/hooks/qemu.d/virt-vnet", noop: programs + "/noop", scriptDir: programs,
	}
	if b.lab, err = lab.Start(ctx, lab.Options{}); err != nil {
		return nil, err
	}
	if err := errors.Join(b.install(), b.build(ctx)); err != nil {
		return nil, errors.Join(err, b.close(ctx))
	}
	return b, nil
}

func (b *bench) close(ctx context.Context) error {
	if b.segment != nil {
		return errors.Join(b.segment.close(), b.lab.Close(ctx))
	}
	return b.lab.Close(ctx)
}

// install copies the hook and the scripts.
func (b *bench) install() error {
	program, err := os.ReadFile(builtHook)
	if err != nil {
		return fmt.Errorf("%w: build it with: make build", err)
	}
	if err := writeProgram(b.hook, program); err != nil {
		return err
	}
	entries, err := scripts.ReadDir("peers")
	if err != nil {
		return err
	}
	for _, e := range entries {
		program, err := scripts.ReadFile("peers/" + e.Name())
		if err != nil {
			return err
		}
		if err := writeProgram(b.script(e.Name()), program); err != nil {
			return err
		}
	}
	return nil
}

// script is the path of a peer.
func (b *bench) script(name string) string { return filepath.Join(b.scriptDir, name) }

func writeProgram(path string, program []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, program, 0o755)
}

// build makes the program that does nothing, as the hook is made.
func (b *bench) build(ctx context.Context) error {
	return static(ctx, "./test/bench/peers/noop", b.noop)
}

// static builds a program of this repository that needs nothing beside it.
func static(ctx context.Context, pkg, path string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, bytes.TrimSpace(out))
	}
	return nil
}

// tool runs a program that is part of no measurement, with lines on its
// standard input, and returns what it printed.
func tool(ctx context.Context, lines []string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}
