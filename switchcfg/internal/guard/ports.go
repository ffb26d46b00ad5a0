// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Ports returns what is in force for the ports with the given indices, or for
// all with nil; those that nothing is in force for are missing. It believes
// nothing but what is really in the table: what somebody took away is not in
// force. A table of another version of virt-vnet counts as none, until Set has
// replaced it.
//
// With indices, it takes as long with a thousand other ports in the table.
func (c *Conn) Ports(ctx context.Context, indices []int) (map[int]Port, error) {
	var result map[int]Port
	err := retry(ctx, func(ctx context.Context) error {
		state, err := c.condition(ctx)
		if err != nil || state != current {
			result = map[int]Port{}
			return err
		}
		all, err := c.find(ctx, indices)
		result = make(map[int]Port, len(all))
		for index, f := range all {
			if f.has(ports, index) {
				result[index] = f.port(index)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

// find returns the elements of ports, or of all with nil.
func (c *Conn) find(ctx context.Context, indices []int) (map[int]found, error) {
	if indices != nil {
		return c.lookUp(ctx, indices)
	}
	all, err := c.dumpElements(ctx)
	for index, f := range all {
		if !f.whole(index) {
			c.odd[index] = true
		}
	}
	return all, err
}

// dumpElements returns the elements of all ports.
func (c *Conn) dumpElements(ctx context.Context) (map[int]found, error) {
	before, err := c.socket.generation(ctx)
	if err != nil {
		return nil, err
	}
	all := map[int]found{}
	for s := range setCount {
		err := c.dump(ctx, s.request(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP), func(payload []byte) error {
			list, err := parseElements(s, payload)
			for _, e := range list {
				put(all, e)
			}
			return err
		})
		// A table of another version need not have the set.
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("nftables: set %s: %w", s.name(), err)
		}
	}
	after, err := c.socket.generation(ctx)
	if err == nil && before != after {
		err = errTorn
	}
	return all, err
}

func put(all map[int]found, e element) {
	if all[e.port] == nil {
		all[e.port] = found{}
	}
	all[e.port][e.key] = e
}

// heads are the elements that have nothing but the port in their key.
func heads(index int) []key {
	var keys []key
	for s := range setCount {
		if s.describe().keySize == sizeofIndex {
			keys = append(keys, key{set: s, port: index})
		}
	}
	return keys
}

// lookUp asks for the elements of some ports one by one, first for those that it
// can tell the keys of, then for those named in their comments.
func (c *Conn) lookUp(ctx context.Context, indices []int) (map[int]found, error) {
	var keys []key
	for _, index := range indices {
		keys = append(keys, heads(index)...)
	}
	all := make(map[int]found, len(indices))
	generations := map[uint16]bool{}
	for asked := map[key]bool{}; len(keys) > 0; {
		list, err := c.elements(ctx, keys, generations)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			asked[k] = true
		}
		keys = nil
		for _, e := range list {
			put(all, e)
			for _, k := range e.named() {
				if !asked[k] {
					keys = append(keys, k)
				}
			}
		}
	}
	for index, f := range all {
		if !f.whole(index) && len(generations) > 1 {
			return nil, errTorn // or it was torn, as another look will tell
		}
	}
	return all, nil
}

// named is the keys in the comment of e.
func (e element) named() []key {
	for _, f := range families() {
		if e.set == f.bound || e.set == f.allowed {
			keys, _ := f.parseMembers(e.port, e.comment)
			return keys
		}
	}
	return nil
}

// elements asks for elements and returns those that there are.
func (c *Conn) elements(ctx context.Context, keys []key, generations map[uint16]bool) ([]element, error) {
	requests := make([]message, len(keys))
	for i, k := range keys {
		requests[i] = k.get()
	}
	answers, err := c.socket.ask(ctx, requests...)
	if err != nil {
		return nil, err
	}
	var list []element
	for i, a := range answers {
		if errors.Is(a.err, unix.ENOENT) {
			continue
		}
		if a.err != nil {
			return nil, fmt.Errorf("nftables: set %s: %w", keys[i].set.name(), a.err)
		}
		generations[a.gen] = true
		for _, payload := range a.payloads {
			some, err := parseElements(keys[i].set, payload)
			if err != nil {
				return nil, err
			}
			list = append(list, some...)
		}
	}
	return list, nil
}
