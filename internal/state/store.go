// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Where the records live unless a test or an option says otherwise. RunDir must
// be a tmpfs: what it says is void after a reboot, as the taps are.
const (
	DefaultStateDir = "/var/lib/virt-vnet"
	DefaultRunDir   = "/run/virt-vnet"
)

// format is the version of every record this program writes.
const format = 1

// Errors of records that cannot be used. A record that is not there is
// [fs.ErrNotExist]. Test for them with [errors.Is].
var (
	// ErrDamaged means that a record is torn or not one of ours.
	ErrDamaged = errors.New("damaged record")
	// ErrNewer means that a newer virt-vnet wrote the record, in a format
	// that this one does not know.
	ErrNewer = errors.New("written by a newer virt-vnet")
)

// Store is the two directories of records. Both must be set. Its methods are
// safe for concurrent use by any number of processes.
type Store struct {
	StateDir string
	RunDir   string
}

// put writes record to path, atomically and durably, with its directory if that
// is missing. Everybody may read records, so that listing needs no root.
func put(path string, record any) error {
	data, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("record %s: %w", path, err)
	}
	err = writeFile(path, append(data, '\n'))
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = writeFile(path, append(data, '\n'))
		}
	}
	if err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

// writeFile replaces path: a reader, and a reboot in the middle, find either
// the old file or the new one.
func writeFile(path string, data []byte) (err error) {
	name := filepath.Join(filepath.Dir(path), fmt.Sprintf(".new-%d-%x", os.Getpid(), rand.Uint64()))
	f, err := open(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(name))
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := unix.Rename(name, path); err != nil {
		return &os.LinkError{Op: "rename", Old: name, New: path, Err: err}
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes renames and removals in dir durable.
func syncDir(dir string) error {
	d, err := open(dir, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// open is [os.OpenFile] without the attempt to poll the file, which costs more
// than reading a record and never succeeds with regular files.
func open(path string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func readFile(path string) ([]byte, error) {
	f, err := open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}

// get reads the record at path. version is the field of record that its format
// version is read into.
func get(path string, record any, version *int) error {
	data, err := readFile(path)
	if err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	err = json.Unmarshal(data, record)
	if err == nil && *version == format {
		return nil
	}
	// A newer record may well be no record of ours to read.
	var head struct {
		Format int `json:"format"`
	}
	if errHead := json.Unmarshal(data, &head); errHead == nil && head.Format > format {
		return fmt.Errorf("record %s: %w (format %d, this one knows %d)", path, ErrNewer, head.Format, format)
	}
	if err == nil {
		err = errors.New("it has no format version")
	}
	return fmt.Errorf("record %s: %w: %w", path, ErrDamaged, err)
}

// remove deletes the record at path. One that is gone already is fine.
func remove(path string) error {
	err := os.Remove(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("remove record: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// list reads every record in dir with read, sorted by file name. Records that
// cannot be read make the error and leave the others in the list.
func list[T any](dir string, read func(path string) (T, error)) ([]T, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list records: %w", err)
	}
	var records []T
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		record, err := read(filepath.Join(dir, e.Name()))
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed since it was listed
		case err != nil:
			errs = append(errs, err)
		default:
			records = append(records, record)
		}
	}
	return records, errors.Join(errs...)
}

// fileName turns any name into one path element, and different names into
// different elements: letters, digits and "-_." stay, except a dot in front,
// everything else is %XX. The empty name is "%".
func fileName(name string) string {
	if name == "" {
		return "%"
	}
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
