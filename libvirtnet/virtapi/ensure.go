// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi

import (
	"context"
	"errors"
	"fmt"

	"libvirt.org/go/libvirt"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
)

// EnsureOptions says what a network is to be besides defined. What is false is
// left as it is.
type EnsureOptions struct {
	Autostart bool // it starts with libvirt
	Start     bool // it runs now
}

// Outcome is what became of a definition. The zero Outcome is that nothing
// did: there was an error before.
type Outcome int

// The outcomes.
const (
	// Unchanged means that libvirt had that definition already.
	Unchanged Outcome = iota + 1
	// Created means that the network is new.
	Created
	// Updated means that its definition was replaced.
	Updated
)

// String returns "unchanged", "created" or "updated".
func (o Outcome) String() string {
	if o < 0 || o > Updated {
		return fmt.Sprintf("invalid(%d)", int(o))
	}
	return [...]string{"failed", "unchanged", "created", "updated"}[o]
}

// MarshalText implements [encoding.TextMarshaler].
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Ensured is what was done for one network. After an error it is what was done
// until then.
type Ensured struct {
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	// Changes are the lines of [libvirtnet.NetworkDiff] of an update.
	Changes []string `json:"changes,omitempty"`
	// Started and AutostartSet report that it was not so before.
	Started      bool `json:"started,omitempty"`
	AutostartSet bool `json:"autostartSet,omitempty"`
	// Restarted reports that the network was running with an older definition
	// and no guest on it, and was stopped and started to take the new one.
	Restarted bool `json:"restarted,omitempty"`
	// Record reports that only what the network carries for the hook is new: see
	// [libvirtnet.WithRecord]. The hook gets it when the network starts.
	Record bool `json:"record,omitempty"`
	// Carries reports that the definition carries a record at all.
	Carries bool `json:"carries,omitempty"`
	// RestartDue is how many guest NICs keep the network from taking up its
	// definition: it holds from the next start of the network on. The hook
	// wires by the new one at once, so this concerns what libvirt does alone,
	// such as the VLAN of a hot-plugged NIC.
	RestartDue int `json:"restartDue,omitempty"`
}

// EnsureNetwork makes libvirt have one network: see [Conn.EnsureNetworks].
func (c *Conn) EnsureNetwork(ctx context.Context, xml string, opts EnsureOptions) (Ensured, error) {
	done, err := c.EnsureNetworks(ctx, []string{xml}, opts)
	if len(done) == 0 {
		return Ensured{}, err
	}
	return done[0], err
}

// EnsureNetworks makes libvirt have these networks, each a definition from
// [libvirtnet.NetworkXML]. It changes only what differs, so a second time it
// does nothing. A network that exists keeps its UUID, its bridge's name and
// MAC address, and the metadata of others. One that is not ours is left alone:
// [ErrForeign].
//
// A running network takes up a new definition at once when no guest is on it.
// With guests on it, it is not stopped, which would cut them off: see
// [Ensured.RestartDue].
//
// An error in one network does not keep the others from being made. There is a
// result for each definition, in their order.
func (c *Conn) EnsureNetworks(ctx context.Context, xmls []string, opts EnsureOptions) ([]Ensured, error) {
	known, err := call(ctx, c, c.inventory)
	if err != nil {
		return nil, err
	}
	done := make([]Ensured, len(xmls))
	var errs []error
	for i, xml := range xmls {
		done[i], err = call(ctx, c, func() (Ensured, error) {
			e := ensurer{c: c, known: known, want: xml}
			err := e.run(opts)
			return e.done, err
		})
		if err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil || errors.Is(err, ErrNotRunning) {
			break
		}
	}
	if ctx.Err() == nil { // else a call may still be using it
		known.free()
	}
	return done, errors.Join(errs...)
}

// ensurer makes libvirt have one network.
type ensurer struct {
	c     *Conn
	known *inventory
	want  string
	done  Ensured
}

func (e *ensurer) run(opts EnsureOptions) error {
	want, err := libvirtnet.ParseNetwork(e.want)
	if err != nil {
		return err
	}
	name := want.Name
	e.done.Name, e.done.Carries = name, want.Record != ""
	if !want.Owned {
		return fmt.Errorf("network %s: define: %w: want a definition with one", name, ErrForeign)
	}
	handle, exists := e.known.byName[name]
	if exists {
		err = e.update(handle)
	} else {
		handle, err = e.define(e.want)
		if err == nil {
			defer handle.Free() //nolint:errcheck // fails only for what is no network
			e.done.Outcome = Created
		}
	}
	if err != nil {
		return err
	}
	if opts.Autostart && !e.known.autostart[name] {
		if err := handle.SetAutostart(true); err != nil {
			return callError("network "+name+": autostart", err)
		}
		e.done.AutostartSet = true
	}
	if e.known.active[name] {
		return e.takeUp(handle)
	}
	if opts.Start {
		if err := handle.Create(); err != nil {
			return callError("network "+name+": defined, but cannot be started", err)
		}
		e.done.Started = true
	}
	return nil
}

// define does not ask libvirt to hold xml against its schema: that takes four
// times as long as to define it, and the tests do it for all that NetworkXML
// writes.
func (e *ensurer) define(xml string) (*libvirt.Network, error) {
	handle, err := e.c.conn.NetworkDefineXML(xml)
	if err != nil {
		return nil, callError("network "+e.done.Name+": define", err)
	}
	return handle, nil
}

// update replaces the definition of a network of ours where it differs.
func (e *ensurer) update(handle *libvirt.Network) error {
	have, err := e.known.network(handle)
	if err != nil {
		return err
	}
	if !have.Owned {
		return foreign(have.Name)
	}
	if e.done.Changes, err = libvirtnet.NetworkDiff(have.XML, e.want); err != nil {
		return err
	}
	// Somebody who undefines a running network leaves it running only.
	if !e.known.persistent[have.Name] {
		e.done.Changes = append(e.done.Changes, "+ persistent")
	}
	want, err := libvirtnet.ParseNetwork(e.want)
	if err != nil {
		return err
	}
	e.done.Record = len(e.done.Changes) == 0 && want.Record != "" && want.Record != have.Record
	if len(e.done.Changes) == 0 && !e.done.Record {
		e.done.Outcome = Unchanged
		return nil
	}
	xml, err := libvirtnet.KeepIdentity(have.XML, e.want)
	if err != nil {
		return err
	}
	defined, err := e.define(xml)
	if err != nil {
		return err
	}
	e.done.Outcome = Updated
	return defined.Free()
}

// takeUp makes a running network run by its definition, if no guest is in the
// way.
func (e *ensurer) takeUp(handle *libvirt.Network) error {
	name := e.done.Name
	text, err := handle.GetXMLDesc(0)
	if err != nil {
		return callError("network "+name+": read its live definition", err)
	}
	live, err := libvirtnet.ParseNetwork(text)
	if err != nil {
		return err
	}
	want, err := libvirtnet.ParseNetwork(e.want)
	if err != nil {
		return err
	}
	if libvirtnet.SameNetwork(text, e.want) && (want.Record == "" || want.Record == live.Record) {
		return nil
	}
	if live.Guests > 0 {
		e.done.RestartDue = live.Guests
		return nil
	}
	if err := handle.Destroy(); err != nil {
		return callError("network "+name+": restart: stop", err)
	}
	if err := handle.Create(); err != nil {
		return callError("network "+name+": restart: it is stopped, and cannot be started with its new definition", err)
	}
	e.done.Restarted = true
	return nil
}
