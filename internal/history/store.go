// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// FileName is the store's name in its directory.
const FileName = "history.sqlite"

// busyLimit is how long to wait for others to finish: after a boot of the host
// many may have something to keep.
const busyLimit = 30 * time.Second

var (
	// ErrNewer means that a newer virt-vnet wrote the file, in a way that this
	// one does not know. It is left alone.
	ErrNewer = errors.New("written by a newer virt-vnet")
	// ErrNoRun means that there is no such run, or no longer.
	ErrNoRun = errors.New("no such run")
)

// Store is an open history. Its methods are safe for concurrent use, also by
// several processes.
type Store struct {
	db   *sql.DB
	path string
	file os.FileInfo
	// version is the file's.
	version int
}

// Open opens the history in dir for writing, and makes what is missing of it:
// the directory, and the file, which is for root alone, for it names every guest.
//
// A file that is no history or a broken one is a [*DamagedError]. The error
// wraps [ErrNewer], or what the file system says, such as [fs.ErrPermission].
// Close the store when done.
func Open(ctx context.Context, dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	return open(ctx, dir, os.O_RDWR|os.O_CREATE, url.Values{
		"_txlock": {"immediate"},
		// Nothing is lost by a power cut once a run is remembered: the directory
		// is synchronised, too.
		"_pragma": {"synchronous(extra)", "foreign_keys(1)"},
	}, func(s *Store) error {
		if err := s.check(ctx); err != nil {
			return err
		}
		return s.migrate(ctx)
	})
}

// View opens the history in dir for reading. The error is [fs.ErrNotExist] when
// there is none yet, and else as that of [Open].
func View(ctx context.Context, dir string) (*Store, error) {
	return open(ctx, dir, os.O_RDONLY, url.Values{"_pragma": {"query_only(1)"}}, func(s *Store) error {
		var version int
		err := s.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
		switch {
		case err != nil:
			return s.wrap("read its version", err)
		case version == 0:
			return fmt.Errorf("history %s is empty: %w", s.path, fs.ErrNotExist)
		case version > len(migrations):
			return fmt.Errorf("history %s: %w (version %d, this one knows %d)", s.path, ErrNewer, version, len(migrations))
		}
		s.version = version
		return nil
	})
}

func open(ctx context.Context, dir string, flags int, query url.Values, prepare func(*Store) error) (*Store, error) {
	path, err := filepath.Abs(filepath.Join(dir, FileName))
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	// The file system's own words are better than SQLite's.
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	info, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	query.Set("mode", "rw")
	query.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busyLimit.Milliseconds()))
	location := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", location.String())
	if err != nil {
		return nil, fmt.Errorf("history %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	s := &Store{db: db, path: path, file: info, version: len(migrations)}
	err = s.wrap("open", db.PingContext(ctx))
	if err == nil {
		err = prepare(s)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// Close closes the store.
func (s *Store) Close() error { return s.wrap("close", s.db.Close()) }

// check looks whether the file is whole.
func (s *Store) check(ctx context.Context) error {
	var result string
	if err := s.db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
		return s.wrap("check", err)
	}
	if result != "ok" {
		return &DamagedError{Path: s.path, Err: errors.New(result), file: s.file}
	}
	return nil
}

// transact does all of do or nothing.
func (s *Store) transact(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.wrap("write", err)
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback() // SQLite has done it already after some errors
		return s.wrap("write", err)
	}
	return s.wrap("write", tx.Commit())
}

// wrap says what failed, and makes damage a [*DamagedError].
func (s *Store) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	var content *contentError
	if errors.As(err, &content) {
		return &DamagedError{Path: s.path, Err: err, file: s.file}
	}
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff { // the rest is the extended code
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return &DamagedError{Path: s.path, Err: err, file: s.file}
		case sqlite3.SQLITE_FULL:
			return fmt.Errorf("history %s: %s: no space left on its file system: %w", s.path, what, err)
		case sqlite3.SQLITE_BUSY:
			return fmt.Errorf("history %s: %s: another process has been writing for %v: %w", s.path, what, busyLimit, err)
		}
	}
	return fmt.Errorf("history %s: %s: %w", s.path, what, err)
}

// contentError is of a row that is not what we wrote.
type contentError struct{ error }

// DamagedError says that the file is no history, or a broken one.
type DamagedError struct {
	Path string
	Err  error

	file os.FileInfo
}

// Error implements error.
func (e *DamagedError) Error() string { return fmt.Sprintf("history %s is damaged: %v", e.Path, e.Err) }

// Unwrap returns what SQLite says.
func (e *DamagedError) Unwrap() error { return e.Err }

// SetAside renames the damaged file, so that a new history can begin, and
// returns its new name. When somebody else has done so already it does nothing
// and returns "".
func (e *DamagedError) SetAside(now time.Time) (string, error) {
	here, err := os.Stat(e.Path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(here, e.file) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("history: set aside: %w", err)
	}
	name := e.Path + ".corrupt-" + now.UTC().Format("20060102T150405Z")
	if err := os.Rename(e.Path, name); err != nil {
		return "", fmt.Errorf("history: set aside: %w", err)
	}
	// A journal would otherwise be played back into the new file.
	err = os.Rename(e.Path+"-journal", name+"-journal")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return name, fmt.Errorf("history: set aside: %w", err)
	}
	return name, nil
}
