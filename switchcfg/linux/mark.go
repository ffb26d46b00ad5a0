// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"fmt"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// markPrefix starts every interface alias that is a mark of ours.
const markPrefix = "virt-vnet guest="

// encodeMark is the interface alias (IFLA_IFALIAS, at most 255 bytes) of a
// port that was wired for owner. The network comes last, as it is free text.
func encodeMark(owner switchcfg.Owner) string {
	if owner.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s%s mac=%s network=%s", markPrefix, owner.Guest, owner.MAC, owner.Network)
}

// parseMark reads an interface alias: our mark, or somebody else's.
func parseMark(alias string) (owner switchcfg.Owner, foreign string) {
	rest, ours := strings.CutPrefix(alias, markPrefix)
	if !ours {
		return switchcfg.Owner{}, alias
	}
	guest, rest, okGuest := strings.Cut(rest, " mac=")
	mac, network, okMAC := strings.Cut(rest, " network=")
	parsed := vnet.MAC{}
	if err := parsed.UnmarshalText([]byte(mac)); err != nil || !okGuest || !okMAC {
		return switchcfg.Owner{}, alias
	}
	return switchcfg.Owner{Guest: guest, MAC: parsed, Network: network}, ""
}
