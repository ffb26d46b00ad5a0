// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"sync"

	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// insider is a [verify.Inside] by the guests' agents. It has a connection of its
// own, as agents that hang would keep everything else waiting, which it opens at
// the first question.
type insider struct {
	uri  string
	once sync.Once
	conn *virtapi.Conn
	err  error
}

// programDirs are where guests may have their programs.
func programDirs() []string { return []string{"/sbin/", "/usr/sbin/", "/bin/", "/usr/bin/"} }

func (in *insider) open(ctx context.Context) (*virtapi.Conn, error) {
	in.once.Do(func() { in.conn, in.err = virtapi.Open(ctx, in.uri) })
	return in.conn, in.err
}

func (in *insider) close() {
	if in.conn != nil {
		_ = in.conn.Close() // nothing was changed
	}
}

// Interfaces implements [verify.Inside].
func (in *insider) Interfaces(ctx context.Context, guest vnet.GuestRef) ([]verify.GuestInterface, error) {
	conn, err := in.open(ctx)
	if err != nil {
		return nil, err
	}
	list, err := conn.GuestInterfaces(ctx, guest.Name)
	out := make([]verify.GuestInterface, len(list))
	for i, iface := range list {
		out[i] = verify.GuestInterface(iface)
	}
	return out, sameForAll(err)
}

// Exec implements [verify.Inside].
func (in *insider) Exec(ctx context.Context, guest vnet.GuestRef, program string, args ...string) (string, error) {
	conn, err := in.open(ctx)
	if err != nil {
		return "", err
	}
	var out string
	for _, dir := range programDirs() {
		out, err = conn.GuestExec(ctx, guest.Name, dir+program, args...)
		if !errors.Is(err, virtapi.ErrNoProgram) {
			break
		}
	}
	return out, sameForAll(err)
}

// sameForAll is the error without the guest's name where guests have it in
// common, so that it is said once.
func sameForAll(err error) error {
	switch {
	case errors.Is(err, virtapi.ErrNoAgent):
		return errors.New("no agent answers (package qemu-guest-agent, and its channel in the domain XML)")
	case errors.Is(err, virtapi.ErrAgentRefuses):
		return errors.New("the agent is set not to run commands (guest-exec)")
	case errors.Is(err, virtapi.ErrNoProgram):
		return errors.New("the program to ask with is not installed there")
	}
	return err
}
