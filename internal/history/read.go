// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// nights is what there is to compare a run with.
type nights struct {
	runs    []Run
	ledger  ledger
	samples map[endpoint][]Sample
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// collect calls scan for every row.
func collect(ctx context.Context, q querier, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // Err has it
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// readNights reads the nights before a run, as far as they matter to its NICs.
func readNights(ctx context.Context, q querier, rows string) (nights, error) {
	n := nights{samples: map[endpoint][]Sample{}}
	var err error
	if n.runs, err = readRuns(ctx, q, len(migrations), "WHERE nightly ORDER BY id DESC LIMIT ?", trendNights); err != nil || len(n.runs) == 0 {
		return n, err
	}
	byRun := map[int64]night{}
	for _, r := range n.runs[:min(len(n.runs), flapWindow-1)] {
		byRun[r.ID] = night{started: r.Started, standings: map[string]standing{}}
		n.ledger = append(n.ledger, byRun[r.ID])
	}
	if err := readStandings(ctx, q, byRun, n.runs[len(n.ledger)-1].ID); err != nil {
		return n, err
	}
	return n, readSamples(ctx, q, n.samples, n.runs[len(n.runs)-1].ID, rows)
}

func readStandings(ctx context.Context, q querier, byRun map[int64]night, oldest int64) error {
	return collect(ctx, q, func(rows *sql.Rows) error {
		var run, since int64
		var key string
		var s standing
		var packed []byte
		err := rows.Scan(&run, &key, &since, &s.open, &s.unsure, &s.changed, &s.flapping, &packed)
		if err != nil {
			return err
		}
		s.since = time.Unix(0, since)
		if s.problem, err = unpackProblem(packed); err != nil {
			return &contentError{fmt.Errorf("problem %s of run %d: %w", key, run, err)}
		}
		byRun[run].standings[key] = s
		return nil
	}, "SELECT run, key, since, open, unsure, changed, flapping, problem FROM standings WHERE run >= ?", oldest)
}

func readSamples(ctx context.Context, q querier, samples map[endpoint][]Sample, oldest int64, of string) error {
	return collect(ctx, q, func(rows *sql.Rows) error {
		var e endpoint
		var mac string
		var s Sample
		var started, median int64
		if err := rows.Scan(&e.guest, &mac, &e.network, &started, &s.Status, &median); err != nil {
			return err
		}
		if mac != (vnet.MAC{}).String() {
			var err error
			if e.mac, err = vnet.ParseMAC(mac); err != nil {
				return &contentError{err}
			}
		}
		s.Time, s.Median = time.Unix(0, started), time.Duration(median)
		samples[e] = append(samples[e], s)
		return nil
	}, `SELECT guest, mac, network, started, status, median FROM samples
		JOIN endpoints ON endpoints.id = endpoint JOIN runs ON runs.id = run
		WHERE run >= ? AND endpoint IN (SELECT e.id FROM json_each(?) JOIN endpoints e
			ON e.guest = value->>0 AND e.mac = value->>1 AND e.network = value->>2)
		ORDER BY run`, oldest, of)
}

func readRuns(ctx context.Context, q querier, version int, where string, args ...any) ([]Run, error) {
	here := "here"
	if version < hereSince {
		here = "0"
	}
	var runs []Run
	err := collect(ctx, q, func(rows *sql.Rows) error {
		var r Run
		var started, duration int64
		var guests, networks string
		if err := rows.Scan(&r.ID, &started, &duration, &r.Verdict, &r.Nightly, &guests, &networks, &r.Here, &r.NICs, &r.Problems); err != nil {
			return err
		}
		r.Started, r.Duration = time.Unix(0, started), time.Duration(duration)
		if err := errors.Join(json.Unmarshal([]byte(guests), &r.Guests), json.Unmarshal([]byte(networks), &r.Networks)); err != nil {
			return &contentError{fmt.Errorf("run %d: %w", r.ID, err)}
		}
		runs = append(runs, r)
		return nil
	}, "SELECT id, started, duration, verdict, nightly, guests, networks, "+here+", nics, problems FROM runs "+where, args...)
	return runs, err
}

// Runs returns the last runs, or nightly runs, the newest first, and all of them
// for limit 0.
func (s *Store) Runs(ctx context.Context, limit int, nightly bool) ([]Run, error) {
	if limit == 0 {
		limit = -1
	}
	runs, err := readRuns(ctx, s.db, s.version, "WHERE nightly >= ? ORDER BY id DESC LIMIT ?", nightly, limit)
	return runs, s.wrap("read runs", err)
}

// Find returns the run that name means: a number, "last", or "last~2" for the
// second before the last. The error is [ErrNoRun].
func (s *Store) Find(ctx context.Context, name string) (Run, error) {
	where, number := "WHERE id = ?", name
	if rest, ok := strings.CutPrefix(name, "last"); ok {
		where, number = "ORDER BY id DESC LIMIT 1 OFFSET ?", "0"
		if rest != "" {
			if number, ok = strings.CutPrefix(rest, "~"); !ok {
				number = rest // and no number
			}
		}
	}
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return Run{}, fmt.Errorf("%w: %q: want a number of virt-vnet history, last, or last~1", ErrNoRun, name)
	}
	runs, err := readRuns(ctx, s.db, s.version, where, n)
	if err != nil {
		return Run{}, s.wrap("read run", err)
	}
	if len(runs) == 0 {
		return Run{}, fmt.Errorf("%w: %s; virt-vnet history lists those that are kept", ErrNoRun, name)
	}
	return runs[0], nil
}

// Report returns the whole report of a run. The error is [ErrNoRun].
func (s *Store) Report(ctx context.Context, id int64) (verify.Report, error) {
	var packed []byte
	err := s.db.QueryRowContext(ctx, "SELECT report FROM runs WHERE id = ?", id).Scan(&packed)
	if errors.Is(err, sql.ErrNoRows) {
		return verify.Report{}, fmt.Errorf("%w: %d", ErrNoRun, id)
	}
	if err != nil {
		return verify.Report{}, s.wrap("read report", err)
	}
	report, err := unpackReport(packed)
	if err != nil {
		return verify.Report{}, fmt.Errorf("history %s: report %d: %w", s.path, id, err)
	}
	return report, nil
}
