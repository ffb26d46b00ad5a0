// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"libvirt.org/go/libvirt"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// State is what a guest is doing, as virDomainState has it.
type State int

// The states.
const (
	StateNone State = iota // the hypervisor does not say
	StateRunning
	StateBlocked
	StatePaused
	StateShuttingDown
	StateShutOff
	StateCrashed
	StateSuspended // by its own power management
)

var stateNames = [...]string{"no state", "running", "blocked", "paused", "shutting down", "shut off", "crashed", "suspended"}

// String returns the state as virsh has it.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("invalid(%d)", int(s))
	}
	return stateNames[s]
}

// MarshalText implements [encoding.TextMarshaler].
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Guest is one domain of libvirt.
type Guest struct {
	vnet.GuestRef
	State State `json:"state"`
	// Held is what libvirt itself has paused the guest for, until it is done, such
	// as "a migration", or empty.
	Held string `json:"held,omitempty"`
	// Active means that the guest has devices on the host now: it runs, or is
	// paused.
	Active bool `json:"active"`
	// Domain is from the live XML of an active guest, and from its definition
	// of others.
	Domain libvirtnet.Domain `json:"domain"`
}

// on reports whether the guest has a NIC in that network.
func (g Guest) on(network string) bool {
	return slices.ContainsFunc(g.Domain.NICs, func(nic libvirtnet.DomainNIC) bool { return nic.Network == network })
}

// Guests returns all guests, in libvirt's order. One whose XML cannot be read
// is left out and reported by the error, which does not make the others wrong.
func (c *Conn) Guests(ctx context.Context) ([]Guest, error) {
	list, err := ask(ctx, c, func() ([]libvirt.Domain, error) { return c.conn.ListAllDomains(0) })
	if err != nil {
		return nil, callError("guests: list", err)
	}
	guests := make([]Guest, 0, len(list))
	var errs []error
	for i := range list {
		g, err := ask(ctx, c, func() (Guest, error) {
			defer list[i].Free() //nolint:errcheck // fails only for what is no domain
			return readGuest(&list[i])
		})
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, ErrNotRunning): // nor would it tell of the others
			return nil, err
		case errors.Is(err, ErrNoGuest): // gone since the list was made
		case err != nil:
			errs = append(errs, err)
		default:
			guests = append(guests, g)
		}
	}
	return guests, errors.Join(errs...)
}

// Guest returns the guest of that name or UUID. The error is [ErrNoGuest] when
// there is none.
func (c *Conn) Guest(ctx context.Context, guest string) (Guest, error) {
	return promptly(ctx, c, func(ctx context.Context) (Guest, error) { return withGuest(ctx, c, guest, readGuest) })
}

func readGuest(handle *libvirt.Domain) (Guest, error) {
	name, err := handle.GetName()
	if err != nil {
		return Guest{}, callError("guest: read its name", err)
	}
	text, err := handle.GetXMLDesc(0)
	if err != nil {
		return Guest{}, callError("guest "+name+": read its XML", err)
	}
	domain, err := libvirtnet.ParseDomain([]byte(text))
	if err != nil {
		return Guest{}, fmt.Errorf("guest %s: %w", name, err)
	}
	state, reason, err := handle.GetState()
	if err != nil {
		return Guest{}, callError("guest "+name+": read its state", err)
	}
	_, notActive := handle.GetID() // known since the list: only active domains have an ID
	return Guest{
		GuestRef: domain.Ref(), State: State(state), Held: held(state, reason), Active: notActive == nil, Domain: domain,
	}, nil
}

// held says what libvirt has paused a guest for that goes on by itself. One that
// somebody else paused, or that was left so, waits for virsh resume.
func held(state libvirt.DomainState, reason int) string {
	if state != libvirt.DOMAIN_PAUSED {
		return ""
	}
	switch libvirt.DomainPausedReason(reason) { //nolint:exhaustive // the others are for good
	case libvirt.DOMAIN_PAUSED_MIGRATION, libvirt.DOMAIN_PAUSED_POSTCOPY:
		return "a migration"
	case libvirt.DOMAIN_PAUSED_SNAPSHOT:
		return "a snapshot"
	case libvirt.DOMAIN_PAUSED_SAVE:
		return "a save"
	case libvirt.DOMAIN_PAUSED_DUMP:
		return "a core dump"
	case libvirt.DOMAIN_PAUSED_STARTING_UP:
		return "its start"
	}
	return ""
}

// DomainXML returns the XML of a guest, found by its name or UUID: the live one
// of an active guest, or with config always its definition. The error is
// [ErrNoGuest] when there is none.
func (c *Conn) DomainXML(ctx context.Context, guest string, config bool) (string, error) {
	return promptly(ctx, c, func(ctx context.Context) (string, error) {
		return withGuest(ctx, c, guest, func(handle *libvirt.Domain) (string, error) { return domainXML(handle, guest, config) })
	})
}

func domainXML(handle *libvirt.Domain, guest string, config bool) (string, error) {
	var flags libvirt.DomainXMLFlags
	if config {
		flags = libvirt.DOMAIN_XML_INACTIVE
	}
	text, err := handle.GetXMLDesc(flags)
	if err != nil {
		return "", callError("guest "+guest+": read its XML", err)
	}
	return text, nil
}

// withGuest runs f on the guest with that name or UUID.
func withGuest[T any](ctx context.Context, c *Conn, guest string, f func(*libvirt.Domain) (T, error)) (T, error) {
	return call(ctx, c, func() (T, error) {
		var none T
		handle, err := c.conn.LookupDomainByName(guest)
		if errors.Is(err, libvirt.ERR_NO_DOMAIN) {
			if byUUID, e := c.conn.LookupDomainByUUIDString(guest); e == nil {
				handle, err = byUUID, nil
			}
		}
		if err != nil {
			return none, callError("guest "+guest, err)
		}
		defer handle.Free() //nolint:errcheck // fails only for what is no domain
		return f(handle)
	})
}
