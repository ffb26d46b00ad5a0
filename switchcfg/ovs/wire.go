// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// uuid is a row's identity. On the wire it is ["uuid","..."] (RFC 7047 section
// 5.1).
type uuid string

// MarshalJSON implements [json.Marshaler].
func (u uuid) MarshalJSON() ([]byte, error) { return json.Marshal([2]string{"uuid", string(u)}) }

// UnmarshalJSON implements [json.Unmarshaler].
func (u *uuid) UnmarshalJSON(text []byte) error {
	var pair [2]string
	if err := json.Unmarshal(text, &pair); err != nil || pair[0] != "uuid" || pair[1] == "" {
		return fmt.Errorf("%.60s is no UUID", text)
	}
	*u = uuid(pair[1])
	return nil
}

// namedUUID stands for a row that the same transaction inserts.
type namedUUID string

// MarshalJSON implements [json.Marshaler].
func (n namedUUID) MarshalJSON() ([]byte, error) {
	return json.Marshal([2]string{"named-uuid", string(n)})
}

// set is a column of any number of values. On the wire one value is itself,
// anything else ["set",[...]].
type set[T any] []T

// MarshalJSON implements [json.Marshaler].
func (s set[T]) MarshalJSON() ([]byte, error) {
	values := []T(s)
	if values == nil {
		values = []T{}
	}
	return json.Marshal([2]any{"set", values})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (s *set[T]) UnmarshalJSON(text []byte) error {
	if values, ok := tagged(text, "set"); ok {
		return json.Unmarshal(values, (*[]T)(s))
	}
	var one T
	if err := json.Unmarshal(text, &one); err != nil {
		return err
	}
	*s = set[T]{one}
	return nil
}

// first returns the value of an optional column, or the zero value.
func (s set[T]) first() T {
	if len(s) == 0 {
		var zero T
		return zero
	}
	return s[0]
}

// dict is a column of keys and values: ["map",[[k,v],...]] on the wire.
type dict map[string]string

// MarshalJSON implements [json.Marshaler].
func (d dict) MarshalJSON() ([]byte, error) {
	pairs := make([][2]string, 0, len(d))
	for k, v := range d {
		pairs = append(pairs, [2]string{k, v})
	}
	return json.Marshal([2]any{"map", pairs})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (d *dict) UnmarshalJSON(text []byte) error {
	values, ok := tagged(text, "map")
	if !ok {
		return fmt.Errorf("%.60s is no map", text)
	}
	var pairs [][2]string
	if err := json.Unmarshal(values, &pairs); err != nil {
		return err
	}
	*d = make(dict, len(pairs))
	for _, p := range pairs {
		(*d)[p[0]] = p[1]
	}
	return nil
}

// tagged returns what follows the tag in [tag, value].
func tagged(text []byte, tag string) (json.RawMessage, bool) {
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) {
		return nil, false
	}
	var list []json.RawMessage
	if err := json.Unmarshal(text, &list); err != nil || len(list) != 2 {
		return nil, false
	}
	return list[1], string(list[0]) == `"`+tag+`"`
}

// operation is one operation of a transaction (RFC 7047 section 5.2).
type operation struct {
	Op        string      `json:"op"`
	Table     string      `json:"table,omitempty"`
	Where     []condition `json:"where,omitzero"`
	Columns   []string    `json:"columns,omitempty"`
	Row       row         `json:"row,omitempty"`
	Rows      []row       `json:"rows,omitempty"`
	Mutations []condition `json:"mutations,omitempty"`
	Until     string      `json:"until,omitempty"`
	Timeout   *int        `json:"timeout,omitempty"`
	Name      string      `json:"uuid-name,omitempty"`
	Comment   string      `json:"comment,omitempty"`
}

// condition is [column, function, value]; a mutation has the same shape.
type condition [3]any

type row map[string]any

// where is the condition of rows whose column equals value.
func where(column string, value any) []condition { return []condition{{column, "==", value}} }

// read is a select operation.
func read(table string, rows []condition, columns ...string) operation {
	return operation{Op: "select", Table: table, Where: rows, Columns: columns}
}

// result is the outcome of one operation.
type result struct {
	Error   string          `json:"error"`
	Details string          `json:"details"`
	UUID    uuid            `json:"uuid,omitzero"`
	Count   int             `json:"count"`
	Rows    json.RawMessage `json:"rows"`
}

// opError says which operation of a transaction the server refused. The whole
// transaction was then not carried out. An index behind the last operation
// means the commit itself.
type opError struct {
	index          int
	kind, specific string
}

// Error implements error.
func (e *opError) Error() string {
	if e.specific == "" {
		return e.kind
	}
	return e.kind + ": " + e.specific
}

// opErrorIn returns the first error among the results of a transaction.
func opErrorIn(results []*result) error {
	for i, r := range results {
		if r != nil && r.Error != "" {
			return &opError{index: i, kind: r.Error, specific: r.Details}
		}
	}
	return nil
}

// rowsOf reads the rows of a select's result.
func rowsOf[T any](results []*result, index int) ([]T, error) {
	if index >= len(results) || results[index] == nil {
		return nil, errors.New("a result is missing")
	}
	var rows []T
	err := json.Unmarshal(results[index].Rows, &rows)
	return rows, err
}
