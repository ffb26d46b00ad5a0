// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"errors"
	"fmt"
)

// operation is one operation of a transaction (RFC 7047 section 5.2).
type operation struct {
	Op        string
	Table     string
	Where     []condition
	Columns   []string
	Row       row
	Rows      []row
	Mutations []condition
	Until     string
	Timeout   *int
	Name      string
	Comment   string
}

func (o operation) appendTo(text []byte) []byte {
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
	member("where", o.Where != nil, list[condition](o.Where))
	member("columns", o.Columns != nil, list[string](o.Columns))
	member("row", o.Row != nil, o.Row)
	member("rows", o.Rows != nil, list[row](o.Rows))
	member("mutations", o.Mutations != nil, list[condition](o.Mutations))
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

// condition is [column, function, value]; a mutation has the same shape.
type condition [3]any

func (c condition) appendTo(text []byte) []byte { return appendList(text, c[:]) }

// where is the condition of rows whose column equals value.
func where(column string, value any) []condition { return []condition{{column, "==", value}} }

// read is a select operation.
func read(table string, rows []condition, columns ...string) operation {
	return operation{Op: "select", Table: table, Where: rows, Columns: columns}
}

// results is the outcomes of the operations of a transaction. An operation that
// was not carried out because one before it failed has the zero outcome.
type results []struct {
	failed, details string
	rows            []record // nil unless it was a select
}

// read reads the answer to a transaction.
func (r *results) read(v any) error {
	all, ok := v.([]any)
	if !ok {
		return fmt.Errorf("%.60s is no outcome of a transaction", fmt.Sprint(v))
	}
	*r = make(results, len(all))
	for i, one := range all {
		outcome, _ := one.(map[string]any)
		(*r)[i].failed, _ = outcome["error"].(string)
		(*r)[i].details, _ = outcome["details"].(string)
		rows, isSelect := outcome["rows"].([]any)
		if !isSelect {
			continue
		}
		(*r)[i].rows = make([]record, len(rows))
		for n := range rows {
			if err := (*r)[i].rows[n].read(rows[n]); err != nil {
				return err
			}
		}
	}
	return nil
}

// rows returns the rows of a select.
func (r results) rows(index int) ([]record, error) {
	if index >= len(r) || r[index].rows == nil {
		return nil, errors.New("a result is missing")
	}
	return r[index].rows, nil
}

// refusal returns the first error among the outcomes.
func (r results) refusal() error {
	for i, outcome := range r {
		if outcome.failed != "" {
			return &opError{index: i, kind: outcome.failed, specific: outcome.details}
		}
	}
	return nil
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
