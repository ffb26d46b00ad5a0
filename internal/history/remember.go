// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/virt-vnet/virt-vnet/verify"
)

// Retention of what is older than [Scope.Keep], and of runs by hand, which may
// be many.
const (
	keepNights = 14
	keepByHand = 100
)

// Scope is what a run looked at, and how long it is to be kept.
type Scope struct {
	// Nightly runs are those that runs are compared with. They look at the
	// whole site: Guests and Networks are empty.
	Nightly bool
	// Guests and Networks are what the run was narrowed to.
	Guests, Networks []string
	// Here means that the guests of other hosts were left out.
	Here bool
	// Keep is for how long runs are kept; 14 nights always are, and of other
	// runs never more than 100.
	Keep time.Duration
}

func (s Scope) narrowed() bool { return s.Here || len(s.Guests)+len(s.Networks) > 0 }

// Remember compares a run with the nights before, appends notes of NICs that
// are slower than in those to its problems, and keeps it.
//
// What is returned of the past, nil when there was no night to compare a run by
// hand with, is good also beside an error, which then says that the run could
// not be kept. An error that is a [*DamagedError] leaves no past.
func (s *Store) Remember(ctx context.Context, report *verify.Report, scope Scope) (*Past, error) {
	var past *Past
	samples, err := sampleRows(*report)
	if err != nil {
		return nil, fmt.Errorf("history %s: %w", s.path, err)
	}
	err = s.transact(ctx, func(tx *sql.Tx) error {
		before, err := readNights(ctx, tx, samples)
		if err != nil {
			return err
		}
		var after map[string]standing
		if scope.Nightly || len(before.runs) > 0 {
			past = &Past{Runs: before.runs, Trends: trends(*report, before.samples)}
			report.Problems = append(report.Problems, slowNotes(*report, past.Trends)...)
			past.Changes, after = before.ledger.compare(look(*report, scope.narrowed()))
		}
		id, err := insertRun(ctx, tx, *report, scope)
		if err != nil {
			return err
		}
		if scope.Nightly {
			if err := errors.Join(insertSamples(ctx, tx, id, samples), insertStandings(ctx, tx, id, after)); err != nil {
				return err
			}
		}
		return prune(ctx, tx, report.Started.Add(-scope.Keep))
	})
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		return nil, err
	}
	if err != nil {
		return past, err
	}
	return past, s.shrink(ctx)
}

func insertRun(ctx context.Context, tx *sql.Tx, report verify.Report, scope Scope) (int64, error) {
	packed, err := packReport(report)
	if err != nil {
		return 0, err
	}
	result, err := tx.ExecContext(ctx, `INSERT INTO runs
		(started, duration, verdict, nightly, guests, networks, here, nics, problems, report) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		report.Started.UnixNano(), int64(report.Duration), string(report.Verdict()), scope.Nightly,
		names(scope.Guests), names(scope.Networks), scope.Here, len(report.NICs), len(report.Problems), packed)
	if err != nil {
		return 0, err
	}
	return result.LastInsertId()
}

// names is a list of names as JSON.
func names(list []string) string {
	text, err := json.Marshal(append([]string{}, list...))
	if err != nil {
		return "[]" // a list of strings always has a JSON form
	}
	return string(text)
}

// sampleRows is a report's samples as JSON, out of which SQLite takes rows many
// times faster than by a statement for each.
func sampleRows(report verify.Report) (string, error) {
	rows := make([][]any, len(report.NICs))
	for i, n := range report.NICs {
		s := sampleOf(report.Started, n)
		rows[i] = []any{n.Guest, n.MAC.String(), n.Network, s.Status, s.Median}
	}
	text, err := json.Marshal(rows)
	return string(text), err
}

func insertSamples(ctx context.Context, tx *sql.Tx, run int64, rows string) error {
	if _, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO endpoints (guest, mac, network)
		SELECT value->>0, value->>1, value->>2 FROM json_each(?)`, rows); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO samples (run, endpoint, status, median)
		SELECT ?, endpoints.id, value->>3, value->>4 FROM json_each(?) JOIN endpoints
		ON guest = value->>0 AND mac = value->>1 AND network = value->>2`, run, rows)
	return err
}

func insertStandings(ctx context.Context, tx *sql.Tx, run int64, standings map[string]standing) error {
	for key, s := range standings {
		packed, err := packProblem(s.problem)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO standings
			(run, key, since, open, unsure, changed, flapping, problem) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			run, key, s.since.UnixNano(), s.open, s.unsure, s.changed, s.flapping, packed); err != nil {
			return err
		}
	}
	return nil
}

// prune forgets what is older than oldest and not among the last nights.
func prune(ctx context.Context, tx *sql.Tx, oldest time.Time) error {
	for _, step := range []struct {
		statement string
		args      []any
	}{
		{`DELETE FROM runs WHERE nightly AND started < ?
			AND id NOT IN (SELECT id FROM runs WHERE nightly ORDER BY id DESC LIMIT ?)`, []any{oldest.UnixNano(), keepNights}},
		{`DELETE FROM runs WHERE NOT nightly AND (started < ?
			OR id NOT IN (SELECT id FROM runs WHERE NOT nightly ORDER BY id DESC LIMIT ?))`, []any{oldest.UnixNano(), keepByHand}},
		{"DELETE FROM endpoints WHERE id NOT IN (SELECT endpoint FROM samples)", nil},
	} {
		if _, err := tx.ExecContext(ctx, step.statement, step.args...); err != nil {
			return fmt.Errorf("forget old runs: %w", err)
		}
	}
	return nil
}

// shrink gives back the pages that what was forgotten leaves.
func (s *Store) shrink(ctx context.Context) error {
	rows, err := s.db.QueryContext(ctx, "PRAGMA incremental_vacuum")
	if err != nil {
		return s.wrap("shrink", err)
	}
	for rows.Next() { // a page each
	}
	return s.wrap("shrink", errors.Join(rows.Err(), rows.Close()))
}
