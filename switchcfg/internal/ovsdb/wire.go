// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovsdb

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// The notation of RFC 7047 is written by hand, and read from what encoding/json
// makes of it without knowing any type. Marshalers of these types would go over
// the same text once for each level: more than a tenth of the time that the
// start of a guest with many NICs takes.

// writable is a value that knows its notation on the wire.
type writable interface{ appendTo(text []byte) []byte }

// readable is a value that can be read from its notation as Conn.receive
// returns it.
type readable interface{ read(v any) error }

// appendValue appends the notation of v: writable, an integer, a boolean or
// text.
func appendValue(text []byte, v any) []byte {
	switch v := v.(type) {
	case writable:
		return v.appendTo(text)
	case int:
		return strconv.AppendInt(text, int64(v), 10)
	case bool:
		return strconv.AppendBool(text, v)
	case string:
		return appendText(text, v)
	default:
		return appendText(text, fmt.Sprint(v))
	}
}

// appendText appends a JSON string.
func appendText(text []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // of text it cannot fail
			return append(text, quoted...)
		}
	}
	text = append(text, '"')
	text = append(text, s...)
	return append(text, '"')
}

// appendPair appends a JSON array of two strings.
func appendPair(text []byte, a, b string) []byte {
	text = appendText(append(text, '['), a)
	text = appendText(append(text, ','), b)
	return append(text, ']')
}

// appendList appends a JSON array.
func appendList[T any](text []byte, values []T) []byte {
	text = append(text, '[')
	for i, v := range values {
		if i > 0 {
			text = append(text, ',')
		}
		text = appendValue(text, v)
	}
	return append(text, ']')
}

// readValue reads v, which must be of the kind of what into points to.
func readValue(into, v any) error {
	ok := false
	switch into := into.(type) {
	case readable:
		return into.read(v)
	case *string:
		*into, ok = v.(string)
	case *bool:
		*into, ok = v.(bool)
	case *int:
		var err error
		n, isNumber := v.(json.Number)
		*into, err = strconv.Atoi(string(n))
		ok = isNumber && err == nil
	}
	if !ok {
		return fmt.Errorf("%.60s is of another kind than expected", fmt.Sprint(v))
	}
	return nil
}

// tagged returns what follows the tag in [tag, value].
func tagged(v any, tag string) (value any, ok bool) {
	pair, ok := v.([]any)
	if !ok || len(pair) != 2 || pair[0] != tag {
		return nil, false
	}
	return pair[1], true
}

// UUID is a row's identity. On the wire it is ["uuid","..."] (RFC 7047 section
// 5.1).
type UUID string

func (u UUID) appendTo(text []byte) []byte { return appendPair(text, "uuid", string(u)) }

func (u *UUID) read(v any) error {
	value, _ := tagged(v, "uuid")
	id, _ := value.(string)
	if id == "" {
		return fmt.Errorf("%.60s is no UUID", fmt.Sprint(v))
	}
	*u = UUID(id)
	return nil
}

// NamedUUID stands for a row that the same transaction inserts.
type NamedUUID string

func (n NamedUUID) appendTo(text []byte) []byte {
	return appendPair(text, "named-uuid", string(n))
}

// Numbered is a column of rows that the same transaction inserts, each by a number.
type Numbered map[int]NamedUUID

func (n Numbered) appendTo(text []byte) []byte {
	text = append(text, `["map",[`...)
	separator := "["
	for number, id := range n {
		text = strconv.AppendInt(append(text, separator...), int64(number), 10)
		text = append(id.appendTo(append(text, ',')), ']')
		separator = ",["
	}
	return append(text, ']', ']')
}

// Set is a column of any number of values. On the wire one value is itself,
// anything else ["set",[...]].
type Set[T any] []T

func (s Set[T]) appendTo(text []byte) []byte {
	text = append(text, `["set",`...)
	text = appendList(text, s)
	return append(text, ']')
}

func (s *Set[T]) read(v any) error {
	values := []any{v}
	if all, ok := tagged(v, "set"); ok {
		if values, ok = all.([]any); !ok {
			return fmt.Errorf("%.60s is no set", fmt.Sprint(v))
		}
	}
	*s = make(Set[T], len(values))
	for i, value := range values {
		if err := readValue(&(*s)[i], value); err != nil {
			return err
		}
	}
	return nil
}

// First returns the value of an optional column, or the zero value.
func (s Set[T]) First() T {
	if len(s) == 0 {
		var zero T
		return zero
	}
	return s[0]
}

// Dict is a column of keys and values: ["map",[[k,v],...]] on the wire.
type Dict map[string]string

func (d Dict) appendTo(text []byte) []byte {
	text = append(text, `["map",[`...)
	separator := ""
	for key, value := range d {
		text = appendPair(append(text, separator...), key, value)
		separator = ","
	}
	return append(text, ']', ']')
}

func (d *Dict) read(v any) error {
	value, _ := tagged(v, "map")
	pairs, ok := value.([]any)
	if !ok {
		return fmt.Errorf("%.60s is no map", fmt.Sprint(v))
	}
	*d = make(Dict, len(pairs))
	for _, p := range pairs {
		var pair [2]string
		list, _ := p.([]any)
		if len(list) != len(pair) {
			return fmt.Errorf("%.60s is no map", fmt.Sprint(v))
		}
		for i := range pair {
			if err := readValue(&pair[i], list[i]); err != nil {
				return err
			}
		}
		(*d)[pair[0]] = pair[1]
	}
	return nil
}

// Numbers is a column of keys and whole numbers.
type Numbers map[string]int

func (n Numbers) appendTo(text []byte) []byte {
	text = append(text, `["map",[`...)
	separator := "["
	for key, number := range n {
		text = appendText(append(text, separator...), key)
		text = append(strconv.AppendInt(append(text, ','), int64(number), 10), ']')
		separator = ",["
	}
	return append(text, ']', ']')
}

func (n *Numbers) read(v any) error {
	value, _ := tagged(v, "map")
	pairs, ok := value.([]any)
	if !ok {
		return fmt.Errorf("%.60s is no map", fmt.Sprint(v))
	}
	*n = make(Numbers, len(pairs))
	for _, p := range pairs {
		var key string
		var number int
		list, _ := p.([]any)
		if len(list) != 2 || readValue(&key, list[0]) != nil || readValue(&number, list[1]) != nil {
			return fmt.Errorf("%.60s is no map of numbers", fmt.Sprint(v))
		}
		(*n)[key] = number
	}
	return nil
}

// Row is columns to write: strings, bools, ints, [UUID], [NamedUUID], [Set],
// [Dict] and [Numbers].
type Row map[string]any

func (r Row) appendTo(text []byte) []byte {
	text = append(text, '{')
	separator := ""
	for column, value := range r {
		text = appendText(append(text, separator...), column)
		text = appendValue(append(text, ':'), value)
		separator = ","
	}
	return append(text, '}')
}
