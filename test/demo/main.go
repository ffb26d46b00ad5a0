// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Command demo shows the main job of virt-vnet on real guests: a spec becomes
// networks, the hook wires the guests' ports, verify proves who can talk, two
// faults are found and named, and repaired. It runs in a lab of its own and
// leaves nothing behind but the last report as a page. Run it with make demo, or
// with make demo DEMO=ovn for one network of OVN on two hosts.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/test/stage"
)

// limit bounds the whole demo.
const limit = 5 * time.Minute

// page is where the last report stays.
const page = "bin/demo-report.html"

func main() {
	_ = os.Remove(page) // of an earlier demo, if there was one
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, limit)
	inside, code, err := lab.Enter(ctx)
	switch {
	case err != nil:
	case inside:
		tell := show
		if os.Getenv("DEMO") == "ovn" {
			tell = showOVN
		}
		err = tell(ctx)
	case code == 0 && os.Getpid() != 1: // the lab's first process comes by here, too
		err = sayPage(os.Stdout)
	}
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// sayPage ends the demo with the path of the report. It is called outside the
// lab, whose file systems are partly its own, so that the file really is there.
func sayPage(w io.Writer) error {
	path, err := filepath.Abs(page)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("the report has not come out of the lab: %w", err)
	}
	fmt.Fprintf(w, "\nThe last report, to be opened in a browser:\n%s\n", path)
	return nil
}

// show builds the host and plays the story on it.
func show(ctx context.Context) (err error) {
	const specFile = "examples/first-light/spec.yaml"
	spec, err := config.Load(specFile)
	if err != nil {
		return err
	}
	if err := os.Remove(page); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s := newStory()
	s.say("virt-vnet: one spec, three real guests, wired by the hook and proved",
		"This runs on a private host of its own: a real libvirtd, a real Open vSwitch and real QEMU guests, in",
		"namespaces that vanish in the end. Every command is one you would type on your own hypervisor.")

	done := s.wait("starting libvirtd and Open vSwitch, making the bridges and routers that the spec names")
	l, err := lab.Start(ctx, lab.Options{Libvirt: true, OVS: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close(ctx)) }()
	if err := stage.Build(ctx, l, spec.Topology); err != nil {
		return err
	}
	done()
	return s.play(ctx, l, spec, specFile)
}
