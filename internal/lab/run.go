// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// pollEvery is the pause between two looks at something that is under way.
const pollEvery = 20 * time.Millisecond

// run executes a program and returns what it printed. The error carries it too.
func run(ctx context.Context, argv ...string) (string, error) {
	path, err := program(argv[0])
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, text)
	}
	return text, nil
}

// poll calls ready until it returns nil, giving up when ctx ends; the error
// then names what ready last had to say.
func poll(ctx context.Context, ready func(context.Context) error) error {
	var last error
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err // otherwise it is probably the end of ctx in other words
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", ctx.Err(), last)
		case <-time.After(patient(pollEvery)):
		}
	}
}
