// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Command virt-vnet defines networks for libvirt guests, wires their ports onto
// managed switches and verifies that they talk as they should.
//
// This package is the only place where concrete parts meet: the libvirt
// connection, the switch drivers, the hook and the checker. It has one file for
// each command.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr}, os.Args)
	stop()
	os.Exit(code)
}
