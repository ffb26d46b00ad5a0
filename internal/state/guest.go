// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package state

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Guest is what was wired for one running guest. It is written before the first
// change to a switch and again after the last.
type Guest struct {
	Format int           `json:"format"` // set by PutGuest
	Guest  vnet.GuestRef `json:"guest"`
	// Updated is when the ports were last wired.
	Updated time.Time `json:"updated,omitzero"`
	// Started is when the guest's CPUs began to run. A check of the running
	// guest makes sense from then on.
	Started time.Time `json:"started,omitzero"`
	// Complete is false while changes are under way, and stays so when the
	// process that makes them dies.
	Complete bool `json:"complete"`
	// Ports are the guest's NICs in networks of ours. One without a Switch
	// needs no wiring, such as a macvtap.
	Ports []vnet.Port `json:"ports,omitempty"`
	// Switches are those of Ports, so that the ports can be released when the
	// networks are no longer known.
	Switches []vnet.Switch `json:"switches,omitempty"`
	// Undo leads from how libvirt left the ports to how they were wired. The
	// Before of its changes are the before-images.
	Undo []switchcfg.Plan `json:"undo,omitempty"`
}

func (s Store) guestPath(uuid string) (string, error) {
	id, err := parseUUID(uuid)
	if err != nil {
		return "", err
	}
	return filepath.Join(s.RunDir, "guests", id+".json"), nil
}

// PutGuest writes the record of g.Guest.UUID, replacing the one there is. The
// caller holds the guest's lock.
func (s Store) PutGuest(g Guest) error {
	path, err := s.guestPath(g.Guest.UUID)
	if err != nil {
		return err
	}
	g.Format = format
	return put(path, g)
}

// Guest reads the record of a guest. The error is [fs.ErrNotExist] when nothing
// is wired for it, [ErrDamaged] or [ErrNewer].
func (s Store) Guest(uuid string) (Guest, error) {
	path, err := s.guestPath(uuid)
	if err != nil {
		return Guest{}, err
	}
	return readGuest(path)
}

// RemoveGuest deletes the record of a guest. It succeeds when there is none. The
// caller holds the guest's lock.
func (s Store) RemoveGuest(uuid string) error {
	path, err := s.guestPath(uuid)
	if err != nil {
		return err
	}
	return remove(path)
}

// Guests reads all guests, sorted by UUID. When some cannot be read it returns
// the others and an error that tells of each.
func (s Store) Guests() ([]Guest, error) {
	return list(filepath.Join(s.RunDir, "guests"), readGuest)
}

func readGuest(path string) (Guest, error) {
	var g Guest
	err := get(path, &g, &g.Format)
	return g, err
}

// parseUUID returns uuid in the form that libvirt prints (RFC 9562 section 4).
func parseUUID(uuid string) (string, error) {
	id := []byte(uuid)
	ok := len(id) == 36
	for i, c := range id {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			ok = ok && c == '-'
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f':
		case 'A' <= c && c <= 'F':
			id[i] = c - 'A' + 'a'
		default:
			ok = false
		}
	}
	if !ok {
		return "", fmt.Errorf("%.40q is no UUID: want one such as 4dea22b3-1d52-d8f3-2516-782e98ab3fa0", uuid)
	}
	return string(id), nil
}
