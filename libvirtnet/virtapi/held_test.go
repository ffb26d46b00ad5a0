// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"libvirt.org/go/libvirt"
)

func TestHeld(t *testing.T) {
	for reason, want := range map[libvirt.DomainPausedReason]string{
		libvirt.DOMAIN_PAUSED_UNKNOWN:         "",
		libvirt.DOMAIN_PAUSED_USER:            "",
		libvirt.DOMAIN_PAUSED_IOERROR:         "",
		libvirt.DOMAIN_PAUSED_FROM_SNAPSHOT:   "",
		libvirt.DOMAIN_PAUSED_POSTCOPY_FAILED: "",
		libvirt.DOMAIN_PAUSED_MIGRATION:       "a migration",
		libvirt.DOMAIN_PAUSED_POSTCOPY:        "a migration",
		libvirt.DOMAIN_PAUSED_SNAPSHOT:        "a snapshot",
		libvirt.DOMAIN_PAUSED_SAVE:            "a save",
		libvirt.DOMAIN_PAUSED_DUMP:            "a core dump",
		libvirt.DOMAIN_PAUSED_STARTING_UP:     "its start",
	} {
		if got := held(libvirt.DOMAIN_PAUSED, int(reason)); got != want {
			t.Errorf("paused for reason %d: %q, want %q", reason, got, want)
		}
		if got := held(libvirt.DOMAIN_RUNNING, int(reason)); got != "" {
			t.Errorf("running for reason %d: %q", reason, got)
		}
	}
}

// TestOpenSilence has a libvirt that takes the connection and says nothing.
func TestOpenSilence(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	listener, err := net.Listen("unix", path) //nolint:noctx // it listens until the test ends
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // nothing depends on it
	began := time.Now()
	_, err = openPatiently(t.Context(), "qemu+unix:///system?socket="+path, 200*time.Millisecond)
	if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "does it hang?") || time.Since(began) > 20*time.Second {
		t.Errorf("error %v after %v", err, time.Since(began))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, "qemu+unix:///system?socket="+path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v when the caller's time is over", err)
	}
}
