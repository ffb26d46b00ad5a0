// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
)

// tries bounds how often something is done again because somebody else changed
// the ruleset meanwhile.
const tries = 32

// request starts a message about elements of a set.
func (s set) request(kind int, flags uint16) message {
	m := newMessage(kind, flags, "set "+s.name())
	m.payload.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	m.payload.text(unix.NFTA_SET_ELEM_LIST_SET, s.name())
	return m
}

// get asks for one element.
func (k key) get() message {
	m := k.set.request(unix.NFT_MSG_GETSETELEM, 0)
	m.elements([]element{{key: k}})
	return m
}

// elements adds elements of one set.
func (m *message) elements(list []element) {
	var all attrs
	for _, e := range list {
		var one, value attrs
		value.add(unix.NFTA_DATA_VALUE, e.encode())
		one.nest(unix.NFTA_SET_ELEM_KEY, value)
		if e.priority != 0 {
			var data attrs
			data.add(unix.NFTA_DATA_VALUE, binary.NativeEndian.AppendUint32(nil, e.priority))
			one.nest(unix.NFTA_SET_ELEM_DATA, data)
		}
		if e.comment != "" {
			one.comment(unix.NFTA_SET_ELEM_USERDATA, e.comment)
		}
		all.nest(unix.NFTA_LIST_ELEM, one)
	}
	m.payload.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, all)
}

// parseElements reads the payload of an answer about elements of s.
func parseElements(s set, payload []byte) ([]element, error) {
	var list []element
	err := rtnl.EachAttr(payload, func(kind uint16, value []byte) error {
		if kind != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return nil
		}
		return rtnl.EachAttr(value, func(_ uint16, value []byte) error {
			e, err := parseElement(s, value)
			list = append(list, e)
			return err
		})
	})
	return list, err
}

func parseElement(s set, b []byte) (e element, err error) {
	var encoded []byte
	err = rtnl.EachAttr(b, func(kind uint16, value []byte) error {
		switch kind {
		case unix.NFTA_SET_ELEM_KEY:
			encoded, err = parseValue(value)
		case unix.NFTA_SET_ELEM_DATA:
			var data []byte
			if data, err = parseValue(value); err == nil && len(data) == sizeofPriority {
				e.priority = binary.NativeEndian.Uint32(data)
			}
		case unix.NFTA_SET_ELEM_USERDATA:
			e.comment = parseComment(value)
		}
		return err
	})
	if err == nil {
		e.key, err = parseKey(s, encoded)
	}
	return e, err
}

// parseValue reads the value of a key or of data.
func parseValue(b []byte) (value []byte, err error) {
	err = rtnl.EachAttr(b, func(kind uint16, v []byte) error {
		if kind == unix.NFTA_DATA_VALUE {
			value = v
		}
		return nil
	})
	return value, err
}

// condition is what a table is like.
type condition int

const (
	absent  condition = iota
	current           // ours, and as this program makes it
	other             // ours, but of another version, switched off or not whole
	foreign           // not ours
)

// condition looks at the table, but not at its elements.
func (c *Conn) condition(ctx context.Context) (condition, error) {
	m := newMessage(unix.NFT_MSG_GETTABLE, 0, "table")
	m.payload.text(unix.NFTA_TABLE_NAME, tableName)
	answers, err := c.socket.ask(ctx, m)
	if err == nil {
		err = answers[0].err
	}
	// EINVAL is what the kernel says to this when it has no nftables.
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return absent, nil
	}
	if err != nil {
		return absent, err
	}
	state := foreign
	for _, payload := range answers[0].payloads {
		if state, err = parseTable(payload); err != nil {
			return absent, err
		}
	}
	if state != current {
		return state, nil
	}
	return c.wholeness(ctx)
}

// parseTable tells ours from others by the comment and the owner.
func parseTable(payload []byte) (condition, error) {
	comment, flags := "", uint32(0)
	err := rtnl.EachAttr(payload, func(kind uint16, value []byte) error {
		switch {
		case kind == nftaTableUserdata:
			comment = parseComment(value)
		case kind == unix.NFTA_TABLE_FLAGS && len(value) == 4:
			flags = binary.BigEndian.Uint32(value)
		}
		return nil
	})
	switch {
	case err != nil:
		return absent, err
	case flags&nftTableOwner != 0 || !strings.HasPrefix(comment, tableMark):
		return foreign, nil
	case flags != 0 || comment != currentMark():
		return other, nil
	}
	return current, nil
}

// nftTableOwner (NFT_TABLE_F_OWNER) is set while a table belongs to one socket.
const nftTableOwner = 2

// wholeness looks whether the chains are whole: somebody may have flushed them,
// and then the elements do nothing.
func (c *Conn) wholeness(ctx context.Context) (condition, error) {
	number, use := 0, uint32(0)
	err := c.dump(ctx, newMessage(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, "chains"), func(payload []byte) error {
		got, err := parseChain(payload)
		if got.table == tableName {
			number, use = number+1, use+got.use
		}
		return err
	})
	if err != nil {
		return other, err
	}
	if number != wholeChains || use != wholeUse {
		return other, nil
	}
	return current, nil
}

// What the kernel says of whole chains: how many they are, and the sum of their
// rules and of the rules that lead to them. These are constants to save building
// the rules for every look.
const (
	wholeChains = 18
	wholeUse    = 115
)

// chainInfo is what the kernel says about a chain of any table.
type chainInfo struct {
	table, name string
	use         uint32
	hook        uint32 // with isBase
	policy      uint32 // with isBase
	isBase      bool
}

func parseChain(payload []byte) (chainInfo, error) {
	var c chainInfo
	number := func(value []byte) uint32 {
		if len(value) != 4 {
			return 0
		}
		return binary.BigEndian.Uint32(value)
	}
	err := rtnl.EachAttr(payload, func(kind uint16, value []byte) error {
		switch kind {
		case unix.NFTA_CHAIN_TABLE:
			c.table = strings.TrimRight(string(value), "\x00")
		case unix.NFTA_CHAIN_NAME:
			c.name = strings.TrimRight(string(value), "\x00")
		case unix.NFTA_CHAIN_USE:
			c.use = number(value)
		case unix.NFTA_CHAIN_POLICY:
			c.policy = number(value)
		case unix.NFTA_CHAIN_HOOK:
			c.isBase = true
			return rtnl.EachAttr(value, func(kind uint16, value []byte) error {
				if kind == unix.NFTA_HOOK_HOOKNUM {
					c.hook = number(value)
				}
				return nil
			})
		}
		return nil
	})
	return c, err
}

func currentMark() string { return fmt.Sprint(tableMark, version) }
