// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package state

import (
	"path/filepath"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg"
)

// Stale is the ports of a switch that the last look found without a guest, so
// that the next look can tell which of them were so before.
type Stale struct {
	Format int         `json:"format"` // set by PutStale
	Switch string      `json:"switch"`
	Ports  []StalePort `json:"ports"`
}

// StalePort is a port that carries our mark and has no guest.
type StalePort struct {
	Device string          `json:"device"`
	Owner  switchcfg.Owner `json:"owner"`
	// Index tells the device from a later one of its name, or is zero.
	Index int `json:"index,omitempty"`
	// Since is when it was first found so.
	Since time.Time `json:"since"`
}

func (s Store) stalePath(name string) string {
	return filepath.Join(s.StateDir, "stale", fileName(name)+".json")
}

// PutStale writes the record of w.Switch, replacing the one there is, and removes
// it when there are no ports. The caller holds the switch's lock.
func (s Store) PutStale(w Stale) error {
	if len(w.Ports) == 0 {
		return remove(s.stalePath(w.Switch))
	}
	w.Format = format
	return put(s.stalePath(w.Switch), w)
}

// Stale reads the record of a switch. The error is [fs.ErrNotExist] when the last
// look found no such port, [ErrDamaged] or [ErrNewer].
func (s Store) Stale(name string) (Stale, error) {
	var w Stale
	err := get(s.stalePath(name), &w, &w.Format)
	return w, err
}
