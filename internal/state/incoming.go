// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package state

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"
)

// incomingLimit is how long after libvirt has said that a guest comes from
// another host its start can be that. It is a few seconds as a rule, and longer
// where libvirt makes its disks first.
const incomingLimit = time.Hour

// incoming notes that a guest is about to come from another host.
type incoming struct {
	Format int       `json:"format"`
	Since  time.Time `json:"since"`
}

func (s Store) incomingPath(uuid string) (string, error) {
	id, err := parseUUID(uuid)
	if err != nil {
		return "", err
	}
	return filepath.Join(s.RunDir, "incoming", id+".json"), nil
}

// PutIncoming notes that a guest is about to come from another host.
func (s Store) PutIncoming(uuid string, now time.Time) error {
	path, err := s.incomingPath(uuid)
	if err != nil {
		return err
	}
	return put(path, incoming{format, now})
}

// TakeIncoming reports whether the guest that starts comes from another host, and
// removes the note. A note that is too old is of a migration that failed; one
// that is damaged tells as much as it being there does.
func (s Store) TakeIncoming(uuid string, now time.Time) (bool, error) {
	path, err := s.incomingPath(uuid)
	if err != nil {
		return false, err
	}
	var note incoming
	err = get(path, &note, &note.Format)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil && !errors.Is(err, ErrDamaged):
		return false, err
	}
	fresh := err != nil || now.Sub(note.Since) < incomingLimit
	return fresh, remove(path)
}

// DropIncoming removes the note that a guest is about to come, if there is one:
// it has not, and is gone.
func (s Store) DropIncoming(uuid string) error {
	path, err := s.incomingPath(uuid)
	if err != nil {
		return err
	}
	return remove(path)
}
