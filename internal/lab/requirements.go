// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// ErrUnavailable says that this machine or user cannot have a lab.
var ErrUnavailable = errors.New("lab unavailable")

// Part is something of a lab that needs programs of its own.
type Part int

// The parts of a lab. Guests include Libvirt, and OVN includes OVS.
const (
	Libvirt Part = iota + 1
	OVS
	Guests
	OVN
)

// String returns the part's name as packages.txt has it.
func (p Part) String() string {
	switch p {
	case Libvirt:
		return "libvirt"
	case OVS:
		return "ovs"
	case Guests:
		return "guests"
	case OVN:
		return "ovn"
	default:
		return fmt.Sprintf("Part(%d)", int(p))
	}
}

// Requirement is one thing that the machine must have.
type Requirement struct {
	Package string // the Debian package that brings it
	Part    string // the part of the lab that needs it
	Wants   string // a program's name, or a path pattern
}

//go:embed packages.txt
var packagesText string

// Requirements lists what the lab needs, in the order of packages.txt.
func Requirements() []Requirement {
	var all []Requirement
	for line := range strings.Lines(packagesText) {
		f := strings.Fields(line)
		if len(f) == 3 && !strings.HasPrefix(f[0], "#") {
			all = append(all, Requirement{Package: f[0], Part: f[1], Wants: f[2]})
		}
	}
	return all
}

// Missing lists what this machine lacks for the given parts, or for all of
// them when none is given.
func Missing(parts ...Part) []Requirement {
	var missing []Requirement
	for _, r := range Requirements() {
		if wanted(r, parts) && !present(r.Wants) {
			missing = append(missing, r)
		}
	}
	return missing
}

func wanted(r Requirement, parts []Part) bool {
	return len(parts) == 0 || slices.ContainsFunc(parts, func(p Part) bool {
		return r.Part == p.String() || p == Guests && r.Part == Libvirt.String() || p == OVN && r.Part == OVS.String()
	})
}

func present(what string) bool {
	if strings.Contains(what, "/") {
		found, err := filepath.Glob(what)
		return err == nil && len(found) > 0
	}
	_, err := program(what)
	return err == nil
}

// program finds an executable, also in the directories that a user's PATH
// often lacks, and where test/setup.sh puts those whose packages must not be
// installed.
func program(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin", "/var/cache/virt-vnet"} {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("program %q not found", name)
}
