// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovsdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Client carries out transactions on one database. It belongs to one goroutine
// at a time.
//
// It connects when it is first used. A connection that breaks, or that a context
// interrupts, fails the call at once with [switchcfg.ErrUnreachable]; the next
// call makes a new one. So does one after an answer that is none, and one after a
// long pause, in which the server has given a client up that did not answer its
// probes (ovsdb-server(5), Connection, inactivity_probe).
type Client struct {
	// Product is whose servers they are, such as "Open vSwitch".
	Product string
	// Database is its name, such as "Open_vSwitch".
	Database string
	// Endpoints are its servers, tried in that order. Of several of a cluster
	// (ovsdb(7), "Clustered Database Service Model") only the leader is talked to;
	// one alone may be a follower, which passes on what it is asked for.
	Endpoints vnet.Endpoints
	TLS       vnet.TLS

	conn    *Conn // nil when there is none
	used    time.Time
	version string
}

// pauseLimit is less than the five seconds after which servers probe.
const pauseLimit = 4 * time.Second

// Close ends the connection.
func (c *Client) Close() error {
	if c.conn == nil {
		return nil
	}
	err := c.conn.Close()
	c.conn = nil
	return err
}

// Transact carries out one transaction: all of it or nothing. When the server
// refuses it the error is an [OpError].
func (c *Client) Transact(ctx context.Context, ops ...Operation) (Results, error) {
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	results, err := c.conn.transact(ctx, c.Database, ops)
	c.settle(err)
	return results, err
}

// settle ends the connection unless the server has answered, if only that it
// refuses an operation: what came otherwise is no place to go on from.
func (c *Client) settle(err error) {
	var refused *OpError
	if err != nil && !errors.As(err, &refused) {
		_ = c.Close() // it may be broken already
		return
	}
	c.used = time.Now()
}

func (c *Conn) transact(ctx context.Context, database string, ops []Operation) (Results, error) {
	params := make([]any, 0, 1+len(ops))
	params = append(params, database)
	for _, op := range ops {
		params = append(params, op)
	}
	answer, err := c.Call(ctx, "transact", params...)
	if err != nil {
		return nil, err
	}
	var r Results
	if err := r.read(answer); err != nil {
		return nil, fmt.Errorf("%s answers with something else: %w", c.name, err)
	}
	return r, r.refusal()
}

// connect makes a connection unless there is one that was used a moment ago. Servers
// that do not answer share the time that there is.
func (c *Client) connect(ctx context.Context) error {
	if c.conn != nil && time.Since(c.used) <= pauseLimit {
		return nil
	}
	_ = c.Close() // it may be broken
	var errs []error
	for i, endpoint := range c.Endpoints {
		conn, err := c.try(ctx, endpoint, len(c.Endpoints)-i)
		if err == nil {
			c.conn = conn
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// try connects to a server, in its part of the time left.
func (c *Client) try(ctx context.Context, endpoint vnet.Endpoint, parts int) (*Conn, error) {
	limit := answerLimit
	if deadline, ok := ctx.Deadline(); ok {
		limit = time.Until(deadline) / time.Duration(parts)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := Dial(ctx, c.Product, endpoint, c.TLS)
	if err != nil || len(c.Endpoints) == 1 {
		return conn, err
	}
	if err := c.leads(ctx, conn); err != nil {
		_ = conn.Close() // it is of no use
		return nil, err
	}
	return conn, nil
}

// leads reports as an error that the server is a follower in its cluster, or
// cut off from it.
func (c *Client) leads(ctx context.Context, conn *Conn) error {
	results, err := conn.transact(ctx, "_Server",
		[]Operation{Select("Database", Where("name", c.Database), "model", "leader", "connected")})
	if err != nil {
		return fmt.Errorf("%s: find the leader: %w", conn.name, err)
	}
	rows, err := Rows[server](results, 0)
	switch {
	case err != nil:
		return fmt.Errorf("%s: find the leader: %w", conn.name, err)
	case len(rows) == 0:
		return fmt.Errorf("%s: %w: it has no database %s", conn.name, switchcfg.ErrUnreachable, c.Database)
	case rows[0].model == "clustered" && !rows[0].connected:
		return fmt.Errorf("%s: %w: it has lost its cluster", conn.name, switchcfg.ErrUnreachable)
	case rows[0].model == "clustered" && !rows[0].leader:
		return fmt.Errorf("%s: %w: it is not the leader", conn.name, switchcfg.ErrUnreachable)
	}
	return nil
}

// server is a row of the table Database of the database _Server.
type server struct {
	model             string
	leader, connected bool
}

// Column implements [Record].
func (s *server) Column(name string) any {
	switch name {
	case "model":
		return &s.model
	case "leader":
		return &s.leader
	case "connected":
		return &s.connected
	}
	return nil
}

// Schema is the tables of a database and their columns.
type Schema map[string]map[string]bool

// Has reports whether the database has the column.
func (s Schema) Has(table, column string) bool { return s[table][column] }

// Schema asks for the schema, from which follows what the version that runs can
// do.
func (c *Client) Schema(ctx context.Context) (Schema, error) {
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	answer, err := c.conn.Call(ctx, "get_schema", c.Database)
	c.settle(err)
	if err != nil {
		return nil, err
	}
	members, _ := answer.(map[string]any)
	tables, ok := members["tables"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s answers with something else than a schema", c.Endpoints)
	}
	c.version, _ = members["version"].(string)
	schema := Schema{}
	for name, table := range tables {
		members, _ := table.(map[string]any)
		columns, _ := members["columns"].(map[string]any)
		schema[name] = make(map[string]bool, len(columns))
		for column := range columns {
			schema[name][column] = true
		}
	}
	return schema, nil
}

// SchemaVersion is the version of the schema that was asked for last.
func (c *Client) SchemaVersion() string { return c.version }
