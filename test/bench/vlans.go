// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/vm"
)

// vlans measures looking at ports with VLANs, of which this machine's kernel
// need not know anything: on Debian's kernel, in an emulated machine. There
// everything takes many times as long, the kernel's part and ours alike.
func vlans(ctx context.Context, _ *bench) (m medians, err error) {
	dir, err := os.MkdirTemp("", "bench-vlans-")
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := filepath.Join(dir, "vlanobserve")
	if err := static(ctx, "./test/bench/vlanobserve", program); err != nil {
		return m, err
	}
	console, err := vm.Run(ctx, dir, program)
	if err != nil {
		return m, fmt.Errorf("%w: %s", err, lastLines(console, 10))
	}
	return parseVLANs(console)
}

// parseVLANs finds in what the console showed the line that vlanobserve prints.
func parseVLANs(console string) (medians, error) {
	for line := range strings.Lines(console) {
		var found struct{ ObserveNs, DumpNs []time.Duration }
		if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &found) != nil {
			continue // the kernel's, or the other programs'
		}
		if len(found.ObserveNs) == 0 || len(found.ObserveNs) != len(found.DumpNs) {
			return medians{}, fmt.Errorf("%d and %d rounds: %s", len(found.ObserveNs), len(found.DumpNs), line)
		}
		return medians{rounds: len(found.ObserveNs), of: map[string]time.Duration{
			"observe": median(found.ObserveNs), "dump": median(found.DumpNs),
		}}, nil
	}
	return medians{}, fmt.Errorf("the machine printed no figures: %s", lastLines(console, 10))
}

// lastLines is the end of a text.
func lastLines(text string, count int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}
