// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// running are the guests that run.
func running(guests []virtapi.Guest) []libvirtnet.Domain {
	var list []libvirtnet.Domain
	for _, g := range guests {
		if g.Active {
			list = append(list, g.Domain)
		}
	}
	return list
}

// stale are the stale ports of a switch, of which one that is not there has none.
func (s *site) stale(ctx context.Context, sw vnet.Switch, running []libvirtnet.Domain) ([]hooks.Stale, error) {
	if !s.local {
		return nil, nil
	}
	list, err := s.wirer.Stale(ctx, sw, running)
	if errors.Is(err, switchcfg.ErrNoSwitch) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("stale ports are not known: %w", err)
	}
	return list, nil
}

// staleFix says when and how the port can be removed.
func staleFix(p hooks.Stale) string {
	if p.Since.IsZero() {
		return "virt-vnet repair remembers it"
	}
	return fmt.Sprintf("known since %s: virt-vnet repair --prune", p.Since.Local().Format(time.DateTime))
}

// prune remembers the stale ports of the switches, removes those that an earlier
// run has seen if it is to, says so, and returns how much there was to say. Whose
// ports it could not look at is an error only if it is to remove them.
func (s *site) prune(ctx context.Context, std stdio, remove bool) (count int, err error) {
	listed := time.Now()
	guests, err := s.guests(ctx)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, sw := range s.topology.Switches {
		list, err := s.wirer.Prune(ctx, sw, running(guests), listed, remove)
		switch {
		case err == nil, errors.Is(err, switchcfg.ErrNoSwitch):
		case remove:
			errs = append(errs, err)
		default:
			count++
			warn(std, "stale ports are not known: %v", err)
		}
		for _, p := range list {
			count++
			fmt.Fprintf(std.out, "switch %s: %s: %s\n", sw.Name, p, pruned(p))
		}
	}
	return count, errors.Join(errs...)
}

// pruned says what became of a stale port.
func pruned(p hooks.Stale) string {
	switch {
	case p.Removed && p.Gone:
		return "removed"
	case p.Removed:
		return "released"
	case p.Since.IsZero():
		return "seen for the first time, so it stays: if it is still there, virt-vnet repair --prune removes it"
	}
	return staleFix(p)
}
