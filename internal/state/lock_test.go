// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package state_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/state"
)

// holdEnv makes the test program take a lock and hold it until it is killed.
const holdEnv = "VIRT_VNET_TEST_HOLD_LOCK"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdEnv); dir != "" {
		if _, err := (state.Store{RunDir: dir}).Lock(context.Background(), "br0"); err != nil {
			panic(err)
		}
		_, _ = fmt.Fprintln(os.Stdout, "held")
		select {}
	}
	m.Run()
}

// holder starts a process that holds the lock of br0, and returns its id.
func holder(t *testing.T, s state.Store) *os.Process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), holdEnv+"="+s.RunDir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("holder: %q, %v", line, err)
	}
	return cmd.Process
}

func TestLockSaysWhoHoldsIt(t *testing.T) {
	s := newStore(t)
	p := holder(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Lock(ctx, "br0")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Lock: %v, want a timeout", err)
	}
	for _, want := range []string{"switch br0", "process " + strconv.Itoa(p.Pid)} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Lock: %v, want %q in it", err, want)
		}
	}
	unlock, err := s.Lock(t.Context(), "br1")
	if err != nil {
		t.Fatalf("lock of another switch: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

func TestLockEndsWithItsProcess(t *testing.T) {
	s := newStore(t)
	p := holder(t, s)
	got := make(chan error, 1)
	go func() {
		unlock, err := s.Lock(t.Context(), "br0")
		if err == nil {
			err = unlock()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("locked while another process holds it (error %v)", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// A waiter that gave up must not take the lock later, when nobody expects it.
func TestLockGivenUpStaysFree(t *testing.T) {
	s := newStore(t)
	unlock, err := s.Lock(t.Context(), "br0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(ctx, "br0"); err == nil {
		t.Fatal("locked twice")
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		unlock, err := s.Lock(t.Context(), "br0")
		if err != nil {
			t.Fatal(err)
		}
		if err := unlock(); err != nil {
			t.Fatal(err)
		}
	}
}

// The guest's lock excludes even while its file is removed by each holder.
func TestLockExcludes(t *testing.T) {
	s := newStore(t)
	var inside, count atomic.Int32 // atomic only because the race detector knows nothing of flock
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 20 {
				unlock, err := s.LockGuest(t.Context(), uuid)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d inside", n)
				}
				count.Add(1)
				inside.Add(-1)
				if err := errors.Join(s.RemoveGuest(uuid), unlock()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := count.Load(); n != 400 {
		t.Errorf("%d times inside, want 400", n)
	}
	left, err := filepath.Glob(filepath.Join(s.RunDir, "locks", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Whoever can read a lock file can take the lock and hold up every guest.
func TestLocksAreRootsOnly(t *testing.T) {
	s := newStore(t)
	unlock, err := s.Lock(t.Context(), "../br0")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock() //nolint:errcheck // of no interest here
	info, err := os.Stat(filepath.Join(s.RunDir, "locks"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v, want 0700", info.Mode(), err)
	}
	if files, err := filepath.Glob(filepath.Join(s.RunDir, "locks", "switch-*.lock")); err != nil || len(files) != 1 {
		t.Errorf("lock files: %v, %v, want one", files, err)
	}
}
