// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// chainedSuffix is added to the name of the script that had our place before
// us. Libvirt before 6.5 runs a single program for each driver.
const chainedSuffix = ".virt-vnet-chained"

// runChained runs the script that we are chained before, if there is one, as
// libvirt would have: same arguments and stdin, its output is ours, and it may
// take as long as it likes. It returns its exit code. An error means that it
// could not run.
func runChained(ctx context.Context, env Env, ev Event) (exitCode int, err error) {
	if !slices.Contains(libvirtDrivers(), filepath.Base(env.Args[0])) {
		return 0, nil // in a directory of hooks, all of which libvirt runs
	}
	path := env.Args[0] + chainedSuffix
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return 0, nil // libvirt too ignores what is not executable
	}
	cmd := exec.CommandContext(ctx, path, env.Args[1:]...)
	cmd.Stdin = bytes.NewReader(ev.Payload)
	if len(ev.Payload) > maxPayload {
		cmd.Stdin = io.MultiReader(bytes.NewReader(ev.Payload), env.Stdin)
	}
	cmd.Stdout, cmd.Stderr = env.Stdout, env.Stderr
	err = cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil // killed by a signal is -1
	}
	if err != nil {
		return 1, fmt.Errorf("run %s: %w", path, err)
	}
	return 0, nil
}
