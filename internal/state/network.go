// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package state

import (
	"fmt"
	"path/filepath"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Network is the applied intent of one network: what the last apply or define
// made of the spec.
type Network struct {
	Format  int          `json:"format"` // set by PutNetwork
	Network vnet.Network `json:"network"`
	// Switch is the switch of a bridge network, and zero in the other modes.
	Switch vnet.Switch `json:"switch,omitzero"`
}

func (s Store) networkPath(name string) string {
	return filepath.Join(s.StateDir, "networks", fileName(name)+".json")
}

// PutNetwork writes the record of n.Network.Name, replacing the one there is.
func (s Store) PutNetwork(n Network) error {
	n.Format = format
	return put(s.networkPath(n.Network.Name), n)
}

// Network reads the record of the named network, and no other. The error is
// [fs.ErrNotExist] when virt-vnet does not manage such a network, [ErrDamaged]
// or [ErrNewer].
func (s Store) Network(name string) (Network, error) {
	n, err := readNetwork(s.networkPath(name))
	if err == nil && n.Network.Name != name {
		err = fmt.Errorf("record %s: %w: it is of network %q", s.networkPath(name), ErrDamaged, n.Network.Name)
	}
	return n, err
}

// RemoveNetwork deletes the record of the named network. It succeeds when there
// is none.
func (s Store) RemoveNetwork(name string) error { return remove(s.networkPath(name)) }

// Networks reads all networks, sorted by file name. When some cannot be read it
// returns the others and an error that tells of each.
func (s Store) Networks() ([]Network, error) {
	return list(filepath.Join(s.StateDir, "networks"), readNetwork)
}

func readNetwork(path string) (Network, error) {
	var n Network
	err := get(path, &n, &n.Format)
	return n, err
}
