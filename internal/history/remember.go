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
	// Keep is for how long runs are kept; 14 nights always are, and of other
	// runs never more than 100.
	Keep time.Duration
}

func (s Scope) narrowed() bool { return len(s.Guests)+len(s.Networks) > 0 }

// Remember compares a run with the nights before, appends notes of NICs that
// are slower than in those to its problems, and keeps it.
//
// What is returned of the past, nil when there was no night to compare a run by
// hand with, is good also beside an error, which then says that the run could
// not be kept. An error that is a [*DamagedError] leaves no past.
func (s *Store) Remember(ctx context.Context, report *verify.Report, scope Scope) (*Past, error) {
	var past *Past
	err := s.transact(ctx, func(tx *sql.Tx) error {
		before, err := readNights(ctx, tx)
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
			if err := errors.Join(insertSamples(ctx, tx, id, *report), insertStandings(ctx, tx, id, after)); err != nil {
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
	packed, err := pack(report)
	if err != nil {
		return 0, err
	}
	result, err := tx.ExecContext(ctx, `INSERT INTO runs
		(started, duration, verdict, nightly, guests, networks, nics, problems, report) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		report.Started.UnixNano(), int64(report.Duration), string(report.Verdict()), scope.Nightly,
		names(scope.Guests), names(scope.Networks), len(report.NICs), len(report.Problems), packed)
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

func insertSamples(ctx context.Context, tx *sql.Tx, run int64, report verify.Report) error {
	add, err := tx.PrepareContext(ctx, "INSERT OR IGNORE INTO endpoints (guest, mac, network) VALUES (?, ?, ?)")
	if err != nil {
		return err
	}
	defer add.Close() //nolint:errcheck // the transaction's end says it all
	sample, err := tx.PrepareContext(ctx, `INSERT OR IGNORE INTO samples (run, endpoint, status, median)
		SELECT ?, id, ?, ? FROM endpoints WHERE guest = ? AND mac = ? AND network = ?`)
	if err != nil {
		return err
	}
	defer sample.Close() //nolint:errcheck // the transaction's end says it all
	for _, n := range report.NICs {
		mac := n.MAC.String()
		if _, err := add.ExecContext(ctx, n.Guest, mac, n.Network); err != nil {
			return err
		}
		s := sampleOf(report.Started, n)
		if _, err := sample.ExecContext(ctx, run, string(s.Status), int64(s.Median), n.Guest, mac, n.Network); err != nil {
			return err
		}
	}
	return nil
}

func insertStandings(ctx context.Context, tx *sql.Tx, run int64, standings map[string]standing) error {
	for key, s := range standings {
		packed, err := pack(s.problem)
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
