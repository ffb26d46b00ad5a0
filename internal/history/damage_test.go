// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/verify"
)

// fill makes a history of some nights, long enough to be damaged in places.
func fill(t *testing.T, dir string) string {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		r := report(i, map[verify.Endpoint]rune{web1: '+', web2: '-'})
		for j := range 200 {
			r.Limits = append(r.Limits, fmt.Sprintf("%x", (i+1)*(j+1)*7919))
		}
		remember(t, s, r, nightly)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, FileName)
}

func TestDamage(t *testing.T) {
	for name, damage := range map[string]func(data []byte) []byte{
		"cut to a half":      func(data []byte) []byte { return data[:len(data)/2] },
		"cut in the header":  func(data []byte) []byte { return data[:50] },
		"cut by a page":      func(data []byte) []byte { return data[:len(data)-4096] },
		"no database at all": func([]byte) []byte { return []byte(strings.Repeat("something else\n", 1000)) },
		"garbage in the middle": func(data []byte) []byte {
			for i := 4096; i < 4*4096; i++ {
				data[i] = byte(i * 7)
			}
			return data
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := fill(t, dir)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data = damage(data)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = Open(t.Context(), dir)
			var damaged *DamagedError
			if !errors.As(err, &damaged) {
				t.Fatalf("error %v, want a *DamagedError", err)
			}
			if left, err := os.ReadFile(path); err != nil || string(left) != string(data) {
				t.Errorf("the damaged file was changed: %v", err)
			}
			_, again := Open(t.Context(), dir)
			aside, err := damaged.SetAside(at(30))
			if err != nil || filepath.Base(aside) != "history.sqlite.corrupt-20261201T023000Z" {
				t.Fatalf("set aside as %q, %v", aside, err)
			}
			if left, err := os.ReadFile(aside); err != nil || string(left) != string(data) {
				t.Errorf("what was set aside was changed: %v", err)
			}
			s := openStore(t, dir)
			remember(t, s, report(30, map[verify.Endpoint]rune{web1: '-'}), nightly)
			// Another process that had seen the damage leaves the new file alone.
			if !errors.As(again, &damaged) {
				t.Fatal(again)
			}
			if aside, err := damaged.SetAside(at(30)); aside != "" || err != nil {
				t.Errorf("the new file was set aside as %q, %v", aside, err)
			}
			if runs, err := s.Runs(t.Context(), 0, false); err != nil || len(runs) != 1 {
				t.Errorf("%d runs, %v", len(runs), err)
			}
		})
	}
}

// TestDamageInside is of the kind that SQLite does not see.
func TestDamageInside(t *testing.T) {
	dir := t.TempDir()
	path := fill(t, dir)
	db, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = db.ExecContext(t.Context(), "UPDATE standings SET problem = x'1f8b' WHERE run = 20; UPDATE runs SET report = x'1f8b' WHERE id = 20")
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, dir)
	if _, err := s.Report(t.Context(), 20); err == nil || !strings.Contains(err.Error(), "report 20") {
		t.Errorf("report: error %v", err)
	}
	r := report(20, map[verify.Endpoint]rune{web1: '+'})
	past, err := s.Remember(t.Context(), &r, nightly)
	var damaged *DamagedError
	if !errors.As(err, &damaged) || past != nil {
		t.Errorf("error %v, want a *DamagedError; past %+v", err, past)
	}
}

func TestNewerIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := fill(t, dir)
	db, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = db.ExecContext(t.Context(), "PRAGMA journal_mode = wal; PRAGMA user_version = 99; CREATE TABLE future (x)")
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(context.Context, string) (*Store, error){"Open": Open, "View": View} {
		_, err := open(t.Context(), dir)
		if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "version 99, this one knows 2") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file was changed: %v", err)
	}
}
