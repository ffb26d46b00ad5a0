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

// mark is what the alias of a port of ours says.
type mark struct {
	owner switchcfg.Owner
	// guarded and shaped say where else to look for what is in force: the
	// guests' guards are in nftables, their rates in the port's queueing
	// discipline. Most ports have neither.
	guarded, shaped bool
	// foreign is an alias that is somebody else's.
	foreign string
}

// markOf is the mark of a port with these settings.
func markOf(owner switchcfg.Owner, s switchcfg.Settings) mark {
	m := mark{owner: owner}
	if !owner.IsZero() {
		q := qosOf(s)
		m.guarded = s.Guard != nil && !s.Guard.IsZero() || q.Priority != 0
		m.shaped = q.Inbound.Bits != 0 || q.Outbound.Bits != 0
	}
	return m
}

// qosOf is what limits there are to be; nil is none of ours.
func qosOf(s switchcfg.Settings) vnet.QoS {
	if s.QoS == nil {
		return vnet.QoS{}
	}
	return *s.QoS
}

// String is the interface alias (IFLA_IFALIAS, at most 255 bytes). The network
// comes last, as it is free text.
func (m mark) String() string {
	if m.owner.IsZero() {
		return m.foreign
	}
	with := ""
	if m.guarded {
		with += " guarded"
	}
	if m.shaped {
		with += " shaped"
	}
	return fmt.Sprintf("%s%s mac=%s%s network=%s", markPrefix, m.owner.Guest, m.owner.MAC, with, m.owner.Network)
}

// parseMark reads an interface alias.
func parseMark(alias string) mark {
	rest, ours := strings.CutPrefix(alias, markPrefix)
	if !ours {
		return mark{foreign: alias}
	}
	guest, rest, okGuest := strings.Cut(rest, " mac=")
	words, network, okMAC := strings.Cut(rest, " network=")
	mac, with, _ := strings.Cut(words, " ")
	m := mark{owner: switchcfg.Owner{Guest: guest, Network: network}}
	if err := m.owner.MAC.UnmarshalText([]byte(mac)); err != nil || !okGuest || !okMAC {
		return mark{foreign: alias}
	}
	for _, word := range strings.Fields(with) {
		m.guarded = m.guarded || word == "guarded"
		m.shaped = m.shaped || word == "shaped"
	}
	return m
}
