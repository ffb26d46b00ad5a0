// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"context"
	"database/sql"
	"fmt"
)

// migrations lead from each version of the schema (user_version) to the next,
// from an empty file on. Times are nanoseconds since 1970, durations
// nanoseconds. Never change one that was released: add another.
var migrations = []string{
	`CREATE TABLE runs (
		id       INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice
		started  INTEGER NOT NULL,
		duration INTEGER NOT NULL,
		verdict  TEXT NOT NULL,
		nightly  INTEGER NOT NULL,
		guests   TEXT NOT NULL, -- JSON lists of names; [] for the whole site
		networks TEXT NOT NULL,
		nics     INTEGER NOT NULL,
		problems INTEGER NOT NULL,
		report   BLOB NOT NULL  -- verify.Report, see packReport
	);
	CREATE TABLE endpoints (
		id      INTEGER PRIMARY KEY,
		guest   TEXT NOT NULL,
		mac     TEXT NOT NULL,
		network TEXT NOT NULL,
		UNIQUE (guest, mac, network)
	);
	CREATE TABLE samples (
		run      INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
		endpoint INTEGER NOT NULL REFERENCES endpoints,
		status   TEXT NOT NULL,
		median   INTEGER NOT NULL, -- latency, or 0
		PRIMARY KEY (run, endpoint)
	) WITHOUT ROWID;
	CREATE TABLE standings (
		run      INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
		key      TEXT NOT NULL, -- code and subject
		since    INTEGER NOT NULL,
		open     INTEGER NOT NULL,
		unsure   INTEGER NOT NULL,
		changed  INTEGER NOT NULL,
		flapping INTEGER NOT NULL,
		problem  BLOB NOT NULL, -- verify.Problem as last present, see packProblem
		PRIMARY KEY (run, key)
	) WITHOUT ROWID;`,
	"ALTER TABLE runs ADD COLUMN here INTEGER NOT NULL DEFAULT 0",
}

// hereSince is the version from which on runs have the column here. A view may be
// of an older file.
const hereSince = 2

// migrate brings the file up to the last version.
func (s *Store) migrate(ctx context.Context) error {
	var version int
	if err := s.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return s.wrap("read its version", err)
	}
	if version > len(migrations) {
		return fmt.Errorf("history %s: %w (version %d, this one knows %d)", s.path, ErrNewer, version, len(migrations))
	}
	if version == len(migrations) {
		return nil
	}
	if version == 0 {
		// Only a new file can be told to give back what is deleted.
		if _, err := s.db.ExecContext(ctx, "PRAGMA auto_vacuum = incremental"); err != nil {
			return s.wrap("make", err)
		}
	}
	return s.transact(ctx, func(tx *sql.Tx) error {
		// Somebody else may have been here in the meantime.
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		for ; version < len(migrations); version++ {
			if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version))
		return err
	})
}
