// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/virt-vnet/virt-vnet/verify"
)

func TestRetention(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	big := func(i int) verify.Report {
		r := report(i, map[verify.Endpoint]rune{web1: '-'})
		r.Limits = []string{strings.Repeat(fmt.Sprint(i), 2000)}
		return r
	}
	for i := range 110 {
		remember(t, s, big(i%5), Scope{Keep: nightly.Keep})
	}
	for i := range 60 {
		remember(t, s, big(i), Scope{Nightly: true, Keep: 20 * 24 * time.Hour})
	}
	runs, err := s.Runs(t.Context(), 0, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(runs); got != 21 || !runs[0].Started.Equal(at(59)) || !runs[20].Started.Equal(at(39)) {
		t.Errorf("%d runs are kept, from %v on", got, runs[len(runs)-1].Started)
	}
	// A clock that jumped does not make it forget the last nights.
	remember(t, s, report(10_000, map[verify.Endpoint]rune{web1: '-'}), nightly)
	remember(t, s, report(60, map[verify.Endpoint]rune{web2: '-'}), nightly)
	if runs, err = s.Runs(t.Context(), 0, false); err != nil || len(runs) != keepNights+1 {
		t.Errorf("%d runs are kept after a jump of the clock, %v", len(runs), err)
	}
	var pages, free, endpoints int
	for query, to := range map[string]*int{
		"PRAGMA page_count": &pages, "PRAGMA freelist_count": &free, "SELECT count(*) FROM endpoints": &endpoints,
	} {
		if err := s.db.QueryRowContext(t.Context(), query).Scan(to); err != nil {
			t.Fatal(err)
		}
	}
	if free != 0 || pages > 40 || endpoints != 2 {
		t.Errorf("%d pages, %d of them free, %d endpoints", pages, free, endpoints)
	}
	if _, err := s.Report(t.Context(), 1); !errors.Is(err, ErrNoRun) {
		t.Errorf("report of a forgotten run: %v", err)
	}
}

func TestReportComesBack(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	want := report(0, map[verify.Endpoint]rune{web1: '+', web2: '?'})
	remember(t, s, want, nightly)
	view, err := View(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close() //nolint:errcheck // read only
	for _, name := range []string{"last", "1", "last~0"} {
		run, err := view.Find(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if run.Verdict != verify.VerdictFail || !run.Nightly || run.NICs != 2 || run.Problems != 1 || run.Narrowed() {
			t.Errorf("%s is %+v", name, run)
		}
		got, err := view.Report(t.Context(), run.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("the report does not come back (-want +got):\n%s", diff)
		}
	}
	for _, name := range []string{"0", "2", "last~1", "last~", "lastly", "-1", "", "99999999999999999999"} {
		if run, err := view.Find(t.Context(), name); !errors.Is(err, ErrNoRun) {
			t.Errorf("%q is %+v, %v", name, run, err)
		}
	}
	if _, err := view.db.ExecContext(t.Context(), "DELETE FROM runs"); err == nil {
		t.Error("a view can write")
	}
	if info, err := os.Stat(filepath.Join(dir, FileName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
}

// TestFirstVersion has a file of the first version, which is read as it is and
// then written to.
func TestFirstVersion(t *testing.T) {
	dir := t.TempDir()
	path := fill(t, dir)
	db, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = db.ExecContext(t.Context(), "ALTER TABLE runs DROP COLUMN here; PRAGMA user_version = 1")
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	count := func() int {
		view, err := View(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		defer view.Close() //nolint:errcheck // read only
		runs, err := view.Runs(t.Context(), 0, false)
		if err != nil || len(runs) == 0 {
			t.Fatalf("runs %+v, %v", runs, err)
		}
		return len(runs)
	}
	before := count()
	s := openStore(t, dir)
	remember(t, s, report(30, map[verify.Endpoint]rune{web1: '-'}), Scope{Here: true, Keep: nightly.Keep})
	if after := count(); after != before+1 {
		t.Errorf("%d runs, and then %d", before, after)
	}
	if runs, err := s.Runs(t.Context(), 1, false); err != nil || !runs[0].Here || !runs[0].Narrowed() {
		t.Errorf("the last run is %+v, %v", runs, err)
	}
}

func TestViewOfNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := View(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, FileName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := View(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty file: %v", err)
	}
}

// TestManyAtOnce has writers and readers in the same file.
func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	const writers, each = 4, 5
	errs := make(chan error, 2*writers*each)
	var wait sync.WaitGroup
	for range writers {
		wait.Go(func() {
			for i := range each {
				s, err := Open(t.Context(), dir)
				if err != nil {
					errs <- err
					continue
				}
				r := report(i, map[verify.Endpoint]rune{web1: '+'})
				_, err = s.Remember(t.Context(), &r, nightly)
				errs <- errors.Join(err, s.Close())
			}
		})
		wait.Go(func() {
			for range each {
				v, err := View(t.Context(), dir)
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err == nil {
					_, err = v.Runs(t.Context(), 0, false)
					err = errors.Join(err, v.Close())
				}
				errs <- err
			}
		})
	}
	wait.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if runs, err := openStore(t, dir).Runs(t.Context(), 0, false); err != nil || len(runs) != writers*each {
		t.Errorf("%d runs, %v, want %d", len(runs), err, writers*each)
	}
}
