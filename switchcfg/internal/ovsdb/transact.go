// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovsdb

import (
	"errors"
	"fmt"

	"github.com/virt-vnet/virt-vnet/switchcfg"
)

// Operation is one operation of a transaction (RFC 7047 section 5.2). Fields
// that do not belong to Op are left zero.
type Operation struct {
	Op        string
	Table     string
	Where     []Condition
	Columns   []string
	Row       Row
	Rows      []Row
	Mutations []Condition
	Until     string
	Timeout   *int // milliseconds
	// Name is what a [NamedUUID] of the same transaction calls the new row.
	Name    string
	Comment string
}

func (o Operation) appendTo(text []byte) []byte {
	text = append(text, '{')
	member := func(key string, given bool, value any) {
		if given {
			text = appendText(append(text, ','), key)
			text = appendValue(append(text, ':'), value)
		}
	}
	text = append(text, `"op":`...)
	text = appendText(text, o.Op)
	member("table", o.Table != "", o.Table)
	member("where", o.Where != nil, list[Condition](o.Where))
	member("columns", o.Columns != nil, list[string](o.Columns))
	member("row", o.Row != nil, o.Row)
	member("rows", o.Rows != nil, list[Row](o.Rows))
	member("mutations", o.Mutations != nil, list[Condition](o.Mutations))
	member("until", o.Until != "", o.Until)
	if o.Timeout != nil {
		member("timeout", true, *o.Timeout)
	}
	member("uuid-name", o.Name != "", o.Name)
	member("comment", o.Comment != "", o.Comment)
	return append(text, '}')
}

// list is a JSON array.
type list[T any] []T

func (l list[T]) appendTo(text []byte) []byte { return appendList(text, l) }

// Condition is [column, function, value]; a mutation has the same shape.
type Condition [3]any

func (c Condition) appendTo(text []byte) []byte { return appendList(text, c[:]) }

// Where is the condition of rows whose column equals value.
func Where(column string, value any) []Condition { return []Condition{{column, "==", value}} }

// Select is the operation that reads the columns of the rows.
func Select(table string, rows []Condition, columns ...string) Operation {
	return Operation{Op: "select", Table: table, Where: rows, Columns: columns}
}

// Results is the outcomes of the operations of a transaction. An operation that
// was not carried out because one before it failed has the zero outcome.
type Results []outcome

type outcome struct {
	failed, details string
	rows            []any // nil unless it was a select
}

// read reads the answer to a transaction.
func (r *Results) read(v any) error {
	all, ok := v.([]any)
	if !ok {
		return fmt.Errorf("%.60s is no outcome of a transaction", fmt.Sprint(v))
	}
	*r = make(Results, len(all))
	for i, one := range all {
		members, _ := one.(map[string]any)
		(*r)[i].failed, _ = members["error"].(string)
		(*r)[i].details, _ = members["details"].(string)
		(*r)[i].rows, _ = members["rows"].([]any)
	}
	return nil
}

// Record is a row of a table that knows its columns.
type Record interface {
	// Column points to where the value of the column of that name is to be: a
	// string, bool, int, [UUID], [Set] or [Dict]. It is nil for a column that is
	// not wanted.
	Column(name string) any
}

// Rows returns the rows of the select operation with that index. A column of
// another kind than expected is an error.
func Rows[T any, R interface {
	*T
	Record
}](results Results, index int) ([]T, error) {
	if index >= len(results) || results[index].rows == nil {
		return nil, errors.New("a result is missing")
	}
	rows := make([]T, len(results[index].rows))
	for i, row := range results[index].rows {
		if err := readRow(R(&rows[i]), row); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func readRow(into Record, v any) error {
	columns, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%.60s is no row", fmt.Sprint(v))
	}
	for name, value := range columns {
		if column := into.Column(name); column != nil {
			if err := readValue(column, value); err != nil {
				return fmt.Errorf("column %s: %w", name, err)
			}
		}
	}
	return nil
}

// refusal returns the first error among the outcomes.
func (r Results) refusal() error {
	for i, outcome := range r {
		if outcome.failed != "" {
			return &OpError{Index: i, Kind: outcome.failed, Details: outcome.details}
		}
	}
	return nil
}

// OpError says which operation of a transaction the server refused. The whole
// transaction was then not carried out.
type OpError struct {
	// Index is that of the operation; one behind the last means the commit itself.
	Index int
	// Kind is an error of RFC 7047, such as "constraint violation".
	Kind    string
	Details string
}

// Error implements error.
func (e *OpError) Error() string {
	if e.Details == "" {
		return e.Kind
	}
	return e.Kind + ": " + e.Details
}

// IsConflict reports whether a transaction failed because rows were changed,
// added or deleted between a look and the transaction, which it waited to be as
// they were.
//
// A server calls two who add the same row a constraint violation, and so it calls
// what will never do: a caller that has tried for long enough asks [Conflict].
func IsConflict(err error) bool {
	var refused *OpError
	return errors.As(err, &refused) && (refused.Kind == timedOut || refused.Kind == "constraint violation" ||
		refused.Kind == "referential integrity violation")
}

// timedOut is how a server refuses a transaction whose wait was in vain.
const timedOut = "timed out"

// Conflict is the error of a change of some things of a switch, such as its ports,
// that ended in a conflict as often as it was tried. The last one, err, tells
// whether others keep changing them, or whether the server refuses them for good.
func Conflict(things string, err error) error {
	var refused *OpError
	if errors.As(err, &refused) && refused.Kind == timedOut {
		return fmt.Errorf("%w: its %s keep changing: %w", switchcfg.ErrUnreachable, things, err)
	}
	return fmt.Errorf("the database refuses its %s: %w", things, err)
}
