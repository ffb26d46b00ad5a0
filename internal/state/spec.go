// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package state

import (
	"path/filepath"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// GuestSpec is the applied intent of one guest: what the last apply made of the
// guest's part of the spec.
type GuestSpec struct {
	Format int        `json:"format"` // set by PutGuestSpec
	Guest  vnet.Guest `json:"guest"`
}

func (s Store) guestSpecPath(name string) string {
	return filepath.Join(s.StateDir, "guests", fileName(name)+".json")
}

// PutGuestSpec writes the record of g.Guest.Name, replacing the one there is.
func (s Store) PutGuestSpec(g GuestSpec) error {
	g.Format = format
	return put(s.guestSpecPath(g.Guest.Name), g)
}

// GuestSpec reads the record of the named guest. The error is [fs.ErrNotExist]
// when the spec says nothing of it, [ErrDamaged] or [ErrNewer].
func (s Store) GuestSpec(name string) (GuestSpec, error) { return readGuestSpec(s.guestSpecPath(name)) }

// RemoveGuestSpec deletes the record of the named guest. It succeeds when there
// is none.
func (s Store) RemoveGuestSpec(name string) error { return remove(s.guestSpecPath(name)) }

// GuestSpecs reads all of them, sorted by file name. When some cannot be read it
// returns the others and an error that tells of each.
func (s Store) GuestSpecs() ([]GuestSpec, error) {
	return list(filepath.Join(s.StateDir, "guests"), readGuestSpec)
}

func readGuestSpec(path string) (GuestSpec, error) {
	var g GuestSpec
	err := get(path, &g, &g.Format)
	return g, err
}
