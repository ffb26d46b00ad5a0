// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet

import (
	"fmt"
	"strconv"
	"strings"
)

// Version is a version of libvirt, in libvirt's own numbers: 9.1.2 is 9001002
// (virGetVersion, https://libvirt.org/html/libvirt-libvirt-host.html). Versions
// compare as numbers. The zero Version can do nothing that has a version.
type Version uint32

// ParseVersion reads "9.0.0" or "9.0".
func ParseVersion(text string) (Version, error) {
	parts := strings.Split(text, ".")
	var v Version
	for i := range 3 {
		var n uint64
		if i < len(parts) {
			var err error
			if n, err = strconv.ParseUint(parts[i], 10, 32); err != nil || n > 999 {
				return 0, versionError(text)
			}
		}
		v = v*1000 + Version(n)
	}
	if len(parts) < 2 || len(parts) > 3 {
		return 0, versionError(text)
	}
	return v, nil
}

func versionError(text string) error {
	return fmt.Errorf("%q is no libvirt version: want one such as 9.0.0", text)
}

// String returns "9.0.0".
func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d", v/1000000, v/1000%1000, v%1000)
}

// The libvirt versions from which its XML can say something that ours may need
// (https://libvirt.org/news.html and the "Since" notes of formatnetwork.html
// and formatdomain.html). What all libvirts since 5.0.0 know is not gated.
const (
	sinceIsolatedPort Version = 6_001_000  // <port isolated='yes'/>, networks and interfaces
	sinceNATIPv6      Version = 6_005_000  // <nat ipv6='yes'/>
	sinceLinuxVLAN    Version = 11_000_000 // <vlan> on a Linux bridge
)
