// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// putGuestSpecs writes what the spec says of its guests to where the hook finds
// it. With all, the spec is that of the whole host, and records of other guests
// are void.
func (s *site) putGuestSpecs(ctx context.Context, std stdio, all bool) error {
	if !s.local {
		return s.carryGuests(ctx, std, all)
	}
	for _, g := range s.topology.Guests {
		if !s.guestSpecDiffers(g) {
			continue
		}
		if err := s.store.PutGuestSpec(state.GuestSpec{Guest: g}); err != nil {
			return err
		}
	}
	if !all {
		return nil
	}
	known, err := s.store.GuestSpecs()
	if err != nil && !errors.Is(err, state.ErrDamaged) {
		return err
	}
	for _, g := range known {
		if _, ok := s.topology.Guest(g.Guest.Name); !ok {
			if err := s.store.RemoveGuestSpec(g.Guest.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// carryGuests has the guests of another machine carry what the spec says of
// them, for the hook there.
func (s *site) carryGuests(ctx context.Context, std stdio, all bool) error {
	records := map[string]string{}
	for _, g := range s.topology.Guests {
		record, err := hooks.CarryGuest(g)
		if err != nil {
			return fmt.Errorf("guest %s: %w", g.Name, err)
		}
		records[g.Name] = record
	}
	changed, err := s.conn.EnsureGuestRecords(ctx, func(name string) (string, bool) {
		record, known := records[name]
		return record, known || all
	})
	for _, name := range changed {
		fmt.Fprintf(std.out, "guest %s: what its hook knows of the spec updated\n", name)
	}
	return err
}

// guestSpecDiffers reports whether the hook knows something else of the guest
// than the spec says.
func (s *site) guestSpecDiffers(g vnet.Guest) bool {
	record, err := s.store.GuestSpec(g.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return slices.ContainsFunc(g.NICs, func(nic vnet.NIC) bool { return !nic.Sources().IsZero() })
	}
	return err != nil || !reflect.DeepEqual(record.Guest, g)
}

// guestLines says, for a network whose guests are kept to their addresses, of
// which the hook does not know the addresses that the spec has.
func (s *site) guestLines(n vnet.Network) []string {
	antiSpoof := func(p vnet.Policy) bool { return p.AntiSpoof }
	if !s.local || !slices.ContainsFunc(n.Policies(), antiSpoof) {
		return nil
	}
	var lines []string
	for _, g := range s.topology.Guests {
		there := slices.ContainsFunc(g.NICs, func(nic vnet.NIC) bool { return nic.Network == n.Name })
		if there && s.guestSpecDiffers(g) {
			lines = append(lines, fmt.Sprintf("addresses of guest %s, as the hook knows them", g.Name))
		}
	}
	return lines
}
