// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Lock takes the lock of a switch: who holds it is the only virt-vnet process
// that looks at the switch and changes it. It waits until ctx ends; the error
// then names the process that holds the lock. Call unlock once. The kernel
// unlocks when the process dies.
//
// Whoever needs several locks takes the guest's first and then those of the
// switches in the order of their names, so that no two wait for each other.
func (s Store) Lock(ctx context.Context, switchName string) (unlock func() error, err error) {
	return s.lock(ctx, "switch "+switchName, "switch-"+fileName(switchName))
}

// LockGuest takes the lock of a guest, as [Store.Lock] does: who holds it is
// the only one that writes the guest's record.
func (s Store) LockGuest(ctx context.Context, uuid string) (unlock func() error, err error) {
	record, err := s.guestPath(uuid)
	if err != nil {
		return nil, err
	}
	name := "guest-" + strings.ToLower(uuid)
	release, err := s.lock(ctx, "guest "+uuid, name)
	if err != nil {
		return nil, err
	}
	return func() error {
		// Hosts that make a new guest for every job would collect lock files.
		if _, err := os.Lstat(record); errors.Is(err, fs.ErrNotExist) {
			if err := os.Remove(s.lockPath(name)); err != nil {
				return errors.Join(err, release())
			}
		}
		return release()
	}, nil
}

func (s Store) lockPath(name string) string {
	return filepath.Join(s.RunDir, "locks", name+".lock")
}

func (s Store) lock(ctx context.Context, subject, name string) (func() error, error) {
	path := s.lockPath(name)
	for {
		f, err := openLock(path)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", subject, err)
		}
		if err := flock(ctx, f); err != nil {
			return nil, fmt.Errorf("lock %s: held by %s: %w", subject, holder(path), err)
		}
		// The one before us may have removed the file: then the next one
		// would lock another file than we did.
		if !current(f, path) {
			_ = f.Close()
			continue
		}
		if err := sign(f); err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", subject, err), f.Close())
		}
		return f.Close, nil
	}
}

// openLock opens the file that stands for a lock. Nobody else may open it: a
// lock can be taken by whoever can read its file, and would hold up every guest.
func openLock(path string) (*os.File, error) {
	const flags = os.O_RDWR | os.O_CREATE
	f, err := open(path, flags, 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return open(path, flags, 0o600)
}

// flock locks f. It sleeps in the kernel rather than trying again and again: a
// hundred hooks may be waiting for the same bridge.
func flock(ctx context.Context, f *os.File) error {
	fd := int(f.Fd())
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- flockWait(fd) }()
	select {
	case err := <-done:
		if err != nil {
			return errors.Join(err, f.Close())
		}
		return nil
	case <-ctx.Done():
		go func() {
			_ = errors.Join(<-done, f.Close()) // locked or not, nobody waits for it
		}()
		return ctx.Err()
	}
}

func flockWait(fd int) error {
	for {
		if err := unix.Flock(fd, unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// current reports whether f is still the file at path.
func current(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there)
}

// sign writes into the lock who holds it.
func sign(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder says who holds the lock at path, as far as can be told.
func holder(path string) string {
	text, err := os.ReadFile(path)
	pid := strings.TrimSpace(string(text))
	if err != nil || pid == "" {
		return "another process"
	}
	comm, err := os.ReadFile(filepath.Join("/proc", pid, "comm"))
	if err != nil {
		return "process " + pid
	}
	return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(comm)))
}
