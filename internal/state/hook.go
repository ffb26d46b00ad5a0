// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package state

import "path/filepath"

// HookSettings is what the user switched on for the hook.
type HookSettings struct {
	Format int `json:"format"` // set by PutHookSettings
	// VerifyOnStart has every guest checked after its start.
	VerifyOnStart bool `json:"verifyOnStart"`
}

func (s Store) hookSettingsPath() string { return filepath.Join(s.StateDir, "hook.json") }

// PutHookSettings writes the record, replacing the one there is.
func (s Store) PutHookSettings(h HookSettings) error {
	h.Format = format
	return put(s.hookSettingsPath(), h)
}

// HookSettings reads the record. The error is [fs.ErrNotExist] when the user
// never switched anything on, [ErrDamaged] or [ErrNewer].
func (s Store) HookSettings() (HookSettings, error) {
	var h HookSettings
	err := get(s.hookSettingsPath(), &h, &h.Format)
	return h, err
}

// RemoveHookSettings deletes the record. It succeeds when there is none.
func (s Store) RemoveHookSettings() error { return remove(s.hookSettingsPath()) }
