// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package state

import (
	"path/filepath"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Switch is what virt-vnet has done to a switch itself, beyond the ports of
// guests, so that it can be taken back.
type Switch struct {
	Format int         `json:"format"` // set by PutSwitch
	Switch vnet.Switch `json:"switch"`
	// Before is the settings of the bridge before the first change to them.
	Before *vnet.Bridge `json:"before,omitempty"`
	// Rows says that there are rows of ours: mirrors, exports, a bond.
	Rows bool `json:"rows,omitempty"`
	// Added is the VLANs that the uplink carries because of us.
	Added vnet.VLANRanges `json:"added,omitempty"`
}

func (s Store) switchPath(name string) string {
	return filepath.Join(s.RunDir, "switches", fileName(name)+".json")
}

// PutSwitch writes the record of w.Switch.Name, replacing the one there is. The
// caller holds the switch's lock.
func (s Store) PutSwitch(w Switch) error {
	w.Format = format
	return put(s.switchPath(w.Switch.Name), w)
}

// Switch reads the record of a switch. The error is [fs.ErrNotExist] when
// nothing was done to it, [ErrDamaged] or [ErrNewer].
func (s Store) Switch(name string) (Switch, error) { return readSwitch(s.switchPath(name)) }

// RemoveSwitch deletes the record of a switch. It succeeds when there is none.
// The caller holds the switch's lock.
func (s Store) RemoveSwitch(name string) error { return remove(s.switchPath(name)) }

// Switches reads all switches, sorted by file name. When some cannot be read it
// returns the others and an error that tells of each.
func (s Store) Switches() ([]Switch, error) {
	return list(filepath.Join(s.RunDir, "switches"), readSwitch)
}

func readSwitch(path string) (Switch, error) {
	var w Switch
	err := get(path, &w, &w.Format)
	return w, err
}
