// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
)

// Set brings ports into force as they are given, and leaves all others alone. A
// port with neither guard nor priority loses what it had. It happens in one
// transaction, with the table if that is not there yet: no frame meets a half of
// it. What is as wanted already is left as it is.
//
// It takes as long with a thousand other ports in the table.
func (c *Conn) Set(ctx context.Context, ports []Port) error {
	for _, p := range ports {
		if err := p.check(); err != nil {
			return err
		}
	}
	return retry(ctx, func(ctx context.Context) error { return c.set(ctx, ports) })
}

func (c *Conn) set(ctx context.Context, wanted []Port) error {
	state, err := c.condition(ctx)
	if err != nil {
		return err
	}
	switch state {
	case foreign:
		return errForeign()
	case absent, other:
		return c.rebuild(ctx, wanted, func(int) bool { return true })
	default:
		return c.update(ctx, wanted)
	}
}

func errForeign() error {
	return fmt.Errorf("%w: nftables: somebody else has a table bridge %s", switchcfg.ErrNotOwned, tableName)
}

// update changes the elements of some ports in a table that is as it should be.
func (c *Conn) update(ctx context.Context, wanted []Port) error {
	have, err := c.everything(ctx, wanted)
	if err != nil {
		return err
	}
	var remove, add []element
	for _, p := range wanted {
		without, with := difference(have[p.Index], p.elements())
		remove, add = append(remove, without...), append(add, with...)
	}
	if changes := change(remove, add); len(changes) > 0 {
		if err := c.socket.commit(ctx, 0, changes); err != nil {
			return err
		}
	}
	for _, p := range wanted {
		delete(c.odd, p.Index)
	}
	return nil
}

// everything returns all elements of some ports, also those that their other
// elements do not tell of.
func (c *Conn) everything(ctx context.Context, some []Port) (map[int]found, error) {
	indices := make([]int, len(some))
	for i, p := range some {
		indices[i] = p.Index
	}
	have, err := c.lookUp(ctx, indices)
	if err != nil {
		return nil, err
	}
	for _, index := range indices {
		if c.odd[index] || !have[index].whole(index) {
			return c.dumpElements(ctx)
		}
	}
	return have, nil
}

// difference tells what is to go and what to come. An element that changes does
// both, for the kernel never changes one.
func difference(have found, want []element) (remove, add []element) {
	wanted := make(map[key]bool, len(want))
	for _, e := range want {
		wanted[e.key] = true
		old, ok := have[e.key]
		if ok && old == e {
			continue
		}
		if ok {
			remove = append(remove, old)
		}
		add = append(add, e)
	}
	for k, e := range have {
		if !wanted[k] {
			remove = append(remove, e)
		}
	}
	return remove, add
}

// change makes the requests of a transaction.
func change(remove, add []element) []message {
	return append(
		requests(unix.NFT_MSG_DELSETELEM, 0, remove),
		requests(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, add)...)
}

// perMessage is how many elements with the longest comments fit into an
// attribute, whose length has 16 bits.
const perMessage = 150

func requests(kind int, flags uint16, list []element) []message {
	bySet := make([][]element, setCount)
	for _, e := range list {
		if kind == unix.NFT_MSG_DELSETELEM {
			e = element{key: e.key}
		}
		bySet[e.set] = append(bySet[e.set], e)
	}
	var messages []message
	for s, all := range bySet {
		for some := range slices.Chunk(all, perMessage) {
			m := set(s).request(kind, flags)
			m.elements(some)
			messages = append(messages, m)
		}
	}
	return messages
}

func deleteTable() message {
	m := newMessage(unix.NFT_MSG_DELTABLE, 0, "table")
	m.payload.text(unix.NFTA_TABLE_NAME, tableName)
	return m
}

// rebuild makes the table, or makes it anew when it is not as it should be. Of
// what it has, ports that are alive keep what this version can read, unless they
// are wanted otherwise.
//
// Nothing may have changed since we looked. The kernel sees to that before it
// begins: rules that it adds to a table and then takes away again, because a
// transaction fails, show in what others are told meanwhile.
func (c *Conn) rebuild(ctx context.Context, wanted []Port, alive func(index int) bool) error {
	generation, err := c.socket.generation(ctx)
	if err != nil {
		return err
	}
	state, err := c.condition(ctx)
	if err != nil || state == current || state == foreign {
		return cmp.Or(err, errTorn)
	}
	var messages []message
	keep := map[int]found{}
	if state == other {
		messages = append(messages, deleteTable())
		if keep, err = c.dumpElements(ctx); err != nil {
			return err
		}
	}
	for _, p := range wanted {
		delete(keep, p.Index)
	}
	var want []element
	for index, f := range keep {
		if alive(index) {
			want = append(want, f.port(index).elements()...)
		}
	}
	for _, p := range wanted {
		want = append(want, p.elements()...)
	}
	if len(want) > 0 {
		table, err := build()
		if err != nil {
			return err
		}
		messages = append(append(messages, table...), change(nil, want)...)
	}
	if len(messages) == 0 {
		return nil
	}
	return c.socket.commit(ctx, generation, messages)
}

// Sweep drops what the table has about ports that are not alive, and the table
// when nothing is left in it. It looks at all ports.
func (c *Conn) Sweep(ctx context.Context, alive func(index int) bool) error {
	return retry(ctx, func(ctx context.Context) error {
		state, err := c.condition(ctx)
		if err != nil || state == absent || state == foreign {
			return err
		}
		if state == other {
			return c.rebuild(ctx, nil, alive)
		}
		return c.sweep(ctx, alive)
	})
}

func (c *Conn) sweep(ctx context.Context, alive func(index int) bool) error {
	generation, err := c.socket.generation(ctx)
	if err != nil {
		return err
	}
	all, err := c.dumpElements(ctx)
	if err != nil {
		return err
	}
	var remove []element
	left := false
	for index, f := range all {
		if alive(index) {
			left = true
			continue
		}
		remove = append(remove, f.list()...)
		delete(c.odd, index)
	}
	changes := change(remove, nil)
	switch {
	case !left:
		changes = []message{deleteTable()}
	case len(remove) == 0:
		return nil
	}
	// Nobody may have come meanwhile.
	return c.socket.commit(ctx, generation, changes)
}
