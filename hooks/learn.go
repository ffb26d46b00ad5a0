// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"

	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// carried is the part of the spec that a network takes with it in its libvirt
// definition.
type carried struct {
	Network vnet.Network `json:"network"`
	Switch  vnet.Switch  `json:"switch,omitzero"`
}

// Carry returns the record of a network as its definition on another machine
// carries it: see [libvirtnet.WithRecord].
func Carry(n vnet.Network, sw vnet.Switch) (string, error) {
	text, err := json.Marshal(carried{n, sw}) // which leaves out <, > and &
	return string(text), err
}

// Carried returns the record that the definition of the network carries.
func Carried(network, record string) (state.Network, error) {
	var c carried
	if err := json.Unmarshal([]byte(record), &c); err != nil {
		return state.Network{}, fmt.Errorf("network %s: the record in its definition: %w: define it anew with: virt-vnet apply", network, err)
	}
	if c.Network.Name != network {
		return state.Network{}, fmt.Errorf("network %s: the record in its definition is of network %q: define it anew with: virt-vnet apply", network, c.Network.Name)
	}
	return state.Network{Network: c.Network, Switch: c.Switch}, nil
}

// CarryGuest returns what the spec says of a guest as its metadata carries it:
// see [libvirtnet.GuestRecord]. It is nothing when there is nothing to say.
func CarryGuest(g vnet.Guest) (string, error) {
	if !slices.ContainsFunc(g.NICs, func(nic vnet.NIC) bool { return !nic.Sources().IsZero() }) {
		return "", nil
	}
	text, err := json.Marshal(g)
	return string(text), err
}

// learn keeps the record that a network carries, which somebody defined from
// another machine. The definition that libvirt runs a network by may be older
// than a record of this machine's own, so once there is a record a network that
// runs already does not change it.
func (w *Wirer) learn(_ context.Context, n libvirtnet.HookNetwork) error {
	if !n.Owned || n.Record == "" {
		return nil
	}
	c, err := Carried(n.Name, n.Record)
	if err != nil {
		return err
	}
	have, err := w.Store.Network(n.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, state.ErrDamaged):
	case err != nil:
		return fmt.Errorf("network %s: %w: %s", n.Name, err, rewrite(err))
	case n.Port != nil, reflect.DeepEqual(have.Network, c.Network) && reflect.DeepEqual(have.Switch, c.Switch):
		return nil
	}
	w.log().Info("learned", "network", n.Name)
	return w.Store.PutNetwork(c)
}
